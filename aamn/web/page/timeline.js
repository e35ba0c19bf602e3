// Presence over time: a row a sentence, its score in each clip, faded where it is below the threshold.

const SVG = "http://www.w3.org/2000/svg";
const HIGH = 40;
const rows = document.getElementById("rows");

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Scores of the chosen tube in each clip; null where there is none.
export const scoresOf = (answer) => answer.tubes.map((tube, clip) => (tube < 0 ? null : answer.total[clip][tube]));

// The scores that the rows span, in steps, so that typing does not rescale them all the time.
export function span(answers, threshold) {
  const all = answers.flatMap(scoresOf).filter((score) => score !== null);
  const low = Math.min(-0.4, threshold ?? 0, ...all), high = Math.max(0.8, threshold ?? 0, ...all);
  return [Math.floor(low * 5) / 5, Math.ceil(high * 5) / 5];
}

export function drawTimeline(video, sentences, threshold) {
  const answered = sentences.filter(({ answer }) => answer?.tubes);
  const range = span(answered.map(({ answer }) => answer), threshold);
  rows.replaceChildren(...sentences.map((sentence) => row(video, sentence, threshold, range)));
}

function row(video, { text, colour, answer, matched }, threshold, [low, high]) {
  const made = document.createElement("div");
  made.className = "presence";
  made.style.setProperty("--c", colour);
  const label = document.createElement("span");
  label.textContent = text || "…";
  made.append(label);
  if (!answer?.tubes) return made;
  made.classList.toggle("absent", !matched);
  const y = (score) => HIGH - (HIGH * (score - low)) / (high - low);
  const svg = element("svg", { viewBox: `0 0 ${video.frames} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  scoresOf(answer).forEach((score, clip) => {
    if (score === null) return;
    const [first, end] = video.clips[clip];
    const below = !matched || (threshold !== null && score < threshold);
    svg.append(element("rect", { x: first, width: end - first, y: y(score), height: HIGH - y(score), class: below ? "below" : "above" }));
    svg.append(element("line", { x1: first, x2: end, y1: y(score), y2: y(score), class: below ? "edge below" : "edge" }));
  });
  if (threshold !== null) {
    svg.append(element("line", { x1: 0, x2: video.frames, y1: y(threshold), y2: y(threshold), class: "limit" }));
  }
  made.append(svg);
  return made;
}

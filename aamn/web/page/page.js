// The page: what is shown, and what happens when something is typed, moved or clicked.
//
// What a video contributes (frames, boxes, masks) comes once and is kept; a sentence brings scores
// and the tube that it chooses in each clip. So a keystroke costs one short answer, and moving
// through the video costs none.

import * as api from "./api.js";
import * as library from "./library.js";
import { maskPicture } from "./masks.js";
import * as stage from "./stage.js";
import { drawTimeline, span } from "./timeline.js";

const COLOURS = ["rgb(255 64 64)", "rgb(64 160 255)", "rgb(64 220 96)", "rgb(255 200 32)", "rgb(220 96 255)", "rgb(32 220 220)"];
const LOOK = 400;  // milliseconds between two looks at an index on its way
const AHEAD = 10;  // frames fetched before they are played
const KEPT = 240;  // frames and masks that are kept

const at = (id) => document.getElementById(id);
const state = {
  token: "", video: null, frame: 0, playing: false, active: 0, threshold: null, hovered: null, calibrated: null,
  sentences: [], asking: false, stale: false, typed: 0, limits: null, leave: new AbortController(),
  frames: new Map(), clips: new Map(), masks: new Map(),
};

// How much is on its way; a test, or a style, may wait for "0".
let underway = 0;
function counted(promise) {
  document.documentElement.dataset.busy = `${++underway}`;
  return promise.finally(() => { document.documentElement.dataset.busy = `${--underway}`; });
}

// ---- what is kept -------------------------------------------------------------------------------

function kept(map, key, make) {
  if (!map.has(key)) {
    map.set(key, make());
    if (map.size > KEPT) map.delete(map.keys().next().value);
  }
  return map.get(key);
}

function picture(number) {
  const { token } = state;
  return kept(state.frames, number, () => counted(api.frame(token, number)).catch((error) => {
    state.frames.delete(number);
    throw error;
  }));
}

// A clip's boxes and masks: there, or fetched and drawn when it comes.
function clip(number) {
  const found = state.clips.get(number);
  if (found === undefined) {
    const { token, clips } = state;
    clips.set(number, null);
    counted(api.clip(token, number).then((fetched) => { clips.set(number, fetched); draw(); }, () => clips.delete(number)));
  }
  return found ?? null;
}

const clipAt = (frame) => Math.max(0, state.video.clips.findIndex(([, end]) => frame < end));

// A tube in the shown frame: its box and its mask.
function shown(tube, frame = state.frame) {
  const number = clipAt(frame), found = clip(number)?.tubes.find((one) => one.tube === tube);
  if (!found) return null;
  const place = frame - state.video.clips[number][0];
  const mask = () => kept(state.masks, `${frame}:${tube}`, () => maskPicture(found.masks[place], state.video.size));
  return { box: found.boxes[place], mask };
}

// ---- sentences ----------------------------------------------------------------------------------

const typed = () => state.sentences.filter(({ text }) => text.trim());
const matches = (answer) => Boolean(answer?.tubes) && answer.score !== null &&
  (state.threshold === null || answer.score >= state.threshold);

function addSentence(text = "", focus = true) {
  if (state.limits && state.sentences.length >= state.limits.sentences) return;
  const item = document.createElement("li");
  item.className = "sentence";
  item.innerHTML = `<div class="line"><i class="dot"></i><input type="text" autocomplete="off" autocapitalize="none"
    spellcheck="false" maxlength="200"><output class="score"></output><button type="button" class="remove quiet" aria-label="Remove">×</button></div>
    <p class="words"></p>`;
  const sentence = { text, item, input: item.querySelector("input"), answer: null };
  sentence.input.value = text;
  sentence.input.addEventListener("input", (event) => {
    sentence.text = sentence.input.value;
    if (!sentence.text.trim()) sentence.answer = null;
    ask(event.timeStamp);
  });
  sentence.input.addEventListener("focus", () => activate(sentence));
  sentence.input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") addSentence();
    if (event.key === "Backspace" && !sentence.text && state.sentences.length > 1) {
      event.preventDefault();
      removeSentence(sentence);
    }
  });
  item.querySelector(".remove").addEventListener("click", () => removeSentence(sentence));
  state.sentences.push(sentence);
  at("sentences").append(item);
  number();
  if (focus) sentence.input.focus();
}

function removeSentence(sentence) {
  const place = state.sentences.indexOf(sentence);
  state.sentences.splice(place, 1);
  sentence.item.remove();
  if (!state.sentences.length) addSentence();
  number();
  state.sentences[Math.max(0, place - 1)].input.focus();
  ask();
}

function number() {
  const places = new Map();  // equal texts have one colour, as in the overlay video
  state.sentences.forEach((sentence, place) => {
    const text = sentence.text.trim() || `${place}`;
    if (!places.has(text)) places.set(text, places.size);
    sentence.colour = COLOURS[places.get(text) % COLOURS.length];
    sentence.item.style.setProperty("--c", sentence.colour);
    sentence.input.setAttribute("aria-label", `Sentence ${place + 1}`);
    sentence.input.placeholder = place ? "another actor" : "the red dog on the left";
  });
  at("add").hidden = Boolean(state.limits) && state.sentences.length >= state.limits.sentences;
  at("sentences").classList.toggle("single", state.sentences.length === 1);
}

function setSentences(texts) {
  state.sentences.splice(0).forEach(({ item }) => item.remove());
  for (const text of texts.length ? texts : [""]) addSentence(text, false);
  state.active = 0;
}

function activate(sentence) {
  state.active = Math.max(0, state.sentences.indexOf(sentence));
  draw();
}

// Asks for all sentences; what is typed meanwhile is asked next, and no answer is shown twice.
async function ask(when = performance.now()) {
  if (!state.video) return;
  if (state.asking) {
    Object.assign(state, { stale: true, typed: when });
    return;
  }
  const { token } = state, asked = typed();
  state.asking = true;
  try {
    const sent = performance.now();
    const found = asked.length ? await counted(api.answers(token, asked.map(({ text }) => text))) : { answers: [], ms: 0 };
    if (token !== state.token) return;
    asked.forEach((sentence, place) => { sentence.answer = found.answers[place]; });
    number();
    const way = performance.now() - sent, masks = show();
    painted(() => tell({ server: found.ms, way, whole: performance.now() - when, masks }));
  } catch (error) {
    fail(error, token);
  } finally {
    state.asking = false;
    if (state.stale) {
      state.stale = false;
      ask(state.typed);
    }
  }
}

// When what was drawn is on the screen.
const painted = (then) => requestAnimationFrame(() => setTimeout(then));

// Milliseconds of the server, of the way there and back, and from the keystroke to the masks on the screen.
function tell(detail) {
  const said = `Answered in ${detail.server.toFixed(1)} ms, on the screen after ${detail.whole.toFixed(0)} ms`;
  at("ms").textContent = typed().length ? said : "";
  document.dispatchEvent(new CustomEvent("aamn:answered", { detail }));
}

// ---- drawing ------------------------------------------------------------------------------------

// After an answer, or another threshold: everything; the number of masks that are drawn.
function show() {
  for (const sentence of state.sentences) {
    sentence.matched = matches(sentence.answer);
    describe(sentence);
  }
  const { low, high } = limits();
  Object.assign(at("threshold"), { min: low, max: high, value: state.threshold ?? low });
  at("threshold-value").textContent = state.threshold === null ? "– any score matches" :
    state.threshold.toFixed(2) + (state.threshold === state.calibrated ? ", as calibrated" : "");
  drawTimeline(state.video, typed(), state.threshold);
  at("legend").hidden = !typed().some(({ answer }) => answer?.words?.length > 1);
  for (const id of ["zip", "python"]) at(id).disabled = !typed().some(({ answer }) => answer?.tubes);
  return draw();
}

function limits() {
  const [low, high] = span(typed().map(({ answer }) => answer).filter((answer) => answer?.tubes), state.calibrated);
  return { low, high };
}

function describe({ item, answer, matched, text }) {
  const score = item.querySelector(".score"), words = item.querySelector(".words");
  item.classList.toggle("absent", Boolean(answer) && !matched);
  if (!answer || !text.trim()) {
    score.textContent = words.textContent = "";
    return;
  }
  const likely = answer.probability ?? null;
  const said = likely === null ? answer.score?.toFixed(2) : `${Math.round(100 * likely)} %`;
  score.textContent = answer.score === null || answer.score === undefined ? "no match" :
    `${said}${matched ? "" : " no match"}`;
  score.title = answer.error || answer.reason || (likely === null ? "" :
    `how likely somebody is meant, by the score ${answer.score.toFixed(2)}`);
  if (answer.error) {
    words.textContent = "no word to look for";
    return;
  }
  const strongest = (module) => Math.max(...answer.words.map((word) => word[module]), 1e-6);
  const [actor, action] = [strongest("actor"), strongest("action")];
  words.replaceChildren(...answer.words.map((word) => {
    const made = document.createElement("span");
    made.textContent = word.word;
    made.style.setProperty("--actor", word.actor / actor);
    made.style.setProperty("--action", word.action / action);
    made.classList.toggle("unknown", answer.unknown.includes(word.word));
    made.title = answer.unknown.includes(word.word) ? "a word that is not known" :
      `actor ${word.actor.toFixed(2)}, action ${word.action.toFixed(2)}`;
    return made;
  }), ...answer.left_out.map((word) => Object.assign(document.createElement("s"), { textContent: word, title: "not read" })));
}

// The shown frame: masks, whose number it gives, and boxes.
function draw() {
  if (!state.video) return 0;
  const number = clipAt(state.frame), present = typed().filter(({ matched }) => matched);
  const masks = [], boxes = [];
  for (const { answer, colour } of present) {
    const tube = answer.tubes[number], found = tube >= 0 && shown(tube);
    if (!found) continue;
    masks.push({ picture: found.mask(), colour });
    if (at("show-box").checked) boxes.push({ box: found.box, colour });
  }
  const active = state.sentences[state.active], answer = active?.answer?.tubes ? active.answer : null;
  if (at("show-context").checked && answer) boxes.push(...contextBoxes(answer, number));
  if (at("show-all").checked) boxes.push(...candidateBoxes(answer, number, active));
  if (state.hovered !== null && shown(state.hovered)) masks.push({ picture: shown(state.hovered).mask(), colour: "white" });
  stage.drawOverlay(masks, boxes);
  drawCandidates(answer, number, active);
  clip(Math.min(number + 1, state.video.clips.length - 1));  // the next one will be wanted
  return masks.length;
}

function candidateBoxes(answer, number, active) {
  const isChosen = (tube) => answer !== null && answer.tubes[number] === tube;
  const tubes = [...(clip(number)?.tubes ?? [])].sort((one, other) => isChosen(one.tube) - isChosen(other.tube));
  return tubes.map(({ tube }) => {  // the chosen one last, over the others
    const chosen = isChosen(tube);
    const label = answer ? answer.total[number][tube].toFixed(2) : "";
    return { box: shown(tube).box, colour: chosen ? active.colour : "rgb(255 255 255 / .85)", label };
  });
}

// What the chosen tube's action was judged by: the other tubes, the stronger the more they count.
function contextBoxes(answer, number) {
  const found = clip(number), place = found?.tubes.findIndex(({ tube }) => tube === answer.tubes[number]) ?? -1;
  if (place < 0 || !found.context) return [];
  const shares = found.context[place].slice(1), most = Math.max(...shares, 1e-6);
  return found.tubes.flatMap(({ tube }, other) => (other === place || shares[other] < 0.005 ? [] : [{
    box: shown(tube).box, colour: "rgb(255 255 255)", dashed: true,
    strength: 0.35 + 0.65 * (shares[other] / most), label: `context ${Math.round(100 * shares[other])}%`,
  }]));
}

function drawCandidates(answer, number, active) {
  const table = at("candidates");
  if (!at("why").open) return;
  if (!answer) {
    table.replaceChildren();
    return;
  }
  const { low, high } = limits();
  const order = answer.total[number].map((total, tube) => ({ total, tube })).filter(({ total }) => total !== null)
    .sort((one, other) => other.total - one.total);
  table.replaceChildren(...order.map(({ total, tube }) => {
    const made = document.createElement("tr"), actor = answer.actor[number][tube];
    made.classList.toggle("chosen", answer.tubes[number] === tube);
    made.style.setProperty("--c", active.colour);
    made.style.setProperty("--share", `${(100 * (total - low)) / (high - low)}%`);
    const cells = [`${answer.tubes[number] === tube ? "chosen" : "candidate"} ${tube + 1}`,
      actor.toFixed(2), (total - actor).toFixed(2), total.toFixed(2)];
    made.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    made.addEventListener("pointerenter", () => hover(tube));
    made.addEventListener("pointerleave", () => hover(null));
    return made;
  }));
}

function hover(tube, event) {
  const hint = at("hint");
  hint.hidden = tube === null || !event;
  if (!hint.hidden) {
    const answer = state.sentences[state.active]?.answer, scores = answer?.total?.[clipAt(state.frame)];
    hint.textContent = `candidate ${tube + 1}` + (scores?.[tube] != null ? `: ${scores[tube].toFixed(2)}` : "");
    const box = at("stage").getBoundingClientRect();
    hint.style.left = `${event.clientX - box.left}px`;
    hint.style.top = `${event.clientY - box.top}px`;
  }
  if (state.hovered !== tube) {
    state.hovered = tube;
    draw();
  }
}

// ---- frames -------------------------------------------------------------------------------------

async function goTo(frame) {
  if (!state.video) return;
  const { token } = state, last = state.video.frames - 1;
  state.frame = Math.min(Math.max(0, Math.round(frame)), last);
  const wanted = state.frame;
  at("scrub").value = wanted;
  at("scrub").setAttribute("aria-valuetext", `frame ${wanted + 1} of ${last + 1}`);
  at("clock").textContent = `${wanted + 1} / ${last + 1}`;
  at("head").style.setProperty("--at", (wanted + 0.5) / (last + 1));
  try {
    const ready = await picture(wanted);
    if (token !== state.token || wanted !== state.frame) return;
    stage.drawFrame(ready);
    draw();
  } catch (error) {
    fail(error, token);
  }
}

async function play(on) {
  state.playing = on && Boolean(state.video);
  at("play").classList.toggle("playing", state.playing);
  at("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  let due = performance.now();
  while (state.playing) {
    const { token, video } = state, next = (state.frame + 1) % video.frames;
    for (let ahead = 1; ahead <= AHEAD; ahead++) picture((state.frame + ahead) % video.frames).catch(() => {});
    await goTo(next);
    due = Math.max(due + 1000 / video.fps, performance.now());
    await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    if (token !== state.token) break;
  }
}

// ---- opening a video ----------------------------------------------------------------------------

const PANELS = ["start", "busy", "failed"];

function panel(name) {
  for (const id of PANELS) at(id).hidden = id !== name;
  at("video").classList.toggle("empty", name === "start");
}

function forget() {
  play(false);
  Object.assign(state, { token: "", video: null, frame: 0, hovered: null, frames: new Map(), clips: new Map(), masks: new Map() });
  for (const id of ["play", "scrub", "options", "zip", "python"]) at(id).disabled = true;
  at("about").hidden = at("head").hidden = at("suggestions").hidden = at("legend").hidden = true;
  at("rows").replaceChildren();
  at("ms").textContent = "";
  for (const sentence of state.sentences) {
    Object.assign(sentence, { answer: null, matched: false });
    describe(sentence);
  }
  at("clock").textContent = "0 / 0";
  Object.assign(at("scrub"), { max: 0, value: 0 });
  stage.clear();
}

function startAgain() {
  if (state.token && !state.video) api.close(state.token).catch(() => {});
  forget();
  history.replaceState(null, "", location.pathname);
  at("examples").hidden = !at("example-list").children.length;
  panel("start");
}

function fail(error, token) {
  if (token !== undefined && token !== state.token) return;
  forget();
  at("failed-text").textContent = error.message;
  panel("failed");
}

function busy(title, text = "", share = null) {
  at("busy-title").textContent = title;
  at("busy-text").textContent = text;
  if (share === null) at("busy-bar").removeAttribute("value");
  else at("busy-bar").value = share;
  panel("busy");
}

async function uploadFile(file) {
  if (!file) return;
  forget();
  at("examples").hidden = true;
  if (state.limits && file.size > state.limits.megabytes * 1e6) {
    fail(new Error(`the file is larger than ${state.limits.megabytes} MB; cut the video, or scale it down`));
    return;
  }
  state.leave = new AbortController();
  const { leave } = state;
  busy("Uploading", file.name, 0);
  await openFrom(() => api.upload(file, (share) => {
    busy(share < 1 ? "Uploading" : "Looking at the video", file.name, share < 1 ? share : null);
  }, leave.signal), [], leave);
}

// Opens what `begin` promises, waits for its index, then shows `frame` with `sentences`.
async function openFrom(begin, sentences = [], leave = (state.leave = new AbortController()), frame = 0) {
  forget();
  at("examples").hidden = true;
  busy("Looking at the video");
  let token;
  try {
    let video = await begin();
    if (leave.signal.aborted) {
      api.close(video.token).catch(() => {});
      return;
    }
    token = state.token = video.token;
    history.replaceState(null, "", `#${token}`);
    while (video.state === undefined || ["waiting", "indexing"].includes(video.state)) {
      if (video.state) report(video);
      await new Promise((resolve) => setTimeout(resolve, video.state ? LOOK : 0));
      if (token !== state.token) return;
      video = await api.video(token);
      if (token !== state.token) return;
    }
    if (video.state !== "ready") throw new Error(video.error || "the work was given up");
    ready(video, sentences, frame);
  } catch (error) {
    if (!leave.signal.aborted) fail(error, token);
  }
}

function report({ state: now, done, total, seconds_left: left, name }) {
  if (now === "waiting") {
    busy("Waiting for its turn", name);
    return;
  }
  const rest = left === null ? "" : ` · about ${left < 90 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`} left`;
  busy("Watching the video once", total ? `${done} of ${total} frames${rest}` : name, total ? done / total : null);
}

function ready(video, sentences, frame) {
  state.video = video;
  state.calibrated = state.threshold = video.threshold;
  panel("");
  stage.setVideo(video.size);
  at("name").textContent = `${video.name} · ${video.frames} frames, ${video.size[1]}×${video.size[0]}`;
  at("about").hidden = at("head").hidden = false;
  at("scrub").max = video.frames - 1;
  for (const id of ["play", "scrub", "options"]) at(id).disabled = false;
  if (sentences.length) setSentences(sentences);
  suggest(video.suggestions);
  for (let number = 0; number < Math.min(2, video.clips.length); number++) clip(number);
  goTo(frame);
  show();
  ask();
  state.sentences[0].input.focus({ preventScroll: true });
}

function suggest(sentences) {
  at("suggestions").hidden = !sentences.length;
  at("suggestions").replaceChildren(...sentences.map((text) => {
    const made = Object.assign(document.createElement("button"), { textContent: text, className: "chip" });
    made.addEventListener("click", () => {
      const empty = state.sentences.find((sentence) => !sentence.text.trim());
      if (!empty) addSentence(text, false);
      else Object.assign(empty, { text }).input.value = text;
      made.remove();
      at("suggestions").hidden = !at("suggestions").children.length;
      ask();
    });
    return made;
  }));
}

// ---- take away ----------------------------------------------------------------------------------

const asked = () => ({ sentences: typed().filter(({ answer }) => answer?.tubes).map(({ text }) => text), threshold: state.threshold });

async function download() {
  const button = at("zip"), label = button.textContent;
  Object.assign(button, { disabled: true, textContent: "Drawing the masks…" });
  try {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await api.zip(state.token, asked()));
    link.download = `${state.video.name.replace(/\.\w+$/, "")}_masks.zip`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    at("ms").textContent = error.message;
  } finally {
    Object.assign(button, { disabled: false, textContent: label });
  }
}

async function showPython() {
  at("lines").textContent = (await api.python(state.token, asked())).lines;
  at("code").showModal();
}

// ---- what is clicked and pressed ----------------------------------------------------------------

function choosePage(name) {
  for (const page of ["video", "library"]) {
    const chosen = page === name;
    at(page).hidden = !chosen;
    at(`tab-${page}`).setAttribute("aria-selected", chosen);
    at(`tab-${page}`).tabIndex = chosen ? 0 : -1;
  }
  if (name === "library") {
    play(false);
    at("search").focus();
  } else if (stage.fit()) goTo(state.frame);
}

function pressed(event) {
  const typing = event.target.matches("input[type=text], input[type=search], textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || at("code").open || at("video").hidden || !state.video) return;
  if (event.key === "Escape" && typing) at("overlay").focus();
  if (typing) return;
  if (event.key === "/") {
    event.preventDefault();
    state.sentences[0].input.focus();
    return;
  }
  if (event.target.matches("input[type=range]") && event.target !== at("scrub")) return;
  const step = event.shiftKey ? 10 : 1;
  const moves = { ArrowLeft: -step, ArrowRight: step, Home: -Infinity, End: Infinity };
  if (event.key in moves) {
    event.preventDefault();
    play(false);
    goTo(Math.max(-1e9, Math.min(1e9, state.frame + moves[event.key])));
  } else if (event.key === " " && !event.target.matches("button, summary, input[type=checkbox]")) {
    event.preventDefault();
    play(!state.playing);
  }
}

function jump(event) {
  const box = at("timeline").getBoundingClientRect();
  play(false);
  if (state.video) goTo(((event.clientX - box.left) / box.width) * state.video.frames - 0.5);
}

function wire() {
  at("file").addEventListener("change", (event) => { uploadFile(event.target.files[0]); event.target.value = ""; });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      at("stage").classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) {
        choosePage("video");
        uploadFile(event.dataTransfer.files[0]);
      }
    });
  }
  at("cancel").addEventListener("click", () => { state.leave.abort(); startAgain(); });
  for (const id of ["again", "other"]) at(id).addEventListener("click", startAgain);
  at("add").addEventListener("click", () => addSentence());
  at("play").addEventListener("click", () => play(!state.playing));
  at("scrub").addEventListener("input", (event) => { play(false); goTo(Number(event.target.value)); });
  at("threshold").addEventListener("input", ({ target }) => {
    state.threshold = Number(target.value) <= Number(target.min) ? null : Number(target.value);
    if (state.video) show();
  });
  for (const id of ["show-box", "show-all", "show-context"]) at(id).addEventListener("change", draw);
  at("why").addEventListener("toggle", draw);
  at("zip").addEventListener("click", download);
  at("python").addEventListener("click", showPython);
  at("copy").addEventListener("click", () => navigator.clipboard?.writeText(at("lines").textContent));
  at("timeline").addEventListener("pointerdown", (event) => { at("timeline").setPointerCapture(event.pointerId); jump(event); });
  at("timeline").addEventListener("pointermove", (event) => { if (event.buttons) jump(event); });
  at("overlay").addEventListener("pointermove", (event) => hover(under(event), event));
  at("overlay").addEventListener("pointerleave", () => hover(null));
  for (const page of ["video", "library"]) at(`tab-${page}`).addEventListener("click", () => choosePage(page));
  document.querySelector("[role=tablist]").addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const other = at("library").hidden ? "library" : "video";
    if (!at(`tab-${other}`).hidden) { choosePage(other); at(`tab-${other}`).focus(); }
  });
  at("theme").addEventListener("click", () => setTheme(dark() ? "light" : "dark"));
  document.addEventListener("keydown", pressed);
  new ResizeObserver(() => { if (stage.fit() && state.video) goTo(state.frame); }).observe(at("stage"));
}

// The smallest candidate under the pointer, while candidates are shown.
function under(event) {
  if (!state.video || !at("show-all").checked) return null;
  const [x, y] = stage.place(event);
  const found = (clip(clipAt(state.frame))?.tubes ?? []).map(({ tube }) => ({ tube, box: shown(tube).box }))
    .filter(({ box }) => x >= box[0] && y >= box[1] && x <= box[2] && y <= box[3])
    .sort((one, other) => (one.box[2] - one.box[0]) * (one.box[3] - one.box[1]) - (other.box[2] - other.box[0]) * (other.box[3] - other.box[1]));
  return found[0]?.tube ?? null;
}

const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark")) === "dark";

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
}

async function begin() {
  const theme = localStorage.getItem("theme");
  if (theme) setTheme(theme);
  wire();
  stage.setVideo([3, 4]);
  addSentence("", false);
  const { examples, library: videos, limits: most } = await api.start();
  state.limits = most;
  at("limits").textContent = `mp4, mov, webm, avi or gif · up to ${most.megabytes} MB, ${most.frames} frames, ${most.megapixels} megapixels`;
  at("example-list").replaceChildren(...examples.map(({ name }, place) => {
    const made = document.createElement("button");
    made.className = "example";
    made.append(Object.assign(new Image(), { src: api.examplePicture(place), alt: "", loading: "lazy" }), name);
    made.addEventListener("click", () => openFrom(() => api.openExample(place)));
    return made;
  }));
  at("tab-library").hidden = !videos;
  if (videos) {
    library.prepare(videos, (hit, sentence) => {
      choosePage("video");
      openFrom(() => api.openHit(hit.place), [sentence], undefined, hit.frames[0]);
    });
  }
  counted(Promise.resolve());
  const token = location.hash.slice(1);
  if (!token) startAgain();
  else openFrom(() => api.video(token));
}

begin().catch(fail);

// A sentence over all indexed videos; a click opens one where the sentence was found.

import * as api from "./api.js";

const WAIT = 180;  // milliseconds after the last letter
const field = document.getElementById("search");
const note = document.getElementById("search-note");
const list = document.getElementById("hits");
let timer = 0, asked = 0;

export function prepare(videos, open) {
  document.getElementById("library-size").textContent = `${videos}`;
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => find(field.value.trim(), open), WAIT);
  });
}

async function find(sentence, open) {
  const own = ++asked;
  if (!sentence) {
    list.replaceChildren();
    note.textContent = "";
    return;
  }
  try {
    const found = await api.search(sentence);
    if (own !== asked) return;
    const matches = found.hits.filter((hit) => hit.matched).length;
    note.textContent = found.hits.length
      ? `${matches} of the best ${found.hits.length} match · ${found.videos} videos in ${found.ms.toFixed(1)} ms`
      : "none of these words is known";
    list.replaceChildren(...found.hits.map((hit) => card(hit, sentence, open)));
  } catch (error) {
    if (own === asked) note.textContent = error.message;
  }
}

function card(hit, sentence, open) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.className = "hit";
  button.classList.toggle("absent", !hit.matched);
  const picture = document.createElement("img");
  picture.loading = "lazy";
  picture.alt = "";
  picture.src = api.hitPicture(hit.place, sentence, Math.floor((hit.frames[0] + hit.frames[1] - 1) / 2));
  picture.addEventListener("error", () => picture.classList.add("gone"));
  const name = document.createElement("strong");
  name.textContent = hit.video_id;
  const where = document.createElement("span");
  where.textContent = `${hit.seconds.map((second) => second.toFixed(1)).join(" – ")} s`;
  const score = document.createElement("span");
  score.className = "score";
  score.textContent = hit.matched ? hit.score.toFixed(2) : `${hit.score.toFixed(2)} · no match`;
  button.append(picture, name, where, score);
  button.addEventListener("click", () => open(hit, sentence));
  item.append(button);
  return item;
}

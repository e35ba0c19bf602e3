// The shown frame: all outside the masks is dimmed, each mask has a line of its sentence's colour.
// A tint would hide the colours that a sentence speaks of.

const DIMMED = "rgba(6, 8, 12, 0.6)";
const frame = document.getElementById("frame");
const overlay = document.getElementById("overlay");
const stage = document.getElementById("stage");
let size = [3, 4];  // height and width of the video

const scratch = new OffscreenCanvas(1, 1);

export function setVideo(videoSize) {
  size = videoSize;
  stage.style.setProperty("--ratio", size[1] / size[0]);
  fit();
}

// As many pixels as the screen shows, so that lines stay sharp.
export function fit() {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const box = frame.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (frame.width === width && frame.height === height) return false;
  for (const canvas of [frame, overlay, scratch]) Object.assign(canvas, { width, height });
  return true;
}

export function clear() {
  for (const canvas of [frame, overlay]) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

export function drawFrame(picture) {
  const context = frame.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, frame.width, frame.height);
}

// `masks`: [{picture, colour}] of maskPicture, `boxes`: [{box, colour, label, dashed, strength}], in video pixels.
export function drawOverlay(masks, boxes) {
  const context = overlay.getContext("2d");
  const { width, height } = overlay;
  context.clearRect(0, 0, width, height);
  if (masks.length) {
    context.fillStyle = DIMMED;
    context.fillRect(0, 0, width, height);
    for (const mask of masks) drawLine(context, mask);
    context.globalCompositeOperation = "destination-out";
    for (const { picture } of masks) drawMask(context, picture);
    context.globalCompositeOperation = "source-over";
  }
  for (const box of boxes) drawBox(context, box);
}

function lineWidth() {
  return Math.max(2, Math.min(overlay.width, overlay.height) / 180);
}

// A mask at its place, moved by (x, y); only what is not empty of it is touched.
function drawMask(context, { canvas, box: [left, top, width, height] }, x = 0, y = 0) {
  const scale = overlay.width / size[1];
  if (width) context.drawImage(canvas, left, top, width, height, left * scale + x, top * scale + y, width * scale, height * scale);
}

// The mask in its colour, grown by a line's width.
function drawLine(target, { picture, colour }) {
  const context = scratch.getContext("2d"), scale = overlay.width / size[1], line = lineWidth();
  const [left, top, width, height] = picture.box.map((value) => value * scale);
  if (!width) return;
  const part = [left - line - 2, top - line - 2, width + 2 * line + 4, height + 2 * line + 4].map(Math.round);
  context.globalCompositeOperation = "source-over";
  context.clearRect(...part);
  for (let step = 0; step < 12; step++) {
    const angle = (step * Math.PI) / 6;
    drawMask(context, picture, line * Math.cos(angle), line * Math.sin(angle));
  }
  context.globalCompositeOperation = "source-in";
  context.save();
  context.beginPath();
  context.rect(...part);
  context.clip();
  context.fillStyle = colour;
  context.fillRect(...part);
  context.restore();
  target.drawImage(scratch, ...part, ...part);
}

function drawBox(context, { box, colour, label = "", dashed = false, strength = 1 }) {
  const scale = overlay.width / size[1], line = lineWidth();
  const [x, y, right, bottom] = box.map((value) => value * scale);
  context.save();
  context.globalAlpha = strength;
  context.lineWidth = line * 0.75;
  context.strokeStyle = colour;
  context.setLineDash(dashed ? [3 * line, 2 * line] : []);
  context.strokeRect(x, y, right - x, bottom - y);
  if (label) {
    const letters = Math.max(11, overlay.width / 60);
    context.globalAlpha = 1;
    context.font = `600 ${letters}px system-ui, sans-serif`;
    const wide = context.measureText(label).width + letters * 0.7, high = letters * 1.4;
    const top = Math.max(0, y - high), left = Math.min(x, overlay.width - wide);
    context.fillStyle = "rgba(10, 12, 16, 0.85)";
    context.fillRect(left, top, wide, high);
    context.fillStyle = colour;
    context.fillText(label, left + letters * 0.35, top + letters * 1.05);
  }
  context.restore();
}

// Where a pointer is, in video pixels.
export function place(event) {
  const box = overlay.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * size[1], ((event.clientY - box.top) / box.height) * size[0]];
}

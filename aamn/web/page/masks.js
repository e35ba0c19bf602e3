// COCO's compressed run lengths as pictures: white where the mask is, transparent elsewhere.

// Lengths of the runs, column by column, that begin with the ground.
export function runs(text) {
  const counts = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const code = text.charCodeAt(at++) - 48;
      value |= (code & 0x1f) << shift;
      more = (code & 0x20) !== 0;
      shift += 5;
      if (!more && code & 0x10) value |= -1 << shift;
    }
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

// The picture {canvas, box}: box [x, y, width, height] is what of it is not empty.
export function maskPicture(text, [height, width]) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  let left = width, top = height, right = 0, bottom = 0, at = 0, inside = false;
  for (const count of runs(text)) {
    for (let n = at; inside && n < at + count; n++) {
      const x = Math.floor(n / height), y = n % height;
      pixels[y * width + x] = 0xffffffff;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
    }
    at += count;
    inside = !inside;
  }
  context.putImageData(image, 0, 0);
  return { canvas, box: [left, top, Math.max(0, right - left), Math.max(0, bottom - top)] };
}

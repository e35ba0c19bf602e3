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

export function maskPicture(text, [height, width]) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  let at = 0, inside = false;
  for (const count of runs(text)) {
    if (inside) {
      for (let n = at; n < at + count; n++) pixels[(n % height) * width + Math.floor(n / height)] = 0xffffffff;
    }
    at += count;
    inside = !inside;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

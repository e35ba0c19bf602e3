// The server's routes. Each call gives what the server says, or throws its one line.

async function said(response) {
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: "the server said nothing of use" }));
  const failure = new Error(typeof error === "string" ? error : "the server refused this");
  failure.status = response.status;
  throw failure;
}

async function call(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  return said(await fetch(path, options).catch(() => { throw new Error("the server does not answer"); }));
}

const json = async (...call_) => (await call(...call_)).json();
const of = (token, rest = "") => `api/videos/${encodeURIComponent(token)}${rest}`;

export const start = () => json("GET", "api/start");
export const openExample = (number) => json("POST", `api/examples/${number}`);
export const openHit = (place) => json("POST", `api/library/${place}`);
export const video = (token) => json("GET", of(token));
export const close = (token) => json("DELETE", of(token));
export const clip = (token, number) => json("GET", of(token, `/clips/${number}`));
export const answers = (token, sentences) => json("POST", of(token, "/answers"), { sentences });
export const python = (token, asked) => json("POST", of(token, "/python"), asked);
export const zip = async (token, asked) => (await call("POST", of(token, "/zip"), asked)).blob();
export const search = (sentence) => json("GET", `api/library?${new URLSearchParams({ sentence })}`);
export const hitPicture = (place, sentence, frame) =>
  `api/library/${place}/picture?${new URLSearchParams({ sentence, frame })}`;
export const examplePicture = (number) => `api/examples/${number}/picture`;

export async function frame(token, number) {
  return createImageBitmap(await (await call("GET", of(token, `/frames/${number}`))).blob());
}

// An upload with its progress: `report(share)`; `signal` gives it up.
export function upload(file, report, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const refuse = () => reject(new Error("the upload ended early"));
    request.open("POST", `api/videos?${new URLSearchParams({ name: file.name })}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => report(event.loaded / (event.total || 1));
    request.onerror = request.onabort = refuse;
    request.onload = () => {
      if (request.status === 200) resolve(request.response);
      else reject(new Error(request.response?.error ?? "the server refused the file"));
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

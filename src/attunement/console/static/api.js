// The one way to the routes. The session is a cookie that no script can read; the token against forged requests lives in this module alone.
const root = document.documentElement.dataset.root;
const header = document.documentElement.dataset.forgeryHeader;
let token = "";

export class ApiError extends Error {
  constructor(status, detail, body = null) {
    super(detail);
    this.status = status;
    this.body = body;
  }
}

export const keepToken = (text) => { token = text; };
export const address = (path) => root + path;

export async function call(method, path, body) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (method !== "GET" && token) headers[header] = token;
  let answer;
  try {
    answer = await fetch(address(path), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, "the service does not answer: is the network there?");
  }
  const found = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.ok) return found;
  if (answer.status === 401 && token) document.dispatchEvent(new CustomEvent("signed-out"));
  throw new ApiError(answer.status, (found && found.detail) || `the service answered ${answer.status}`, found);
}

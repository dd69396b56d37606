// How codes and times are said. A code without words is shown as it is.
const PRIORITIES = {
  imminent: "Imminent danger", elevated: "Elevated danger", withheld: "Reply withheld", feedback: "Feedback", possible: "Possible danger",
};
const ACTIONS = {
  crisis: "answered by the reviewed crisis text", refused: "left to professionals by law", withheld: "the model's words were held back",
  passed: "the model's reply was given", feedback: "somebody rated a reply", logged: "found in a logged session",
};
const TRAJECTORIES = { improving: "Improving", stable: "Stable", regressing: "Getting worse", not_enough_data: "Not enough data" };

export const priority = (code) => PRIORITIES[code] || code;
export const action = (code) => ACTIONS[code] || code;
export const trajectory = (code) => TRAJECTORIES[code] || code;
export const when = (text) => {
  const at = typeof text === "number" ? new Date(1000 * text) : new Date(text);
  return Number.isNaN(at.getTime()) ? String(text) : at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
};
export const day = (text) => new Date(text).toLocaleDateString(undefined, { dateStyle: "medium" });
export const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;
export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

// The value of a datetime-local field with the offset that the browser's clock had then: the routes refuse a time without one.
export function withOffset(local) {
  const at = new Date(local);
  const minutes = -at.getTimezoneOffset();
  const two = (number) => String(Math.trunc(Math.abs(number))).padStart(2, "0");
  return `${local.length === 16 ? `${local}:00` : local}${minutes < 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
}
export function nowLocal() {
  const at = new Date();
  return new Date(at.getTime() - 60000 * at.getTimezoneOffset()).toISOString().slice(0, 16);
}

// The forms of a client's record. What is sent is checked by the routes; nothing is kept in the browser.
import { call } from "./api.js";
import { el, form, labelled, say } from "./dom.js";
import { nowLocal, withOffset } from "./words.js";

const local = () => el("input", { type: "datetime-local", value: nowLocal(), required: true });

export async function questionnaire(at, again) {
  const known = await call("GET", "/api/v1/measures");
  const which = el("select", {}, known.map((measure) => el("option", { value: measure.code }, measure.title)));
  const items = el("div");
  const time = local();
  const draw = () => items.replaceChildren(...asked(known.find((measure) => measure.code === which.value)));
  which.addEventListener("change", draw);
  if (known.length) draw();
  return form([labelled("Questionnaire", which), labelled("When", time), items], "Keep it", async () => {
    const measure = known.find((each) => each.code === which.value);
    await call("POST", `${at}/measures`, { measure: measure.code, answers: given(items, measure), at: withOffset(time.value) });
    say(`Kept: ${measure.title}.`);
    document.dispatchEvent(new CustomEvent("kept")); // a critical answer is an alert by now
    draw();
    await again();
  });
}

function asked(measure) {
  if (!measure.items.length) {
    return [labelled(`Total (${measure.low} to ${measure.high})`, el("input", { type: "number", min: measure.low, max: measure.high, step: "any", required: true, name: "total" }))];
  }
  return measure.items.map((text, number) => el("fieldset", {}, el("legend", {}, `${number + 1}. ${text}`),
    Object.entries(measure.answers).map(([words, points]) => el("label", {}, el("input", { type: "radio", name: `item-${number}`, value: points }), words))));
}

// Answers in order, null where one was left out; or the total alone.
function given(place, measure) {
  if (!measure.items.length) return Number(place.querySelector("input").value);
  const answers = measure.items.map((_, number) => place.querySelector(`input[name="item-${number}"]:checked`));
  if (answers.every((answer) => answer === null)) throw new Error("answer at least one question");
  return answers.map((answer) => (answer === null ? null : Number(answer.value)));
}

const FIELDS = {
  conversation_summary: "Summary", progress_notes: "Progress notes", therapist_observations: "Observations (never go into a prompt)", next_session_focus: "What comes next",
};

function notes(text) {
  return Object.fromEntries(Object.keys(FIELDS).map((name) => [name, el("textarea", { maxlength: 20000 }, text[name] || "")]));
}

export function session(at, again) {
  const id = el("input", { required: true, maxlength: 64, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*" });
  const time = local();
  const came = el("input", { type: "checkbox", checked: true });
  const level = el("select", {}, [["", "not assessed"], ["none", "none"], ["possible", "possible"], ["elevated", "elevated"], ["imminent", "imminent"]].map(([code, words]) => el("option", { value: code }, words)));
  const texts = notes({});
  const fields = [labelled("Session's id", id), labelled("When", time), el("label", { class: "inline" }, came, "The client came"), labelled("Danger", level),
    ...Object.entries(texts).map(([name, field]) => labelled(FIELDS[name], field))];
  return form(fields, "Log it", async (sent) => {
    const told = Object.fromEntries(Object.entries(texts).map(([name, field]) => [name, field.value]));
    await call("POST", `${at}/sessions`, { session_id: id.value.trim(), timestamp: withOffset(time.value), attended: came.checked, crisis_level: level.value, ...told });
    say(`Logged: session ${id.value}.`);
    document.dispatchEvent(new CustomEvent("kept"));
    sent.reset();
    await again();
  });
}

export function editing(path, logged, again) {
  const texts = notes(logged.log);
  return form(Object.entries(texts).map(([name, field]) => labelled(FIELDS[name], field)), "Keep the changes", async () => {
    const changed = Object.fromEntries(Object.entries(texts).filter(([name, field]) => field.value !== (logged.log[name] || "")).map(([name, field]) => [name, field.value]));
    if (!Object.keys(changed).length) throw new Error("nothing was changed");
    await call("PATCH", path, { version: logged.version, ...changed });
    say("Kept; the version before is kept, too, and the new one is not signed.");
    await again();
  });
}

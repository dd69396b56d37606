// The clinical review queue: what the gate flagged, with its words, for a person to decide.
import { call } from "./api.js";
import { el, facts, form, labelled, say } from "./dom.js";
import { action, count, priority, when } from "./words.js";

const DECISIONS = {
  approve: "What the service did was right", correct: "It should have answered otherwise: say how below",
  escalate: "Somebody else must act: say who was told", dismiss: "There was nothing to look at",
};

export async function show(main, { session }, which = "open") {
  const rows = await call("GET", `/api/v1/reviews?state=${which === "decided" ? "decided" : "open"}&limit=100`);
  const decides = which !== "decided" && session.actions.includes("review:decide");
  main.replaceChildren(
    el("h1", {}, "Review queue"),
    el("p", {}, which === "decided" ? el("a", { href: "#/reviews" }, "What waits") : el("a", { href: "#/reviews/decided" }, "What was decided")),
    el("p", { class: "soft" }, rows.length ? `${count(rows.length, "row", "rows")}${which === "decided" ? ", newest first" : " waiting, nearest danger first"}.` : "Nothing here."),
    ...rows.map((row) => card(row, decides)),
  );
}

function card(row, decides) {
  const made = el("article", { class: `card ${row.priority}`, "data-review": row.id });
  const roles = { user: "Client", assistant: "Service", system: "Instruction" };
  const said = row.talk.map((turn) => el("li", { class: turn.role }, el("b", {}, roles[turn.role] || turn.role), turn.content));
  const reply = row.reply ? el("li", { class: "assistant" }, el("b", {}, row.action === "withheld" ? "Held back" : "Answered"), row.reply) : "";
  made.append(
    el("h2", {}, el("span", { class: `badge ${row.priority}` }, priority(row.priority)), when(row.at)),
    facts(row.client ? `client ${row.client}` : "client not known", row.session && `session ${row.session}`, action(row.action),
      row.reasons.length && `reasons: ${row.reasons.join(", ")}`, row.model && `model ${row.model}`, row.taken_by && `alert taken on by ${row.taken_by}`),
    el("ol", { class: "talk" }, said, reply),
    row.decision ? el("p", {}, `${row.decision}, ${when(row.decided_at)} by ${row.decided_by}${row.note ? `: ${row.note}` : ""}`) : "",
    decides ? deciding(row, made) : "",
  );
  return made;
}

function deciding(row, made) {
  const choices = Object.entries(DECISIONS).map(([code, words]) =>
    el("label", {}, el("input", { type: "radio", name: `decision-${row.id}`, value: code, required: true }), words));
  const note = el("textarea", { maxlength: 20000 });
  return form([el("fieldset", {}, el("legend", {}, "Decision"), choices), labelled("Note", note)], "Decide", async (sent) => {
    const chosen = sent.querySelector("input:checked");
    if (!chosen) throw new Error("choose a decision first");
    if (["correct", "escalate"].includes(chosen.value) && !note.value.trim()) throw new Error("say in the note how, or who was told");
    await call("POST", "/api/v1/reviews", { review_id: row.id, decision: chosen.value, note: note.value });
    made.replaceChildren(el("p", {}, `Decided: ${chosen.value}.`));
    say("Your decision is kept.");
  });
}

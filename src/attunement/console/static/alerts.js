// Alerts: each danger, without words, until somebody takes it on.
import { call } from "./api.js";
import { el, facts, say } from "./dom.js";
import { action, count, priority, when } from "./words.js";

export const latest = () => call("GET", "/api/v1/alerts?limit=200");

export async function show(main, { session, recount }) {
  const alerts = await latest();
  recount(alerts.length);
  const list = el("div", {}, alerts.map((alert) => card(alert, session, recount)));
  main.replaceChildren(
    el("h1", {}, "Alerts"),
    el("p", { class: "soft" }, alerts.length ? `${count(alerts.length, "alert", "alerts")} that nobody took on yet, nearest danger first.` : "No alert waits. New ones appear here by themselves."),
    list,
  );
}

function card(alert, session, recount) {
  const may = (what) => session.actions.includes(what);
  const made = el("article", { class: `card ${alert.priority}`, "data-alert": alert.id });
  const take = el("button", { type: "button" }, "I take it on");
  take.addEventListener("click", async () => {
    take.disabled = true;
    try {
      await call("POST", "/api/v1/alerts", { alert_id: alert.id });
      made.replaceChildren(el("p", {}, `You took it on${alert.client ? `: client ${alert.client}` : ""}. Call or see the person now; how, stands in your crisis plan.`));
      say("Taken on: your name stands by it.");
      recount(-1);
    } catch (error) {
      made.append(el("p", { role: "alert" }, error.message));
    }
  });
  made.append(
    el("h2", {}, el("span", { class: `badge ${alert.priority}` }, priority(alert.priority)), when(alert.at)),
    facts(
      alert.client ? `client ${alert.client}` : "client not known", alert.session && `session ${alert.session}`, action(alert.action),
      alert.reasons.length && `reasons: ${alert.reasons.join(", ")}`,
    ),
    el("div", { class: "row" }, may("alert:acknowledge") ? take : "",
      alert.client && may("client:list") ? el("a", { href: `#/clients/${encodeURIComponent(alert.client)}` }, "The client's record") : "",
      may("review:read") ? el("a", { href: `#/reviews` }, "Its words, in the review queue") : ""),
  );
  return made;
}

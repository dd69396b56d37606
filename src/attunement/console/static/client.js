// One client: how it goes, the report, sessions to read, edit and sign, questionnaires to fill in.
import { address, call } from "./api.js";
import { el, facts, form, labelled, say } from "./dom.js";
import { documents } from "./client_documents.js";
import { editing, questionnaire, session as newSession } from "./client_forms.js";
import { count, day, trajectory, when, zone } from "./words.js";

const SPANS = { "90d": "90 days", "1y": "a year", "3y": "three years", "10y": "ten years" };

export async function show(main, context, client) {
  const at = `/api/v1/clients/${encodeURIComponent(client)}`;
  const progress = el("section", { "aria-label": "Progress" });
  const listed = el("section", { "aria-label": "Sessions" });
  const filed = el("section", { "aria-label": "Documents" });
  const span = el("select", {}, Object.entries(SPANS).map(([code, words]) => el("option", { value: code }, words)));
  const again = async () => Promise.all([overview(progress, at, span.value), sessions(listed, at, context.session, again), documents(filed, at, context.session)]);
  span.addEventListener("change", () => overview(progress, at, span.value).catch((error) => progress.replaceChildren(el("p", { role: "alert" }, error.message))));
  const writes = context.session.actions.includes("client:write");
  main.replaceChildren(
    el("p", { class: "small" }, el("a", { href: "#/clients" }, "All clients")),
    el("h1", {}, `Client ${client}`),
    el("div", { class: "row" }, labelled("Over", span)), progress,
    writes ? el("details", {}, el("summary", {}, "Fill in a questionnaire"), await questionnaire(at, again)) : "",
    writes ? el("details", {}, el("summary", {}, "Log a session"), newSession(at, again)) : "",
    el("h2", {}, "Documents"), filed,
    el("h2", {}, "Sessions"), listed,
  );
  await again();
}

async function overview(place, at, span) {
  const asked = `timeframe=${span}&zone=${encodeURIComponent(zone())}`;
  const [report, trends, goals] = await Promise.all([
    call("GET", `${at}/progress?${asked}`), call("GET", `${at}/trends?${asked}`), call("GET", `${at}/goals`),
  ]);
  const titles = Object.fromEntries(goals.map((goal) => [goal.goal_id, goal.title]));
  const latest = trends.measures.map((measure) => [measure.measure, measure.scores[measure.scores.length - 1], measure]).filter(([, score]) => score);
  const list = (title, items) => (items.length ? [el("h2", {}, title), el("ul", {}, items.map((text) => el("li", {}, text)))] : []);
  place.replaceChildren(
    el("ul", { class: "figures" },
      el("li", {}, "Course", el("b", {}, trajectory(report.overall_trajectory))),
      el("li", {}, "Sessions", el("b", {}, String(report.sessions_count))),
      latest.map(([code, score]) => el("li", {}, `${code}, ${day(score.at)}`, el("b", {}, String(score.total)))),
      Object.entries(report.goal_progress).map(([goal, percent]) => el("li", {}, titles[goal] || `Goal ${goal}`, el("b", {}, `${Math.round(percent)} %`)))),
    el("p", {}, el("a", { href: address(`${at}/report?${asked}`), target: "_blank", rel: "noopener" }, "The whole report, with charts"), " · ",
      el("a", { href: address(`${at}/report?${asked}&form=pdf`), target: "_blank", rel: "noopener" }, "as PDF")),
    ...list("What was found", trends.evidence),
    trends.measures.length ? el("details", {}, el("summary", {}, "By which figures"), trends.measures.map((measure) =>
      [el("p", {}, el("b", {}, measure.measure)), el("ul", {}, measure.evidence.map((text) => el("li", {}, text)))]).flat()) : "",
    ...list("To think of", report.recommendations),
    ...list("What a reader must know", [...trends.caveats]),
    ...list("Milestones", report.key_milestones.map((mark) => `${day(mark.reached_at)}: ${mark.title}`)),
  );
}

async function sessions(place, at, who, again) {
  const found = (await call("GET", `${at}/sessions`)).reverse();
  const cards = found.map((logged) => card(logged, at, who, again));
  const most = 25;
  const rest = el("button", { type: "button", class: "plain", hidden: cards.length <= most }, `All ${cards.length} sessions`);
  rest.addEventListener("click", () => rest.replaceWith(...cards.slice(most)));
  place.replaceChildren(el("p", { class: "soft" }, found.length ? `${count(found.length, "session", "sessions")}, newest first.` : "No session is logged yet."), ...cards.slice(0, most), rest);
}

function card(logged, at, who, again) {
  const log = logged.log;
  const path = `${at}/sessions/${encodeURIComponent(log.session_id)}`;
  const part = (title, text) => (text ? el("p", { class: "notes" }, el("b", {}, `${title}: `), text) : "");
  const made = logged.made.length ? `made by the software and not by a person: ${logged.made.join(", ")}` : "";
  const danger = logged.crisis.level === "none" ? "" : logged.crisis.level;
  const sign = form([], "Sign this version", async () => {
    await call("POST", `${path}/signature`, { version: logged.version });
    say(`Signed: session ${log.session_id}, version ${logged.version}.`);
    await again();
  });
  return el("article", { class: `card ${danger}`, "data-session": log.session_id },
    el("h3", {}, danger ? el("span", { class: `badge ${danger}` }, `${danger} danger`) : "", `${when(log.timestamp)}${logged.attended ? "" : ": did not come"}`),
    facts(`session ${log.session_id}, version ${logged.version}`, logged.attended && logged.crisis.level === "" && "danger not assessed", logged.signed_by ? `signed by ${logged.signed_by}, ${when(logged.signed_at)}` : "not signed", made),
    part("Summary", log.conversation_summary), part("Notes", log.progress_notes), part("Observations", log.therapist_observations), part("Next", log.next_session_focus),
    who.actions.includes("client:write") ? el("details", {}, el("summary", {}, "Edit"), editing(path, logged, again)) : "",
    !logged.signed_by && who.actions.includes("client:sign") ? sign : "");
}

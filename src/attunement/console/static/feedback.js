// What people said of replies.
import { call } from "./api.js";
import { el, facts } from "./dom.js";
import { when } from "./words.js";

export async function show(main) {
  const rows = await call("GET", "/api/v1/feedback?limit=100");
  main.replaceChildren(
    el("h1", {}, "Feedback"),
    el("p", { class: "soft" }, rows.length ? "The newest first. Ratings of 1 and 2 and corrections stand in the review queue, too." : "There is none yet."),
    ...rows.map((row) => el("article", { class: "card" },
      el("h2", {}, `${row.rating} of 5, ${when(row.at)}`),
      facts(row.client && `client ${row.client}`, `reply ${row.request}`, `by ${row.author}`),
      row.correction ? el("p", { class: "notes" }, el("b", {}, "Should have been said: "), row.correction) : "",
      row.comment ? el("p", { class: "notes" }, row.comment) : "")),
  );
}

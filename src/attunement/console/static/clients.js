// The clients whom one may see.
import { call } from "./api.js";
import { el, labelled } from "./dom.js";
import { when } from "./words.js";

const PAGE = 200;

export async function show(main) {
  const found = await call("GET", `/api/v1/clients?limit=${PAGE}`);
  const body = el("tbody", {}, found.map(row));
  const more = el("button", { type: "button", class: "plain" }, "More");
  const toggle = (got) => { more.hidden = got.length < PAGE; };
  let last = found;
  more.addEventListener("click", async () => {
    last = await call("GET", `/api/v1/clients?limit=${PAGE}&after=${encodeURIComponent(last[last.length - 1].client_id)}`);
    body.append(...last.map(row));
    toggle(last);
  });
  toggle(found);
  const filter = el("input", { type: "search", oninput: () => {
    for (const line of body.children) line.hidden = !line.dataset.client.includes(filter.value.trim());
  } });
  main.replaceChildren(
    el("h1", {}, "Clients"),
    found.length ? labelled("Find", filter) : el("p", {}, "No client is assigned to you. An administrator assigns them:  attune accounts assign"),
    el("div", { class: "wide" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Client"), el("th", { scope: "col" }, "Last session"), el("th", { scope: "col", class: "n" }, "Sessions"), el("th", { scope: "col", class: "n" }, "Not signed"))),
      body)),
    more,
  );
}

const row = (client) => el("tr", { "data-client": client.client_id },
  el("th", { scope: "row" }, el("a", { href: `#/clients/${encodeURIComponent(client.client_id)}` }, client.client_id)),
  el("td", {}, client.last_session ? when(client.last_session) : "none yet"), el("td", { class: "n" }, String(client.sessions)), el("td", { class: "n" }, String(client.unsigned)));

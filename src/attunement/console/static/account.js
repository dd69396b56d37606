// One's own account: sessions, password, second factor.
import { call } from "./api.js";
import { el, form, labelled, say } from "./dom.js";
import { codes, enrolment } from "./signing.js";
import { when } from "./words.js";

export async function show(main, { session, renew, again }) {
  const sessions = await call("GET", "/api/v1/auth/sessions");
  main.replaceChildren(
    el("h1", {}, "Account"),
    el("p", {}, `${session.name}: ${session.roles.join(", ")}`),
    el("h2", {}, "Where you are signed in"),
    el("div", { class: "wide" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Browser", "Address", "Since", "Last used", ""].map((text) => el("th", { scope: "col" }, text || el("span", { class: "soft" }, "End it"))))),
      el("tbody", {}, sessions.map((row) => el("tr", {}, el("td", {}, row.agent), el("td", {}, row.address), el("td", {}, when(row.created)),
        el("td", {}, when(row.last_used)), el("td", {}, row.current ? "this one" : ending(row, again))))))),
    el("h2", {}, "Password"), password(renew),
    el("h2", {}, "Second factor"), factor(main, renew, again),
  );
}

const ending = (row, again) => form([], "End", async () => {
  await call("DELETE", `/api/v1/auth/sessions/${encodeURIComponent(row.id)}`);
  await again();
});

function password(renew) {
  const now = el("input", { type: "password", autocomplete: "current-password", required: true });
  const next = el("input", { type: "password", autocomplete: "new-password", required: true });
  return form([labelled("Password until now", now), labelled("New password", next)], "Change it", async () => {
    renew(await call("POST", "/api/v1/auth/password", { current_password: now.value, new_password: next.value }));
    now.value = next.value = "";
    say("Your password is changed; your other sessions are ended.");
  });
}

function factor(main, renew, again) {
  const shown = el("div");
  const code = el("input", { inputmode: "numeric", autocomplete: "one-time-code", required: true });
  const confirm = form([labelled("Its first code", code)], "Confirm", async () => {
    const session = await call("POST", "/api/v1/auth/totp", { code: code.value.trim() });
    renew(session);
    if (session.recovery_codes.length) await codes(main, session.recovery_codes);
    await again();
  });
  const old = el("input", { inputmode: "numeric", autocomplete: "one-time-code", required: true });
  return el("div", {}, form([], "Set one up", async () => shown.replaceChildren(await enrolment(), confirm)), shown,
    el("details", {}, el("summary", {}, "New recovery codes"), form([labelled("A code of the app", old)], "Make them", async () => {
      const found = await call("POST", "/api/v1/auth/totp/recovery-codes", { code: old.value.trim() });
      await codes(main, found.recovery_codes);
      await again();
    })));
}

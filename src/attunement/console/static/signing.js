// Signing in: a password, then what the account still owes (a password of its own, a second factor).
import { address, call } from "./api.js";
import { el, form, labelled } from "./dom.js";

export function signIn(main, told, done) {
  const name = el("input", { name: "name", autocomplete: "username", required: true });
  const password = el("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const sent = form([labelled("Name", name), labelled("Password", password)], "Sign in", async () => {
    const session = await call("POST", "/api/v1/auth/sign-in", { name: name.value, password: password.value });
    password.value = "";
    await done(session);
  });
  const elsewhere = document.documentElement.dataset.elsewhere ? el("p", {}, el("a", { href: address("/api/v1/auth/oidc") }, "Sign in at your organisation")) : "";
  main.replaceChildren(el("h1", {}, "Sign in"), told ? el("p", {}, told) : "", sent, elsewhere);
  name.focus();
}

export function owed(main, session, done) {
  (session.pending === "password" ? ownPassword : secondFactor)(main, done);
}

function ownPassword(main, done) {
  const now = el("input", { type: "password", autocomplete: "current-password", required: true });
  const next = el("input", { type: "password", autocomplete: "new-password", required: true });
  main.replaceChildren(
    el("h1", {}, "Choose a password of your own"),
    form([labelled("Password until now", now), labelled("New password", next)], "Change it", async () => {
      await done(await call("POST", "/api/v1/auth/password", { current_password: now.value, new_password: next.value }));
    }),
  );
  now.focus();
}

function secondFactor(main, done) {
  const code = el("input", { inputmode: "numeric", autocomplete: "one-time-code", required: true, minlength: 6, maxlength: 64 });
  const shown = el("div");
  main.replaceChildren(
    el("h1", {}, "Show your second factor"),
    shown,
    form([labelled("Six digits of the app, or a recovery code", code)], "Go on", async () => {
      const session = await call("POST", "/api/v1/auth/totp", { code: code.value.trim() });
      if (session.recovery_codes.length) await codes(main, session.recovery_codes);
      await done(session);
    }),
    form([], "I have no app for codes yet", async () => shown.replaceChildren(await enrolment())),
  );
  code.focus();
}

export async function enrolment() {
  const found = await call("POST", "/api/v1/auth/totp/enrol");
  return el("div", { class: "card" },
    el("p", {}, "Put this secret into an app for one-time codes, then send its first code:"),
    el("p", {}, el("code", {}, found.secret.replace(/(.{4})/g, "$1 ").trim())),
    el("p", { class: "small" }, el("a", { href: found.address }, "Open it in an app on this device")));
}

export function codes(main, given) {
  return new Promise((go) => {
    main.replaceChildren(
      el("h1", {}, "Keep these recovery codes"),
      el("p", {}, "Each replaces the second factor one time. They are shown once: write them down and keep them apart from the telephone."),
      el("ul", {}, given.map((code) => el("li", {}, el("code", {}, code)))),
      el("button", { type: "button", onclick: go }, "I have kept them"),
    );
  });
}

// The console's frame: who is signed in, which page is shown, how long nobody was there. Pages stand in a file each.
import { ApiError, call, keepToken } from "./api.js";
import { complain, el, say, unsent } from "./dom.js";
import { owed, signIn } from "./signing.js";
import * as account from "./account.js";
import * as alerts from "./alerts.js";
import * as client from "./client.js";
import * as clients from "./clients.js";
import * as feedback from "./feedback.js";
import * as reviews from "./reviews.js";
import * as service from "./service.js";

const PAGES = {
  alerts: { title: "Alerts", action: "alert:read", show: alerts.show },
  reviews: { title: "Review queue", action: "review:read", show: reviews.show },
  clients: { title: "Clients", action: "client:list", show: (main, context, id) => (id ? client.show(main, context, id) : clients.show(main, context)) },
  feedback: { title: "Feedback", action: "feedback:read", show: feedback.show },
  service: { title: "Service", action: "health:read", show: service.show },
  account: { title: "Account", action: "session:manage", show: account.show },
};
const LOOK_SECONDS = 30;
const WARN_SECONDS = 60;
const main = document.getElementById("main");
const nav = document.getElementById("nav");
let session = null;
let waiting = 0;
let used = Date.now();
let shown = "";
let going = 0;
let warned = false;

const mine = () => Object.entries(PAGES).filter(([, page]) => session.actions.includes(page.action));
const context = () => ({ session, recount, renew, again: route });

function renew(found) {
  session = found;
  keepToken(found.forgery_token);
}

function recount(alertsNow) {
  waiting = Math.max(0, alertsNow < 0 ? waiting + alertsNow : alertsNow);
  document.title = `${waiting ? `(${waiting}) ` : ""}Attunement`;
  drawNav();
}

function drawNav() {
  const [here] = place();
  nav.replaceChildren(...(session && !session.pending ? mine() : []).map(([name, page]) =>
    el("a", { href: `#/${name}`, "aria-current": name === here ? "page" : undefined }, page.title + (name === "alerts" && waiting ? ` (${waiting})` : ""))));
  const out = el("button", { type: "button", class: "plain" }, "Sign out");
  out.addEventListener("click", () => leave("You are signed out."));
  document.getElementById("who").replaceChildren(...(session ? [`${session.name} `, out] : []));
}

function place() {
  const [name, id = ""] = location.hash.replace(/^#\/?/, "").split("/");
  if (PAGES[name] && session && session.actions.includes(PAGES[name].action)) return [name, decodeURIComponent(id)];
  return [session && !session.pending ? mine()[0][0] : "", ""];
}

async function route() {
  const turn = ++going;
  complain("");
  if (!session) return;
  const [name, id] = place();
  shown = location.hash;
  drawNav();
  const held = el("div");
  try {
    await PAGES[name].show(held, context(), id);
  } catch (error) {
    if (session && turn === going) complain(error.message);
    return;
  }
  if (turn !== going || !session) return; // another page was asked for meanwhile
  main.replaceChildren(held);
  main.focus({ preventScroll: true });
}

async function enter(found) {
  renew(found);
  used = Date.now();
  complain("");
  if (found.pending) {
    drawNav();
    owed(main, found, enter);
    return;
  }
  await route();
  await look();
}

// Takes everything from the page before the service is asked: words of clients must not stand on a screen that nobody watches.
async function leave(told) {
  const was = session;
  session = null;
  waiting = 0;
  document.title = "Attunement";
  main.replaceChildren();
  say("");
  complain("");
  drawNav();
  if (was) await call("POST", "/api/v1/auth/sign-out").catch(() => null);
  keepToken("");
  signIn(main, told, enter);
}

// Looks for new alerts, and keeps the session of who is there alive; who is not there for the session's idle time is signed out.
async function look() {
  if (!session || session.pending) return;
  if (!session.actions.includes("alert:read")) {
    await call("GET", "/api/v1/auth/session").catch(() => null);
    return;
  }
  const found = await alerts.latest().catch(() => null);
  if (!session) return;
  if (found === null) {
    complain("Alerts cannot be read now: the service does not answer. Use your other way of hearing of danger until this line is gone.");
    return;
  }
  complain("");
  const more = found.length - waiting;
  recount(found.length);
  if (more > 0) say(`${more} new ${more === 1 ? "alert" : "alerts"}.`);
  if (more > 0 && place()[0] === "alerts" && !unsent()) await route();
}

function watch() {
  if (!session) return;
  const left = session.idle_seconds - (Date.now() - used) / 1000;
  if (left <= 0) leave(`You were signed out after ${Math.round(session.idle_seconds / 60)} minutes without use.`);
  else if (left <= WARN_SECONDS !== warned) {
    warned = !warned;
    say(warned ? `You are signed out in ${Math.ceil(left)} seconds, unless you go on.` : "");
  }
}

async function start() {
  try {
    await enter(await call("GET", "/api/v1/auth/session"));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === 401) return signIn(main, "", enter);
    main.replaceChildren(el("h1", {}, "Attunement"), el("p", {}, error.message), el("p", { class: "soft" }, "The console shows what a service keeps: make an account with  attune accounts create  and start it again."));
  }
}

for (const kind of ["pointerdown", "pointermove", "keydown", "scroll", "touchstart"]) {
  document.addEventListener(kind, () => { used = Date.now(); }, { passive: true, capture: true });
}
document.addEventListener("signed-out", () => { if (session) leave("Your session has ended: sign in again."); });
document.addEventListener("kept", look);
window.addEventListener("beforeunload", (event) => { if (session && unsent()) event.preventDefault(); });
window.addEventListener("hashchange", () => {
  if (location.hash === shown) return;
  if (unsent() && !window.confirm("What you wrote is not sent yet. Leave it?")) {
    history.replaceState(null, "", shown || "#/");
    return;
  }
  say("");
  route();
});
setInterval(look, 1000 * LOOK_SECONDS);
setInterval(watch, 1000);
start();

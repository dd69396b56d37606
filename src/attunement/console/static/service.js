// How the service is. No words and no clients.
import { address, call } from "./api.js";
import { el } from "./dom.js";

export async function show(main, { session }) {
  const [health, ready] = await Promise.all([state("/api/v1/health"), state("/api/v1/health/ready")]);
  const rows = [["Health", health.status || health.detail], ["Model", health.model_version || "none"], ["Up for", health.uptime || "-"],
    ["Takes requests", ready.ready ? "yes" : "no"], ...Object.entries(ready.stores || {})];
  main.replaceChildren(
    el("h1", {}, "Service"),
    el("div", { class: "wide" }, el("table", {}, el("caption", { class: "soft" }, "As it is now"),
      el("tbody", {}, rows.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, String(value))))))),
    el("p", {}, el("a", { href: address("/docs") }, "The interface, to try")),
    session.actions.includes("metrics:read") ? el("p", {}, el("a", { href: address("/metrics") }, "Figures for Prometheus")) : "",
  );
}

// An unhealthy service answers 503, and that is what is to be shown.
async function state(path) {
  try {
    return await call("GET", path);
  } catch (error) {
    return error.body || { status: "unhealthy", detail: error.message };
  }
}

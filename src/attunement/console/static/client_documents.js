// Letters, forms and pictures of a client's record: listed, saved from there, added.
import { address, call } from "./api.js";
import { el, form, labelled, say } from "./dom.js";
import { when } from "./words.js";

const TYPES = { txt: "text/plain", md: "text/markdown", csv: "text/csv", json: "application/json", pdf: "application/pdf", png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg" };
const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1000)} KB` : `${(bytes / 1e6).toFixed(1)} MB`);

export async function documents(place, at, who) {
  const found = await call("GET", `${at}/documents`);
  const row = (each) => el("tr", { "data-document": each.id },
    el("th", { scope: "row" }, el("a", { href: address(`${at}/documents/${encodeURIComponent(each.id)}`), download: "" }, each.title)),
    el("td", {}, each.media_type), el("td", { class: "n" }, size(each.bytes)), el("td", {}, when(each.added_at)), el("td", {}, each.added_by));
  const heads = ["Title", "Kind", "Size", "Added", "By"].map((text) => el("th", { scope: "col", class: text === "Size" ? "n" : undefined }, text));
  const again = () => documents(place, at, who);
  place.replaceChildren(
    found.length ? el("div", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, found.map(row)))) : el("p", { class: "soft" }, "There is none."),
    who.actions.includes("client:write") ? el("details", {}, el("summary", {}, "Add a document"), adding(at, again)) : "",
  );
}

function adding(at, again) {
  const title = el("input", { required: true, maxlength: 200 });
  const file = el("input", { type: "file", required: true, accept: Object.keys(TYPES).map((suffix) => `.${suffix}`).join(",") });
  return form([labelled("What it is", title), labelled("File", file)], "Add it", async () => {
    const chosen = file.files[0];
    const kind = TYPES[chosen.name.split(".").pop().toLowerCase()] || chosen.type || "unknown";
    await call("POST", `${at}/documents`, { title: title.value, media_type: kind, content: await inBase64(chosen) });
    say(`Added: ${title.value}.`);
    await again();
  });
}

function inBase64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(new Error("the file cannot be read"));
    reader.readAsDataURL(file);
  });
}

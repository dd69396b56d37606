// Elements are made, never written as text: what people said can be no markup, and the page's policy forbids inline scripts.
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export const facts = (...told) => el("ul", { class: "facts" }, told.filter(Boolean).map((text) => el("li", {}, text)));

export function labelled(text, field) {
  return el("label", {}, text, field);
}

// A form that calls `send` once at a time, and says what went wrong beside its own button.
export function form(fields, button, send, props = {}) {
  const wrong = el("p", { role: "alert", class: "small" });
  const press = el("button", { type: "submit" }, button);
  const made = el("form", { ...props, novalidate: undefined }, fields, el("p", {}, press), wrong);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    press.disabled = true;
    try {
      await send(made);
    } catch (error) {
      wrong.textContent = error.message;
    } finally {
      press.disabled = false;
    }
  });
  return made;
}

export const say = (text) => { document.getElementById("told").textContent = text; };
export const complain = (text) => { document.getElementById("wrong").textContent = text; };

// Words that are not sent yet are not thrown away without a question.
export const unsent = () => [...document.querySelectorAll("#main textarea")].some((field) => field.value !== field.defaultValue);

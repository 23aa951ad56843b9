// The keyboard: see the dialog in base.html.
import { toggleTheme } from "./theme.js";

const PAGES = { o: "overview", j: "jobs", e: "errors", q: "queues", w: "workers", s: "schedules", f: "workflows", a: "audit" };
let goes = 0; // when g was pressed

function rows() {
  return [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);
}

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("here"));
  const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step))];
  all[at]?.classList.remove("here");
  next.classList.add("here");
  next.querySelector("a")?.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const here = document.querySelector(".here");
  if (goes && performance.now() - goes < 1500 && PAGES[event.key]) {
    goes = 0;
    document.querySelector(`.side a[data-key="${PAGES[event.key]}"]`)?.click();
    return;
  }
  goes = event.key === "g" ? performance.now() : 0;
  const actions = {
    "/": () => document.getElementById("q")?.focus(),
    "?": () => document.getElementById("keys")?.showModal(),
    j: () => move(1),
    k: () => move(-1),
    t: toggleTheme,
    x: () => here?.querySelector("input[type=checkbox]")?.click(),
    Enter: () => (event.target.closest("a, button, summary") ? null : here?.querySelector("a")?.click()),
  };
  if (!actions[event.key]) return;
  if (event.key !== "Enter") event.preventDefault();
  actions[event.key]();
}

export function keys() {
  document.addEventListener("keydown", onKey);
  document.getElementById("help")?.addEventListener("click", () => document.getElementById("keys").showModal());
}

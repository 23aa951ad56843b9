// Live updates: one stream of events while the page is seen. Regions are fetched anew, at most every two seconds.
import { writeTimes } from "./times.js";

const EVERY_MS = 2000;
export const root = document.body.dataset.root;
let source = null;

function say(state, text) {
  const element = document.querySelector("[data-live-state]");
  if (!element || element.dataset.liveState === state) return;
  element.dataset.liveState = state;
  element.lastElementChild.textContent = text;
}

function open() {
  source?.close();
  source = new EventSource(`${root}/live`);
  source.onopen = () => say("on", "live");
  source.onerror = () => say("lost", "connection lost");
  source.onmessage = (event) => {
    say("on", "live");
    const detail = JSON.parse(event.data);
    const count = document.querySelector("[data-problems]");
    if (count) {
      count.hidden = !detail.problems;
      count.textContent = detail.problems;
    }
    dispatchEvent(new CustomEvent("arqestra:live", { detail }));
  };
}

function pause() {
  source?.close();
  source = null;
  say("off", "paused");
}

export function follow() {
  if (!document.hidden) open();
  document.addEventListener("visibilitychange", () => (document.hidden ? pause() : open()));
  addEventListener("pagehide", pause);
}

function isBusy(region) {
  const active = document.activeElement;
  const selected = getSelection();
  if (region.contains(active) && active.matches("input:not([type=checkbox]), select, textarea")) return true;
  return !selected.isCollapsed && selected.anchorNode !== null && region.contains(selected.anchorNode);
}

// What the reader has done to a region is kept: what is checked, opened, scrolled, focused.
function replace(old, fresh) {
  const checked = new Set([...old.querySelectorAll("input:checked")].map((each) => each.value));
  const opened = new Map([...old.querySelectorAll("details[data-key]")].map((each) => [each.dataset.key, each.open]));
  const here = old.querySelector(".here")?.dataset.key;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const address = focused?.getAttribute("href") ?? focused?.getAttribute("value");
  const scrolled = [...old.querySelectorAll(".log, .traceback")].map((each) => each.scrollTop);
  for (const each of fresh.querySelectorAll("input[type=checkbox]")) each.checked = checked.has(each.value);
  for (const each of fresh.querySelectorAll("details[data-key]")) each.open = opened.get(each.dataset.key) ?? each.open;
  old.replaceChildren(...fresh.childNodes);
  [...old.querySelectorAll(".log, .traceback")].forEach((each, at) => (each.scrollTop = scrolled[at] ?? 0));
  if (here) old.querySelector(`[data-key="${CSS.escape(here)}"]`)?.classList.add("here");
  if (address) {
    [...old.querySelectorAll("a, button, input")]
      .find((each) => (each.getAttribute("href") ?? each.getAttribute("value")) === address)
      ?.focus({ preventScroll: true });
  }
  writeTimes(old);
}

const written = new WeakMap(); // the HTML of each region as it came, to see whether it has changed

async function refresh() {
  const answer = await fetch(location.href, { headers: { "X-Arqestra-Fragment": "1" } });
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const region of document.querySelectorAll("[data-region]")) {
    const found = fresh.querySelector(`[data-region="${region.dataset.region}"]`);
    if (!found || isBusy(region)) continue;
    const html = found.innerHTML;
    if (written.get(region) === html) continue;
    written.set(region, html);
    replace(region, found);
  }
}

export function refreshRegions() {
  let last = performance.now();
  let running = false;
  addEventListener("arqestra:live", async () => {
    if (running || performance.now() - last < EVERY_MS || document.querySelector("dialog[open]")) return;
    running = true;
    try {
      await refresh();
    } catch {
      // the next event tries again
    } finally {
      running = false;
      last = performance.now();
    }
  });
}

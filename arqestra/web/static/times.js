// Times in the reader's zone: how long ago where that is easier to grasp, the exact time on hover.
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "always", style: "short" });
const near = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
  fractionalSecondDigits: 3, timeZoneName: "short",
});
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const UNITS = [["hour", 3600], ["minute", 60], ["second", 1]];
const DAY_S = 86400;

function words(ms) {
  const seconds = (ms - Date.now()) / 1000;
  if (Math.abs(seconds) >= DAY_S) return near.format(ms);
  if (Math.abs(seconds) < 1) return "now";
  const [unit, length] = UNITS.find(([, each]) => Math.abs(seconds) >= each);
  return relative.format(Math.trunc(seconds / length), unit);
}

export function writeTimes(root = document) {
  for (const element of root.querySelectorAll("time[data-ms]")) {
    const ms = Number(element.dataset.ms);
    const text = element.dataset.as === "clock" ? clock.format(ms) : words(ms);
    if (element.textContent !== text) element.textContent = text;
    if (!element.title) element.title = `${exact.format(ms)} · ${element.dateTime}`;
  }
}

export function watchTimes() {
  writeTimes();
  setInterval(() => document.hidden || writeTimes(), 1000);
}

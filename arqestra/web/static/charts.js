// The charts: a range of series from the API, whose last minutes come with the live events.
import { root } from "./live.js";

/* global uPlot */
const KINDS = {
  throughput: [["enqueued", "in", "--c1"], ["ended", "out", "--c2"]],
  failures: [["failed", "failed", "--c3"], ["retried", "retried", "--c4"]],
  run: [["run_p50", "p50", "--c2"], ["run_p95", "p95", "--c4"], ["run_p99", "p99", "--c3"]],
  wait: [["wait_p50", "p50", "--c2"], ["wait_p95", "p95", "--c4"], ["wait_p99", "p99", "--c3"]],
};
const LIVE_RANGES = ["15m", "1h"];
const SLOW_MS = { "15m": 2000, "1h": 2000, "6h": 10000 };

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const digits = (value) => String(Number(value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)));
const rate = (value) => (value == null ? "–" : `${digits(value)}/s`);

function clock(seconds, step_s) {
  const time = new Date(seconds * 1000);
  const hours = `${String(time.getHours()).padStart(2, "0")}:${String(time.getMinutes()).padStart(2, "0")}`;
  if (step_s < 3600) return hours;
  const day = time.toLocaleDateString(undefined, { month: "short", day: "numeric" });
  return step_s < 7200 && time.getHours() !== 0 ? hours : step_s > 7200 ? day : `${day} ${hours}`;
}

function duration(ms) {
  if (ms == null) return "–";
  if (ms < 1000) return `${digits(ms)} ms`;
  if (ms < 60000) return `${digits(ms / 1000)} s`;
  return ms < 3600000 ? `${digits(ms / 60000)} min` : `${digits(ms / 3600000)} h`;
}

class Chart {
  constructor(figure) {
    this.kind = figure.dataset.chart;
    this.place = figure.querySelector(".plot");
    this.output = figure.querySelector("output");
    this.format = ["run", "wait"].includes(this.kind) ? duration : rate;
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.place);
  }

  size() {
    return { width: this.place.clientWidth || 300, height: this.place.clientHeight };
  }

  data(series) {
    return [series.at, ...KINDS[this.kind].map(([name]) => series[name])];
  }

  draw(series) {
    this.plot?.destroy();
    const axis = { stroke: css("--muted"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const lines = KINDS[this.kind].map(([, , colour], at) => ({
      stroke: css(colour), width: 1.8, spanGaps: this.format === duration, points: { show: series.at.length < 3 },
      fill: this.format === rate && at === 0 ? `${css(colour)}22` : undefined,
    }));
    this.plot = new uPlot({
      ...this.size(), padding: [8, 18, 0, 0], cursor: { y: false, points: { size: 6 } }, legend: { show: false },
      scales: { y: { range: (_, least, most) => [0, most > 0 ? most * 1.12 : 1] } },
      axes: [
        { ...axis, space: 64, size: 26, values: (_, ticks) => ticks.map((at) => clock(at, series.step_s)) },
        { ...axis, space: 34, size: 60, values: (_, ticks) => ticks.map((tick) => (tick ? this.format(tick) : "0")) },
      ],
      hooks: { setCursor: [(plot) => this.say(this.series, plot.cursor.idx)] },
      series: [{}, ...lines],
    }, this.data(series), this.place);
    this.series = series;
    this.say(series);
  }

  update(series) {
    this.series = series;
    this.plot.setData(this.data(series));
    this.say(series, this.plot.cursor.idx);
  }

  // The values at the cursor, else the last ones; each with the colour of its line.
  say(series, at) {
    const place = at ?? series.at.length - 1;
    const parts = KINDS[this.kind].map(([name, label, colour]) => [label, series[name][place] ?? null, colour]);
    const keys = parts.map(([label, value, colour]) => {
      const key = document.createElement("span");
      const line = document.createElement("i");
      line.style.background = `var(${colour})`;
      key.append(line, `${label} `);
      const shown = document.createElement("b");
      shown.textContent = this.format(value);
      key.append(shown);
      return key;
    });
    if (at != null) keys.unshift(Object.assign(document.createElement("span"), { textContent: clock(series.at[place], series.step_s) }));
    this.output.replaceChildren(...keys);
    const text = parts.map(([label, value]) => `${label} ${this.format(value)}`).join(", ");
    if (at == null) this.place.setAttribute("aria-label", `${this.kind}, at the end: ${text}`);
  }
}

// The last points of all, put in the place of those of the same time or after them.
function merge(series, latest, length) {
  const names = Object.keys(series).filter((name) => Array.isArray(series[name]));
  latest.at.forEach((at, from) => {
    const place = series.at.indexOf(at);
    if (place < 0 && at < series.at.at(-1)) return;
    for (const name of names) {
      if (place >= 0) series[name][place] = latest[name][from];
      else series[name].push(latest[name][from]);
    }
  });
  for (const name of names) series[name].splice(0, Math.max(0, series[name].length - length));
}

export async function charts() {
  const section = document.querySelector("[data-charts]");
  const { range, queue, function: name } = section.dataset;
  const all = [...section.querySelectorAll("[data-chart]")].map((figure) => new Chart(figure));
  const query = new URLSearchParams({ range, queue, function: name });
  const read = async () => (await fetch(`${root}/api/charts?${query}`)).json();
  let series = await read();
  const length = series.at.length;
  const draw = () => all.forEach((chart) => chart.draw(series));
  draw();
  section.dataset.drawn = "yes";
  addEventListener("arqestra:theme", draw);
  let last = performance.now();
  addEventListener("arqestra:live", async ({ detail }) => {
    if (!queue && !name && LIVE_RANGES.includes(range)) {
      merge(series, detail.latest, length);
    } else {
      if (performance.now() - last < (SLOW_MS[range] ?? 30000)) return;
      last = performance.now();
      series = await read();
    }
    all.forEach((chart) => chart.update(series));
    section.dataset.updated = String(detail.now_ms);
  });
}

// Starts what the page at hand needs. Pages work without scripts; these make them live and quick to use.
import { watchTimes } from "./times.js";
import { follow, refreshRegions } from "./live.js";
import { keys } from "./keys.js";
import { selection } from "./selection.js";
import { theme } from "./theme.js";

theme();
watchTimes();
keys();
selection();
document.querySelector(".side [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
document.querySelector(".states [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
if (document.querySelector("[data-live-state]")) follow();
if (document.querySelector("[data-region]")) refreshRegions();
if (document.querySelector("[data-charts]")) import("./charts.js").then((module) => module.charts());
if (document.querySelector("[data-graph]")) import("./graph.js").then((module) => module.graph());

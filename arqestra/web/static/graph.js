// A flow's graph: laid out by dagre, drawn as SVG, coloured by states that are read again while the page is live.
import { root } from "./live.js";

/* global dagre */
const SVG = "http://www.w3.org/2000/svg";
const MARKS = { complete: "✓", failed: "✕", running: "▶", queued: "●", waiting: "…", aborted: "⊘", expired: "◴", upstream_failed: "⇡", skipped: "»" };
const ORDER = ["failed", "upstream_failed", "aborted", "expired", "running", "queued", "waiting", "complete", "skipped"];
const EVERY_MS = 1000;
const MOST_ALIKE = 12;

function make(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Many jobs that are alike (one function, the same jobs before and after) are drawn as one box that counts them.
function gathered(flow) {
  const before = new Map();
  const after = new Map();
  for (const edge of flow.edges) {
    before.set(edge.after, [...(before.get(edge.after) ?? []), edge.before]);
    after.set(edge.before, [...(after.get(edge.before) ?? []), edge.after]);
  }
  const alike = Map.groupBy(flow.nodes, (node) =>
    node.kind === "job" ? JSON.stringify([node.function, before.get(node.number), after.get(node.number)]) : node.number,
  );
  const nodes = [];
  const place = new Map();
  for (const group of alike.values()) {
    const parts = group.length > MOST_ALIKE ? [group] : group.map((node) => [node]);
    for (const members of parts) {
      nodes.push({ ...members[0], members });
      for (const member of members) place.set(member.number, members[0].number);
    }
  }
  const edges = new Map();
  for (const edge of flow.edges) {
    const [from, to] = [place.get(edge.before), place.get(edge.after)];
    edges.set(`${from} ${to}`, { before: from, after: to, on_error: edge.on_error });
  }
  return { nodes, edges: [...edges.values()] };
}

// The state of a box of many: what went wrong, else what goes on, else what is over.
function stateOf(members) {
  return ORDER.find((state) => members.some((node) => node.state === state)) ?? members[0].state;
}

function nameOf(node) {
  const name = shortened(node.function || node.kind);
  return node.members.length > 1 ? `${name} × ${node.members.length}` : name;
}

function wordsOf(node) {
  if (node.members.length === 1) return `${MARKS[node.state] ?? ""} ${node.state.replace("_", " ")}`;
  const counts = Map.groupBy(node.members, (each) => each.state);
  return [...counts].map(([state, each]) => `${MARKS[state] ?? ""} ${each.length}`).join("  ");
}

function shortened(text) {
  return text.length > 26 ? `${text.slice(0, 25)}…` : text;
}

function laidOut(flow) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: innerWidth < 760 ? "TB" : "LR", nodesep: 16, ranksep: 46, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of flow.nodes) {
    const width = node.kind === "join" ? 16 : Math.max(104, nameOf(node).length * 7.6 + 26);
    graph.setNode(String(node.number), { width, height: node.kind === "join" ? 16 : 44 });
  }
  for (const edge of flow.edges) graph.setEdge(String(edge.before), String(edge.after));
  dagre.layout(graph);
  return graph;
}

function drawnNode(node, at) {
  if (node.kind === "join") {
    return make("g", { class: "join", transform: `translate(${at.x},${at.y})` }, make("circle", { r: 6 }));
  }
  const name = make("text", { x: 0, y: -2, "text-anchor": "middle" });
  name.textContent = nameOf(node);
  const state = make("text", { x: 0, y: 14, "text-anchor": "middle", class: "sub" });
  const title = make("title", {});
  title.textContent = `${node.function} · ${node.job_id}`;
  const box = make("rect", { x: -at.width / 2, y: -at.height / 2, width: at.width, height: at.height, rx: 8 });
  const inner = [title, box, name, state];
  const link = make("a", { href: `${root}/job?${new URLSearchParams({ id: node.job_id, queue: node.queue })}` }, ...inner);
  const group = make("g", { class: "node", transform: `translate(${at.x},${at.y})`, "data-node": node.number }, node.kind === "job" ? link : inner[1]);
  if (node.kind !== "job") group.append(name, state);
  return group;
}

function draw(place, flow) {
  const graph = laidOut(flow);
  const { width, height } = graph.graph();
  const arrow = make("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, make("path", { d: "M0 0L8 4L0 8z" }));
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Graph of the flow; the table below tells the same" }, make("defs", {}, arrow));
  for (const edge of flow.edges) {
    const { points } = graph.edge(String(edge.before), String(edge.after));
    const path = points.map((point, at) => `${at ? "L" : "M"}${point.x} ${point.y}`).join("");
    svg.append(make("path", { d: path, class: edge.on_error ? "edge on_error" : "edge", "marker-end": "url(#arrow)" }));
  }
  for (const node of flow.nodes) svg.append(drawnNode(node, graph.node(String(node.number))));
  place.replaceChildren(svg);
}

function colour(place, flow) {
  for (const node of flow.nodes) {
    const group = place.querySelector(`[data-node="${node.number}"]`);
    if (!group) continue;
    group.setAttribute("class", `node s-${stateOf(node.members)}`);
    group.querySelector(".sub").textContent = wordsOf(node);
  }
}

export async function graph() {
  const place = document.querySelector("[data-graph]");
  const query = new URLSearchParams({ id: place.dataset.graph });
  const read = async () => (await fetch(`${root}/api/workflow?${query}`)).json();
  let known = "";
  const show = async () => {
    const answer = await read();
    if (!answer.nodes?.length) return;
    const flow = gathered(answer);
    const shape = JSON.stringify([flow.nodes.map((node) => node.number), flow.edges]);
    if (shape !== known) draw(place, flow);
    known = shape;
    colour(place, flow);
    place.dataset.drawn = "yes";
  };
  await show();
  let last = performance.now();
  addEventListener("arqestra:live", () => {
    if (performance.now() - last < EVERY_MS) return;
    last = performance.now();
    show().catch(() => {});
  });
}

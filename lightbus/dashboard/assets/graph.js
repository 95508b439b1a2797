// Who uses whom, drawn: services in ranks, calls from left to right, events dashed.

import { s } from "./dom.js";
import { duration, number, plural, rate } from "./format.js";
import { to } from "./parts.js";

const MOST = 40; // services that a picture can hold
const NODE = { width: 158, height: 50 };
const LEAST = 98; // pixels of width that a name can be read in

// How far each is from those that nobody uses: the longest way over the edges, those left out that close a circle.
function ranks(names, edges) {
  const before = new Map(names.map((name) => [name, []]));
  for (const edge of edges) if (edge.from !== edge.to) before.get(edge.to).push(edge.from);
  const rank = new Map();
  const path = new Set();
  const depth = (name) => {
    if (rank.has(name)) return rank.get(name);
    path.add(name);
    const users = before.get(name).filter((each) => !path.has(each)).map(depth);
    path.delete(name);
    rank.set(name, users.length ? 1 + Math.max(...users) : 0);
    return rank.get(name);
  };
  [...names].sort((a, b) => before.get(a).length - before.get(b).length || (a < b ? -1 : 1)).forEach(depth);
  return rank;
}

function layout(names, edges, isNarrow, room) {
  const rank = ranks(names, edges);
  const rows = [];
  for (const name of names) (rows[rank.get(name)] ??= []).push(name);
  const lines = rows.filter(Boolean);
  const order = new Map();
  lines.forEach((line) => {
    const weight = (name) => {
      const near = edges.filter((edge) => edge.to === name && order.has(edge.from)).map((edge) => order.get(edge.from));
      return near.length ? near.reduce((a, b) => a + b, 0) / near.length : 0;
    };
    line.sort((a, b) => weight(a) - weight(b) || (a < b ? -1 : 1)).forEach((name, index) => order.set(name, index - (line.length - 1) / 2));
  });
  const most = Math.max(...lines.map((line) => line.length), 1);
  NODE.width = isNarrow ? Math.max(LEAST, Math.min(158, room / most - 12)) : 158;
  const [along, across] = isNarrow ? [124, NODE.width + 12] : [Math.min(NODE.width + 190, Math.max(NODE.width + 96, (room - NODE.width - 20) / Math.max(1, lines.length - 1))), NODE.height + 54];
  const places = new Map();
  lines.forEach((line, index) => line.forEach((name) => {
    const side = (order.get(name) + (most - 1) / 2) * across;
    const way = index * along;
    places.set(name, isNarrow ? [side + 8, way + 26] : [way + 8, side + 26]);
  }));
  const length = (lines.length - 1) * along;
  const breadth = (most - 1) * across;
  const [width, height] = isNarrow ? [breadth + NODE.width + 16, length + NODE.height + 52] : [length + NODE.width + 16, breadth + NODE.height + 52];
  return { places, width, height, isTight: isNarrow || along - NODE.width < 140 };
}

function curve([x1, y1], [x2, y2], isNarrow, lane) {
  const { width, height } = NODE;
  const shift = lane * 11;
  if (x1 === x2 && y1 === y2) {
    const x = x1 + width / 2;
    return { d: `M${x - 24} ${y1}C${x - 30} ${y1 - 28} ${x + 30} ${y1 - 28} ${x + 24} ${y1}`, at: () => [x, y1 - 24] };
  }
  const ahead = isNarrow ? y2 > y1 : x2 > x1;
  const a = isNarrow ? [x1 + width / 2 + shift * 2, ahead ? y1 + height : y1] : [ahead ? x1 + width : x1, y1 + height / 2 + shift];
  const b = isNarrow ? [x2 + width / 2 + shift * 2, ahead ? y2 : y2 + height] : [ahead ? x2 : x2 + width, y2 + height / 2 + shift];
  const same = isNarrow ? y1 === y2 : x1 === x2;
  if (same) { // neighbours of one rank: around the outside
    const bend = isNarrow ? [0, -34] : [54, 0];
    const from = isNarrow ? [a[0], y1] : [x1 + width, a[1]];
    const end = isNarrow ? [b[0], y2] : [x2 + width, b[1]];
    return bent(from, [from[0] + bend[0], from[1] + bend[1]], [end[0] + bend[0], end[1] + bend[1]], end);
  }
  const pull = (isNarrow ? b[1] - a[1] : b[0] - a[0]) * 0.45;
  return isNarrow ? bent(a, [a[0], a[1] + pull], [b[0], b[1] - pull], b) : bent(a, [a[0] + pull, a[1]], [b[0] - pull, b[1]], b);
}

// A curve between two points, drawn to two others, and the point at a share of its way.
function bent(a, c, e, b) {
  const point = (t, axis) => (1 - t) ** 3 * a[axis] + 3 * (1 - t) ** 2 * t * c[axis] + 3 * (1 - t) * t ** 2 * e[axis] + t ** 3 * b[axis];
  return { d: `M${a}C${c} ${e} ${b}`, at: (t) => [point(t, 0), point(t, 1)] };
}

const pen = document.createElement("canvas").getContext("2d");
const [NAME, NOTE, LABEL] = ["600 13.5px", "11.5px", "11px"]; // as app.css has them

function widthOf(text, font) {
  pen.font = `${font} ${getComputedStyle(document.documentElement).fontFamily}`;
  return pen.measureText(text).width;
}

// As much of a text as there is room for, in pixels.
function fit(text, room, font) {
  let shown = text;
  for (let length = text.length - 1; length > 0 && widthOf(shown, font) > room; length -= 1) shown = `${text.slice(0, length)}…`;
  return shown;
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// How long what goes over an edge takes: the p99 of this caller's calls, or of the time from firing an event until it
// was handled; and how many events are not handled yet.
export const slowness = (edge) => {
  const slowest = Math.max(0, ...edge.names.map((each) => each.p99 ?? 0));
  const none = edge.lag === 0 && !slowest ? "none waiting" : "";
  return [slowest ? `p99 ${duration(slowest)}` : "", edge.lag ? `${number(edge.lag)} waiting` : none].filter(Boolean).join(" · ");
};

export const said = (edge) => {
  const what = edge.names.length === 1 ? edge.names[0].name : plural(edge.names.length, edge.kind === "calls" ? "procedure" : "event");
  return [what, rate(edge.rate), slowness(edge), edge.errors ? `${rate(edge.errors)} errors` : ""].filter(Boolean);
};

const GAP = 8; // pixels that are left free beside a label
const LINES = [0, 18, 30, 42]; // where its lines are
const ALONG = [0.5, 0.4, 0.6, 0.3, 0.7, 0.22, 0.78, 0.15, 0.85]; // shares of an edge's way at which its label may be

// What is written on an edge: its name, how often, how long it takes where there is room for that, and errors.
function label(edge, { isTight, isNarrow }) {
  const [what, often] = said(edge);
  const slow = isNarrow ? "" : slowness(edge).replace("none waiting", "");
  const lines = [cut(what.split(".").slice(-1)[0], 20), ...(isTight ? [often, slow] : [[often, slow].filter(Boolean).join(" · ")])];
  return [...lines, edge.errors > 0 ? said(edge).at(-1) : ""].filter(Boolean);
}

const meet = (one, other) => one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];

// Where the label of an edge is written: where it lies on nothing else, or, where there is no such place, nowhere.
function placed(lines, at, taken, width) {
  const half = Math.max(...lines.map((each) => widthOf(each, LABEL))) / 2;
  for (const share of ALONG) {
    const [middle, y] = at(share);
    const x = Math.max(half, Math.min(width - half, middle));
    const box = [x - half - GAP, y - 16, x + half + GAP, y + LINES[lines.length - 1] - 3];
    if (taken.some((each) => meet(box, each))) continue;
    taken.push(box);
    return [x, y - 6];
  }
  return null;
}

function drawnEdge(edge, { d, at }, look, taken, width) {
  const tone = `${edge.kind}${edge.errors ? " failing" : ""}${edge.rate ? "" : " idle"}`;
  const words = said(edge);
  const about = `${edge.from} ${edge.kind === "calls" ? "calls" : "tells"} ${edge.to}: ${words.join(", ")}`;
  let lines = label(edge, look);
  let place = placed(lines, at, taken, width);
  if (!place) { // in less room
    lines = label(edge, { ...look, isNarrow: true });
    place = placed(lines, at, taken, width);
  }
  const line = (index, tone) => lines[index] && s("text", { class: tone, x: place[0], y: place[1] + LINES[index], "text-anchor": "middle" }, lines[index]);
  return s("g", { class: `edge ${tone}`, key: `${edge.kind}>${edge.from}>${edge.to}` },
    s("title", {}, about),
    s("path", { class: "edge-line", d, "stroke-width": (1.2 + Math.min(3.4, Math.log10(1 + edge.rate))).toFixed(2), "marker-end": `url(#arrow-${edge.errors ? "failing" : edge.kind})` }),
    place && lines.map((_, index) => line(index, !index ? "edge-label" : edge.errors > 0 && index === lines.length - 1 ? "edge-rate bad" : "edge-rate")));
}

function drawnNode(service, place) {
  const [x, y] = place;
  const isDown = !service || service.up < service.processes;
  const name = service.name;
  const note = service.processes && NODE.width < 140 ? rate(service.calls + service.handled) : service.processes ? `${plural(service.processes, "process", "processes")} · ${rate(service.calls + service.handled)}` : "only calls";
  const shown = fit(name, NODE.width - 36, NAME);
  const title = [shown === name ? "" : name, ...service.problems].filter(Boolean).join("\n");
  const tone = service.errors || service.stopped.length ? "bad" : isDown || service.problems.length ? "warn" : "good";
  return s("a", { href: `#/${to("service", name)}`, class: "node", key: name, "aria-label": `Service ${name}, ${note}` },
    title && s("title", {}, title),
    s("rect", { x, y, rx: 10, width: NODE.width, height: NODE.height }),
    s("circle", { class: `dot ${service.processes ? tone : "plain"}`, cx: x + 16, cy: y + 19, r: 4.5 }),
    s("text", { class: "node-name", x: x + 28, y: y + 23 }, shown),
    s("text", { class: "node-note", x: x + 16, y: y + 40 }, fit(note, NODE.width - 24, NOTE)));
}

export function topology(services, edges, room) {
  const isNarrow = room < 640;
  const known = new Map(services.map((each) => [each.name, each]));
  for (const name of edges.flatMap((edge) => [edge.from, edge.to])) {
    if (!known.has(name)) known.set(name, { name, processes: 0, up: 0, calls: 0, handled: 0, errors: 0, stopped: [], problems: [] });
  }
  const busy = (name) => known.get(name).calls + known.get(name).handled;
  const names = [...known.keys()].sort((a, b) => busy(b) - busy(a) || (a < b ? -1 : 1)).slice(0, MOST).sort();
  const drawn = edges.filter((edge) => names.includes(edge.from) && names.includes(edge.to));
  const { places, width, height, isTight } = layout(names, drawn, isNarrow, room);
  const lanes = new Map();
  const taken = [...places.values()].map(([x, y]) => [x, y, x + NODE.width, y + NODE.height]); // nothing is written there
  const shapes = drawn.map((edge) => {
    const pair = [edge.from, edge.to].sort().join("\n");
    const count = lanes.get(pair) ?? 0;
    lanes.set(pair, count + 1);
    const alone = drawn.filter((each) => [each.from, each.to].sort().join("\n") === pair).length === 1;
    const lane = alone ? 0 : count % 2 ? 1 + Math.floor(count / 2) : -1 - Math.floor(count / 2);
    return drawnEdge(edge, curve(places.get(edge.from), places.get(edge.to), isNarrow, lane), { isTight, isNarrow }, taken, width);
  });
  const arrow = (tone) => s("marker", { id: `arrow-${tone}`, class: `arrow ${tone}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" }, s("path", { d: "M0 0L8 4L0 8Z" }));
  const picture = s("svg", { class: `topology${width < room * 1.4 ? " fits" : ""}`, viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Who uses whom" },
    s("defs", {}, ["calls", "listens", "failing"].map(arrow)), shapes, names.map((name) => drawnNode(known.get(name), places.get(name))));
  return { picture, left: known.size - names.length };
}

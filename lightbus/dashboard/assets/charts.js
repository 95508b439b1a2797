// Curves. A sparkline says how it goes; a chart also how much.

import { h, s } from "./dom.js";
import { number, plural } from "./format.js";

export const ROUNDS = 150; // that the server remembers
const SPARK = 60; // of these in a table's curve
export const CURVE = "curve"; // the title of a table's column of curves, until it is known how long a round is

// A table's columns, the title of its curves saying how far back they reach.
export const over = (columns, every = 2, slots = SPARK) =>
  columns.map((each) => (each.title === CURVE ? { ...each, title: plural(Math.round((slots * every) / 60), "minute") } : each));

const line = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function placed(values, width, height, slots, top) {
  const highest = Math.max(top ?? 0, ...values, 1e-9);
  const step = width / Math.max(1, slots - 1);
  const first = width - (values.length - 1) * step;
  return values.map((value, index) => [first + index * step, height - 2 - (value / highest) * (height - 5)]);
}

export function spark(values, { width = 120, height = 28, slots = SPARK, tone = "calls", label = "" } = {}) {
  const points = placed(values.slice(-slots), width, height, slots);
  const name = label || `curve, now ${number(values.at(-1) ?? 0)}`;
  const box = { class: `spark ${tone}`, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name, preserveAspectRatio: "none" };
  if (points.length < 2) return s("svg", box, s("path", { class: "line", d: `M0 ${height - 2}H${width}` }));
  const d = line(points);
  return s("svg", box,
    s("path", { class: "area", d: `${d}L${width} ${height}L${points[0][0].toFixed(1)} ${height}Z` }),
    s("path", { class: "line", d }));
}

export function chart(title, curves, { seconds = 2, slots = ROUNDS } = {}) {
  const [width, height] = [600, 120];
  const highest = Math.max(1, ...curves.flatMap((each) => each.values));
  const paths = curves.map(({ values, tone }) => {
    const points = placed(values, width, height, slots, highest);
    return points.length < 2 ? null : s("path", { class: `line ${tone}`, d: line(points) });
  });
  const legend = curves.map(({ name, values, tone }) =>
    h("span", { class: `legend ${tone}` }, name, " ", h("b", {}, number(values.at(-1) ?? 0))));
  return h("figure", { class: "chart" },
    h("figcaption", {}, h("span", {}, title), h("span", { class: "legends" }, legend)),
    h("div", { class: "chart-body" },
      s("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}, highest ${number(highest)}` },
        s("path", { class: "grid", d: `M0 2H${width}M0 ${height / 2}H${width}M0 ${height - 2}H${width}` }), paths),
      h("span", { class: "axis top" }, number(highest)),
      h("span", { class: "axis bottom" }, "0")),
    h("div", { class: "axis-x" }, h("span", {}, `${Math.round((slots * seconds) / 60)} min ago`), h("span", {}, "now")));
}

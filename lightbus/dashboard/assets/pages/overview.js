import { spark } from "../charts.js";
import { h } from "../dom.js";
import { duration, number, plural, rate } from "../format.js";
import { said, slowness, topology } from "../graph.js";
import { COMMANDS, badge, card, empty, findings, heading, link, table, tile, to } from "../parts.js";

export const STREAM = "overview";

const NAMES = 10; // of one edge that are listed
let isOpen = false; // the table of edges

const COLUMNS = [
  { title: "Service", cell: (row) => link(to("service", row.name), row.name), sort: (row) => row.name },
  { title: "Processes", right: true, cell: (row) => (row.up < row.processes ? badge(`${row.up} of ${row.processes}`, "warn") : row.processes), sort: (row) => row.processes },
  { title: "Hosts", wide: true, cell: (row) => row.hosts.join(", "), sort: (row) => row.hosts.join() },
  { title: "Calls", right: true, cell: (row) => rate(row.calls), sort: (row) => row.calls },
  { title: "p99", right: true, cell: (row) => duration(row.p99), sort: (row) => row.p99 },
  { title: "Errors", right: true, cell: (row) => (row.errors ? badge(rate(row.errors), "bad") : "0"), sort: (row) => row.errors },
  { title: "Queued", right: true, cell: (row) => number(row.queued), sort: (row) => row.queued },
  { title: "Published", right: true, cell: (row) => rate(row.published), sort: (row) => row.published },
  { title: "Handled", right: true, cell: (row) => rate(row.handled), sort: (row) => row.handled },
];

const EDGES = [
  { title: "From", cell: (row) => row.from, sort: (row) => row.from },
  { title: "To", cell: (row) => row.to, sort: (row) => row.to },
  { title: "What", cell: (row) => named(row.names), sort: (row) => row.names[0].name },
  { title: "Kind", cell: (row) => badge(row.kind === "calls" ? "call" : "event", row.kind), sort: (row) => row.kind },
  { title: "Rate", right: true, cell: (row) => rate(row.rate), sort: (row) => row.rate },
  { title: "Latency", right: true, cell: (row) => slowness(row) || "–" },
  { title: "Errors", right: true, cell: (row) => rate(row.errors), sort: (row) => row.errors },
];

function named(names) {
  const shown = names.length > NAMES ? [...names].sort((a, b) => b.rate - a.rate || b.count - a.count).slice(0, NAMES) : names;
  return [
    shown.map((each) => h("div", {}, each.name, h("span", { class: "dim" }, ` ${number(each.count)} in total`))),
    names.length > NAMES && h("div", { class: "dim" }, `and ${number(names.length - NAMES)} more`),
  ];
}

export function render(data, context) {
  const { totals, curves } = data;
  if (!data.services.length) return [heading("Overview"), wrong(data), nobody(context)];
  const { picture, left } = topology(data.services, data.edges, room());
  return [
    heading("Overview", h("span", { class: "dim" }, context.about.where)),
    wrong(data),
    h("div", { class: "tiles" },
      tile("Calls", rate(totals.calls), { curve: spark(curves.calls, { slots: 150, label: "Calls per second" }), tone: "calls" }),
      tile("Errors", rate(totals.errors), { curve: spark(curves.errors, { slots: 150, tone: "errors", label: "Errors per second" }), tone: totals.errors ? "bad" : "" }),
      tile("Events fired", rate(totals.events), { curve: spark(curves.published, { slots: 150, tone: "events", label: "Events per second" }) }),
      tile("Waiting events", number(totals.lag), { curve: spark(curves.lag, { slots: 150, tone: "lag", label: "Waiting events" }) }),
      tile("Dead letters", totals.dead ? link("dead", number(totals.dead)) : "0", { note: totals.dead ? "given up by a group" : "none", tone: totals.dead ? "bad" : "" }),
      tile("Processes", number(totals.processes), { note: `${plural(totals.services, "service")} on ${plural(totals.hosts, "host")}` })),
    card("Who uses whom",
      h("div", { class: "picture", tabindex: "0", role: "region", "aria-label": "Who uses whom" }, picture),
      h("p", { class: "key dim" }, h("span", { class: "key-line calls" }, "calls"), h("span", { class: "key-line listens" }, "events"), h("span", { class: "key-line failing" }, "with errors"),
        left > 0 && ` The ${plural(left, "service")} with the least to do are not drawn.`),
      clients(data.clients),
      h("details", { ontoggle: (event) => { isOpen = event.target.open; context.redraw(); } }, h("summary", {}, "As a table"), isOpen && table("edges", EDGES, data.edges, { id: (row) => `${row.kind}>${row.from}>${row.to}`, caption: "Who uses whom", none: "No service has used another one yet.", filter: (row) => `${row.from} ${row.to} ${said(row)[0]}` }))),
    card("Services", table("services", COLUMNS, data.services, { id: (row) => row.name, caption: "Services", filter: (row) => row.name })),
  ];
}

// Who is connected without being a worker: services of which nothing else may be known.
function clients(counts) {
  const names = Object.keys(counts);
  if (!names.length) return null;
  const named = (name) => (name === COMMANDS ? "other commands and dashboards" : name);
  return h("p", { class: "dim" }, "Connected, and not workers: ", names.map((name) => `${named(name)} (${plural(counts[name], "process", "processes")})`).join(", "), ".");
}

function room() {
  const main = document.getElementById("main");
  const style = getComputedStyle(main);
  return main.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - 40;
}

function wrong(data) {
  if (!data.examined) return h("div", { class: "finding plain" }, h("span", { class: "finding-mark", "aria-hidden": "true" }, "…"), h("div", {}, "Looking for problems …"));
  return h("section", { "aria-label": "What is wrong" }, findings(data.findings, { none: "No problem was found by lightbus doctor." }));
}

const nobody = (context) => empty(`Nobody is on the bus “${context.about.bus}”.`,
  h("p", { class: "dim" }, "Start a worker (lightbus run), as this user, with the same LIGHTBUS_BUS and LIGHTBUS_SECURITY. It appears here as soon as it is there."));

import { CURVE, over, spark } from "../charts.js";
import { h } from "../dom.js";
import { duration, number, plural, rate, short } from "../format.js";
import { COMMANDS, badge, card, empty, findings, heading, link, state, table, tile, to } from "../parts.js";

export const STREAM = "service";

const PROCESSES = [
  { title: "Process", cell: (row) => [row.process, h("span", { class: "dim" }, ` ${short(row.instance)}`)], sort: (row) => row.process },
  { title: "Host", cell: (row) => `${row.host}${row.pid ? `, pid ${row.pid}` : ""}`, sort: (row) => row.host },
  { title: "State", cell: (row) => state(row.state), sort: (row) => row.state },
  { title: "Version", wide: true, cell: (row) => row.version ?? "–", sort: (row) => row.version },
  { title: "Calls", right: true, cell: (row) => rate(row.load?.calls), sort: (row) => row.load?.calls },
  { title: "p99", right: true, cell: (row) => duration(row.load?.p99), sort: (row) => row.load?.p99 },
  { title: "Running", right: true, cell: (row) => `${number(row.running)} of ${number(row.concurrency)}`, sort: (row) => row.running },
  { title: "Queue", right: true, cell: (row) => number(row.queued), sort: (row) => row.queued },
  { title: "Events", right: true, cell: (row) => rate(row.load?.events), sort: (row) => row.load?.events },
  { title: "Waiting", right: true, cell: (row) => number(row.load?.lag), sort: (row) => row.load?.lag },
];

const PROCEDURES = [
  { title: "Procedure", cell: (row) => link(to("apis", row.name.slice(0, row.name.lastIndexOf("."))), row.name), sort: (row) => row.name },
  { title: "Calls", right: true, cell: (row) => rate(row.rate), sort: (row) => row.rate },
  { title: CURVE, wide: true, cell: (row) => spark(row.curve, { label: `${row.name}: calls per second` }) },
  { title: "p50", right: true, cell: (row) => duration(row.p50), sort: (row) => row.p50 },
  { title: "p99", right: true, cell: (row) => duration(row.p99), sort: (row) => row.p99 },
  { title: "Total", right: true, cell: (row) => number(row.calls), sort: (row) => row.calls },
  { title: "Errors", right: true, cell: (row) => (row.errors ? badge(number(row.errors), "bad") : "0"), sort: (row) => row.errors },
  { title: "Callers", wide: true, cell: (row) => Object.keys(row.callers).filter((each) => each !== COMMANDS).sort().join(", ") || "–" },
];

const LISTENERS = [
  { title: "Listener", cell: (row) => row.name, sort: (row) => row.name },
  { title: "Events", cell: (row) => row.events.map((each) => `${row.api}.${each}`).join(", "), sort: (row) => row.api },
  { title: "Group", cell: (row) => (row.group ? link(to("groups", row.api, row.group), row.group) : "none: each process gets all"), sort: (row) => row.group },
  { title: "Handled", right: true, cell: (row) => rate(row.rate), sort: (row) => row.rate },
  { title: CURVE, wide: true, cell: (row) => spark(row.curve, { tone: "events", label: `${row.name}: events per second` }) },
  { title: "Lag", right: true, cell: (row) => number(row.lag), sort: (row) => row.lag },
  { title: "Waiting here", right: true, cell: (row) => number(row.waiting), sort: (row) => row.waiting },
  { title: "Failed", right: true, cell: (row) => (row.failed ? badge(number(row.failed), "bad") : "0"), sort: (row) => row.failed },
  { title: "State", cell: (row) => (row.stopped ? badge("stopped", "bad") : badge("runs", "good")) },
];

const EVENTS = [
  { title: "Event", cell: (row) => row.name, sort: (row) => row.name },
  { title: "Fired", right: true, cell: (row) => rate(row.rate), sort: (row) => row.rate },
  { title: CURVE, wide: true, cell: (row) => spark(row.curve, { tone: "events", label: `${row.name}: events per second` }) },
  { title: "Total", right: true, cell: (row) => number(row.count), sort: (row) => row.count },
];

export function render(data) {
  const up = data.processes.filter((each) => each.state === "up");
  const sum = (pick) => up.reduce((all, each) => all + (pick(each) ?? 0), 0);
  const head = heading(data.service, link("overview", "Overview"));
  if (!data.processes.length) return [head, findings(data.problems), empty(`No worker of “${data.service}” is on the bus.`, h("p", { class: "dim" }, "A program that only calls and fires, such as a script, a web process or a gateway, is not a worker, and tells nothing about itself."))];
  return [
    head,
    findings(data.problems),
    h("div", { class: "tiles" },
      tile("Processes", number(up.length), { note: plural(new Set(data.processes.map((each) => each.host)).size, "host") }),
      tile("Calls", rate(sum((each) => each.load?.calls))),
      tile("Running", number(sum((each) => each.running)), { note: `${number(sum((each) => each.concurrency))} may run at a time` }),
      tile("Queue", number(sum((each) => each.queued)))),
    card("Processes", table("processes", PROCESSES, data.processes, { id: (row) => row.instance, caption: "Processes", filter: (row) => `${row.process} ${row.host}` })),
    card("Procedures", table("procedures", over(PROCEDURES, data.every), data.procedures, { id: (row) => row.name, caption: "Procedures", none: "It serves none, or none was called yet.", filter: (row) => row.name })),
    card("Listeners", table("listeners", over(LISTENERS, data.every), data.listeners, { id: (row) => `${row.api} ${row.name}`, caption: "Listeners", none: "It listens to nothing.", filter: (row) => `${row.api} ${row.name}` })),
    card("Events it fires", table("fires", over(EVENTS, data.every), data.events, { id: (row) => row.name, caption: "Events it fires", none: "It has fired none yet.", filter: (row) => row.name })),
  ];
}

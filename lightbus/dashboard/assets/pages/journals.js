import { h } from "../dom.js";
import { ago, bytes, number, short } from "../format.js";
import { ask, badge, card, findings, heading, silence, table, tile } from "../parts.js";

export const STREAM = "journals";

let oldest = {};
let timer = null;

export function enter(context) {
  const look = () => ask("/api/oldest").then((told) => { oldest = told.oldest; context.redraw(); }, () => {});
  look();
  timer = setInterval(look, 10000);
}

export const leave = () => clearInterval(timer);

const share = (row) => (row.max_events ? Math.max(row.events / row.max_events, row.bytes / row.max_bytes) : 0);

const COLUMNS = [
  { title: "Publisher", cell: (row) => [row.publisher, h("span", { class: "dim" }, ` ${short(row.instance)}`)], sort: (row) => row.publisher },
  { title: "Events", right: true, cell: (row) => number(row.events), sort: (row) => row.events },
  { title: "Size", right: true, cell: (row) => bytes(row.bytes), sort: (row) => row.bytes },
  { title: "Full", cell: (row) => (row.max_events ? h("span", { class: "fill" }, h("meter", { min: 0, max: 1, low: 0.75, high: 0.9, optimum: 0, value: share(row).toFixed(3), "aria-label": "How full it is" }), ` ${Math.round(share(row) * 100)} %`) : "–"), sort: share },
  { title: "Limit", wide: true, right: true, cell: (row) => (row.max_events ? `${number(row.max_events)} events, ${bytes(row.max_bytes)}` : "–"), sort: (row) => row.max_events },
  { title: "Oldest event", right: true, cell: (row) => ago(oldest[row.journal], Date.now() / 1000), sort: (row) => oldest[row.journal] },
  { title: "Lost", right: true, cell: (row) => (row.lost.length ? badge(number(row.lost.reduce((all, each) => all + each.count, 0)), "bad") : "0"), sort: (row) => row.lost.length },
  { title: "Where", wide: true, cell: (row) => h("code", {}, row.path), sort: (row) => row.path },
];

export function render(data) {
  const { journals } = data;
  const sum = (pick) => journals.reduce((all, each) => all + pick(each), 0);
  return [
    heading("Journals and backends"),
    silence(data.silent),
    findings(data.findings, data.silent?.length ? {} : { none: "No event was lost, and none waits in an outbox that no worker delivers." }),
    h("div", { class: "tiles" },
      tile("Journals", number(journals.length)),
      tile("Events stored", number(sum((each) => each.events))),
      tile("On disk", bytes(sum((each) => each.bytes)))),
    card("Where events are stored", table("journals", COLUMNS, journals, { id: (row) => `${row.instance} ${row.journal} ${row.path}`, caption: "Journals", none: "No worker stores events.", filter: (row) => `${row.publisher} ${row.path}` })),
  ];
}

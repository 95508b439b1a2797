import { h } from "../dom.js";
import { duration, number, rate, short } from "../format.js";
import { badge, card, findings, heading, link, state, table, tile, to, words } from "../parts.js";

export const STREAM = "peers";

const clock = (skew) => {
  if (skew === null || skew === undefined) return "–";
  if (Math.abs(skew) < 0.05) return "in step";
  return badge(`${duration(Math.abs(skew))} ${skew > 0 ? "ahead" : "behind"}`, Math.abs(skew) > 1 ? "bad" : "plain");
};

const COLUMNS = [
  { title: "Service", cell: (row) => link(to("service", row.service), row.service), sort: (row) => row.service },
  { title: "Process", cell: (row) => [row.process, h("span", { class: "dim" }, ` ${short(row.instance)}`)], sort: (row) => row.process },
  { title: "State", cell: (row) => [state(row.state), row.why.map((each) => h("div", { class: "dim", key: each.text }, words(`${each.text} ${each.remedy}`)))], sort: (row) => row.state },
  { title: "Host", cell: (row) => row.host, sort: (row) => row.host },
  { title: "Address", wide: true, cell: (row) => row.endpoint ?? "this host only", sort: (row) => row.endpoint },
  { title: "APIs", wide: true, cell: (row) => (row.apis.length ? row.apis.map((each, index) => [index ? ", " : "", link(to("apis", each), each)]) : "–"), sort: (row) => row.apis.join() },
  { title: "Calls", right: true, cell: (row) => rate(row.calls), sort: (row) => row.calls },
  { title: "Round trip", right: true, cell: (row) => duration(row.rtt), sort: (row) => row.rtt },
  { title: "Clock", right: true, cell: (row) => clock(row.skew), sort: (row) => Math.abs(row.skew ?? 0) },
  { title: "Up for", right: true, cell: (row) => duration(row.uptime), sort: (row) => row.uptime },
  { title: "Version", wide: true, cell: (row) => row.version ?? "–", sort: (row) => row.version },
  { title: "Found by", wide: true, cell: (row) => row.found_by, sort: (row) => row.found_by },
];

export function render(data) {
  const { peers } = data;
  const silent = peers.filter((each) => each.rtt === null);
  return [
    heading("Peers"),
    findings(peers.flatMap((each) => each.why)),
    h("div", { class: "tiles" },
      tile("Answer", number(peers.length - silent.length)),
      tile("Do not answer", number(silent.length), { tone: silent.length ? "bad" : "" }),
      tile("Hosts", number(new Set(peers.map((each) => each.host)).size)),
      tile("Slowest answer", duration(Math.max(0, ...peers.map((each) => each.rtt ?? 0)) || null))),
    card("All known peers", table("peers", COLUMNS, peers, { id: (row) => row.instance, caption: "Peers", none: "Nobody is on the bus.", filter: (row) => `${row.service} ${row.process} ${row.host} ${row.state} ${row.apis}` })),
  ];
}

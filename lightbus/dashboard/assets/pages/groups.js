import { CURVE, ROUNDS, chart, over, spark } from "../charts.js";
import { h } from "../dom.js";
import { duration, number, plural, short } from "../format.js";
import { ask, badge, card, confirmed, empty, findings, heading, silence, state, table, tile, toast } from "../parts.js";

export const STREAM = "groups";

let chosen = null;

const COLUMNS = [
  { title: "Group", cell: (row) => h("button", { type: "button", class: "link", "aria-expanded": chosen === id(row) ? "true" : "false", onclick: () => choose(row) }, row.name), sort: (row) => row.name },
  { title: "API", cell: (row) => row.api, sort: (row) => row.api },
  { title: "Events", wide: true, cell: (row) => row.events.join(", "), sort: (row) => row.events.join() },
  { title: "State", cell: (row) => state(row.state), sort: (row) => row.state },
  { title: "Members", right: true, cell: (row) => number(row.members.length), sort: (row) => row.members.length },
  { title: "Lag", right: true, cell: (row) => number(row.lag), sort: (row) => row.lag },
  { title: CURVE, wide: true, cell: (row) => spark(row.curve, { slots: ROUNDS, tone: "lag", label: `${row.name}: waiting events` }) },
  { title: "Dead", right: true, cell: (row) => (row.dead ? badge(number(row.dead), "bad") : "0"), sort: (row) => row.dead },
  { title: "Lost", right: true, cell: (row) => (row.lost ? badge(number(row.lost), "bad") : "0"), sort: (row) => row.lost },
  { title: "Last seen", right: true, cell: (row) => (row.members.length ? "now" : `${duration(-row.last_seen)} ago`), sort: (row) => row.last_seen },
];

const MEMBERS = [
  { title: "Member", cell: (row) => [row.process || "gone", h("span", { class: "dim" }, ` ${short(row.instance)}`)], sort: (row) => row.process },
  { title: "Partitions", right: true, cell: (row) => number(row.partitions.length), sort: (row) => row.partitions.length },
  { title: "Which", wide: true, cell: (row) => ranges(row.partitions) },
];

const PUBLISHERS = [
  { title: "Publisher", cell: (row) => [row.publisher, h("span", { class: "dim" }, ` ${short(row.instance)}`)], sort: (row) => row.publisher },
  { title: "Lag", right: true, cell: (row) => number(row.lag), sort: (row) => row.lag },
  { title: "Acks", right: true, cell: (row) => number(row.acks), sort: (row) => row.acks },
  { title: "Dead", right: true, cell: (row) => number(row.dead), sort: (row) => row.dead },
  { title: "Lost", right: true, cell: (row) => number(row.lost), sort: (row) => row.lost },
];

const id = (row) => `${row.api} ${row.name}`;
let redraw = () => {};

// A link from another page names the group: its API and its own name.
export function enter(context) {
  chosen = context.name ? context.name.replace("/", " ") : null;
}

function choose(row) {
  chosen = chosen === id(row) ? null : id(row);
  redraw();
}

function ranges(numbers) {
  const found = [];
  for (const each of numbers) {
    const last = found.at(-1);
    if (last && last[1] === each - 1) last[1] = each;
    else found.push([each, each]);
  }
  return found.map(([from, end]) => (from === end ? `${from}` : `${from}–${end}`)).join(", ") || "none";
}

export function render(data, context) {
  redraw = context.redraw;
  const { groups } = data;
  if (!groups.length) return [heading("Groups"), silence(data.silent), empty("There is no consumer group.", h("p", { class: "dim" }, "A service that listens to an event makes one: bus.auth.user_registered.listen(handler)"))];
  const wrong = groups.flatMap((each) => each.why);
  const behind = groups.filter((each) => each.lag);
  const shown = groups.find((each) => id(each) === chosen);
  return [
    heading("Groups"),
    silence(data.silent),
    findings(wrong, data.silent?.length ? {} : { none: "Every group handles its events." }),
    h("div", { class: "tiles" },
      tile("Groups", number(groups.length)),
      tile("Behind", number(behind.length), { note: behind.length ? "have events that wait" : "no event waits" }),
      tile("Waiting events", number(groups.reduce((all, each) => all + each.lag, 0)))),
    card("Consumer groups", table("groups", over(COLUMNS, data.every, ROUNDS), groups, { id, caption: "Consumer groups", filter: (row) => `${row.api} ${row.name} ${row.events}` })),
    shown && detail(shown, data.every, context),
  ];
}

function detail(group, every, context) {
  const remove = async () => {
    if (!(await confirmed(`Forget the group ${group.name} of ${group.api}? Events that wait for it are not delivered any more.`))) return;
    await ask("/api/actions/remove-group", { api: group.api, group: group.name }).then(
      (told) => toast(`${plural(told.publishers, "publisher")} forgot it${told.silent.length ? `; no answer came from ${told.silent.join(", ")}` : ""}.`, told.silent.length ? "bad" : "good"), (error) => toast(error.message, "bad"));
  };
  return h("section", { class: "card", key: `detail-${id(group)}`, "aria-label": `Group ${group.name}` },
    h("h2", {}, group.name, h("span", { class: "dim" }, ` of ${group.api}`)),
    findings(group.why),
    chart("Waiting events", [{ name: "lag", values: group.curve, tone: "lag" }], { seconds: every }),
    h("h3", {}, "Members"), table("members", MEMBERS, group.members, { id: (row) => row.instance, caption: "Members", none: "No process handles its events now." }),
    h("h3", {}, "At its publishers"), table("group-publishers", PUBLISHERS, group.publishers, { id: (row) => row.instance, caption: "At its publishers" }),
    context.about.actions && h("div", { class: "buttons" }, h("button", { type: "button", class: "danger", onclick: remove }, "Forget this group")));
}

import { CURVE, chart, over, spark } from "../charts.js";
import { h, once, show } from "../dom.js";
import { parseTold, stringify } from "../exact.js";
import { bytes, clock, json, number, plural, rate, short } from "../format.js";
import { ask, badge, card, empty, heading, link, silence, table, to, whySilent } from "../parts.js";
import { stream } from "../streams.js";

export const STREAM = "events";

const KEPT = 150;
let rows = [];
let held = 0; // came while it was paused
let passed = 0;
let paused = false;
let live = null;
let filter = { pattern: "", text: "" };
let opened = null; // the event whose way is shown
let fate = null;
let timer = null;
let found = null; // by the search in stored events
let trouble = ""; // why no events come
let due = false; // the list is drawn before the next frame
let redraw = () => {};

const RATES = [
  { title: "Event", cell: (row) => row.name, sort: (row) => row.name },
  { title: "Service", cell: (row) => link(to("service", row.service), row.service), sort: (row) => row.service },
  { title: "Fired", right: true, cell: (row) => rate(row.rate), sort: (row) => row.rate },
  { title: CURVE, wide: true, cell: (row) => spark(row.curve, { tone: "events", label: `${row.name}: events per second` }) },
  { title: "Total", right: true, cell: (row) => number(row.count), sort: (row) => row.count },
  { title: "Bytes", right: true, cell: (row) => bytes(row.bytes), sort: (row) => row.bytes },
];

export function enter(context) {
  redraw = context.redraw;
  [rows, held, passed, opened, fate, found] = [[], 0, 0, null, null, null];
  trouble = "";
  listen();
}

export function leave() {
  live?.close();
  clearInterval(timer);
}

// Nobody sees a page that is hidden: what it would be told is not asked for.
export const seen = () => listen();

function listen() {
  live?.close();
  if (document.hidden) return;
  live = stream(`/api/events?${new URLSearchParams(filter)}`, {
    onmessage: (text) => {
      const told = parseTold(text);
      const shown = new Set(rows.map((each) => each.id)); // while one stream takes another one's place both tell of some
      told.events = told.events.filter((each) => !shown.has(each.id));
      passed += told.passed_over;
      if (paused) held += told.events.length + told.passed_over;
      else rows = [...told.events.reverse(), ...rows].filter((each, index) => index < KEPT || each.id === opened?.id);
      if (told.events.length || trouble) drawTail();
      trouble = "";
    },
    onerror: async (reason) => {
      trouble = await whySilent(reason);
      drawTail();
    },
  });
}

// Four times a second there may be events: the rest of the page stays as it is.
function drawTail() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    const box = document.getElementById("tail");
    if (box && !show(box, tail())) drawTail();
  });
}

async function follow(event) {
  clearInterval(timer);
  opened = opened?.id === event.id ? null : event;
  fate = null;
  redraw();
  if (!opened?.native_id) return;
  const look = async () => {
    if (document.hidden) return;
    fate = await ask(`/api/fate?native_id=${encodeURIComponent(event.native_id)}`).catch((error) => ({ stored: false, groups: {}, error: error.message }));
    if (opened === event) redraw();
    const isKnown = fate.stored || (!fate.error && !fate.silent.length);
    if (isKnown && !Object.values(fate.groups).includes("waiting")) clearInterval(timer);
  };
  timer = setInterval(look, 1000);
  await look();
}

function tail() {
  const set = (name) => (event) => { filter = { ...filter, [name]: event.target.value }; rows = []; listen(); redraw(); };
  const pause = () => { paused = !paused; held = 0; redraw(); };
  return [
    h("div", { class: "bar" },
      h("h2", {}, "Live"),
      h("input", { key: "pattern", type: "search", class: "search", placeholder: "auth.* or *.created", "aria-label": "Names of events, with wildcards", value: filter.pattern, onchange: set("pattern") }),
      h("input", { key: "text", type: "search", class: "search", placeholder: "in the arguments", "aria-label": "Text in the arguments", value: filter.text, onchange: set("text") }),
      h("button", { key: "pause", type: "button", "aria-pressed": paused ? "true" : "false", onclick: pause }, paused ? `Resume (${number(held)} came meanwhile)` : "Pause"),
      h("button", { key: "clear", type: "button", class: "quiet", onclick: () => { [rows, passed] = [[], 0]; redraw(); } }, "Clear"),
      passed > 0 && h("span", { class: "dim" }, `${number(passed)} more are not shown: they came too fast`)),
    trouble && h("p", { class: "finding error" }, trouble),
    rows.length > 0 && h("a", { key: "skip", class: "skip", href: "#past", onclick: skip }, "Skip the live events"),
    rows.length ? list(rows, "The latest events") : empty(paused ? "Paused." : "No event yet. What is fired from now on appears here."),
  ];
}

function skip(event) {
  event.preventDefault();
  document.getElementById("past").focus();
}

const list = (events, caption) => h("ol", { class: "event-list", tabindex: "0", "aria-label": caption }, events.map((event) =>
  once("li", event.id, opened?.id === event.id ? JSON.stringify(fate) : "closed", () => entry(event))));

const entry = (event) => h("li", {},
  h("button", { type: "button", class: "event", "aria-expanded": opened?.id === event.id ? "true" : "false", onclick: () => follow(event) },
    h("span", { class: "event-time" }, clock(event.published_at)),
    h("b", {}, event.name ?? `${event.api}.${event.event}`),
    h("span", { class: "event-args" }, stringify(event.kwargs))),
  opened?.id === event.id && way(event));

const step = (title, note, tone) => h("li", { class: `step ${tone}` }, h("b", {}, title), h("span", { class: "dim" }, note));

function storing(event) {
  if (!event.native_id) return step("not stored", "best effort: it is sent, and not stored", "plain");
  if (!fate || fate.stored) return step("stored", event.native_id, "good");
  if (fate.error || fate.silent.length) return step("not known", fate.error ?? `${fate.silent.join(", ")} did not answer`, "warn");
  return step("stored", "not any more: it was deleted", "warn");
}

function way(event) {
  const groups = Object.entries(fate?.groups ?? {}).sort();
  const tones = { acked: "good", dead: "bad", waiting: "warn" };
  const words = { acked: "delivered and acked", dead: "failed too often: a dead letter", waiting: "waits, not acked yet" };
  return h("div", { class: "way" },
    h("ol", { class: "steps" },
      step("fired", clock(event.published_at), "good"),
      storing(event),
      !fate && event.native_id && step("groups", "asking …", "plain"),
      groups.map(([name, status]) => step(name, [words[status] ?? status, fate.why?.[name] && `: ${fate.why[name]}`], fate.why?.[name] ? "bad" : tones[status] ?? "plain")),
      fate && event.native_id && !groups.length && fate.stored && step("no group", "no group listens to it", "plain")),
    h("pre", { tabindex: "0" }, json(event.kwargs)),
    h("p", { class: "dim small" }, `id ${event.id} · version ${event.version} · publisher ${short(event.publisher ?? "") || "unknown"}`));
}

function past(data) {
  const search = async (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    const minutes = Number(given.get("minutes"));
    const stop = Date.now() / 1000;
    found = { isAsked: true };
    redraw();
    found = await ask(`/api/history?${new URLSearchParams({ name: given.get("name"), ...(minutes ? { start: stop - minutes * 60 } : {}) })}`).catch((error) => ({ events: [], error: error.message }));
    redraw();
  };
  const names = [...new Set(data.events.flatMap((each) => [each.name, `${each.name.slice(0, each.name.lastIndexOf("."))}.*`]))].sort();
  const spans = [["5", "5 minutes"], ["60", "hour"], ["1440", "day"], ["0", "everything stored"]];
  return h("section", { class: "card", key: "past", id: "past", tabindex: "-1", "aria-label": "Stored events" },
    h("h2", {}, "Stored"),
    h("form", { class: "bar", onsubmit: search },
      h("input", { name: "name", required: true, list: "event-names", class: "search", placeholder: "auth.user_registered", "aria-label": "Event" }),
      once("datalist", "event-names", names.join(), () => h("datalist", { id: "event-names" }, names.map((each) => h("option", { value: each })))),
      h("select", { name: "minutes", "aria-label": "Of the last" }, spans.map(([value, text]) => h("option", { value }, text))),
      h("button", { type: "submit" }, "Search")),
    results());
}

function results() {
  if (!found) return null;
  if (found.isAsked) return h("p", { class: "dim", role: "status" }, "Searching …");
  if (found.error) return h("p", { class: "finding error" }, found.error);
  const { events } = found;
  if (!events.length) return [silence(found.silent), empty("No stored event matches.")];
  return [silence(found.silent),
    h("p", { class: "dim" }, `${plural(events.length, "event")}, the latest first, from ${clock(events[0].published_at)} to ${clock(events.at(-1).published_at)}`),
    list([...events].reverse(), "Found events")];
}

export function render(data) {
  return [
    heading("Events", paused && badge("paused", "warn")),
    card(null, chart("Events fired per second", [{ name: "events", values: data.curve, tone: "events" }], { seconds: data.every })),
    h("section", { class: "card", key: "tail", id: "tail", "aria-label": "Live events" }, tail()),
    past(data),
    h("section", { class: "card rows" }, h("h2", {}, "By event"), table("event-rates", over(RATES, data.every), data.events, { id: (row) => `${row.service} ${row.name}`, caption: "Events by name", none: "No event was fired yet.", filter: (row) => `${row.service} ${row.name}` })),
  ];
}

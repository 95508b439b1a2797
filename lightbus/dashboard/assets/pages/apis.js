import { h, row } from "../dom.js";
import { json, number, plural, rate } from "../format.js";
import { ask, badge, card, empty, heading, link, to } from "../parts.js";
import { tryIt } from "../tryit.js";

export const STREAM = "apis";

const AT_ONCE = 40; // APIs that are drawn
const ASK_AGAIN = 3000; // milliseconds after which is asked again what was not answered
let wanted = "";
let detail = null;
let digest = ""; // of what the shown description was asked for
const form = new Map(); // API -> which of the forms that are served side by side

export function enter() {
  [detail, digest] = [null, ""];
}

export function render(data, context) {
  return context.name ? one(data, context) : all(data, context);
}

function all(data, context) {
  const text = wanted.toLowerCase();
  const members = (api) => [...api.procedures, ...api.events];
  const shown = data.apis.filter((api) => `${api.api} ${members(api).join(" ")} ${api.peers.map((each) => each.service)}`.toLowerCase().includes(text));
  return [
    heading("APIs", h("input", { key: "search", type: "search", class: "search", placeholder: "Search APIs, procedures, events", "aria-label": "Search APIs, procedures, events", oninput: (event) => { wanted = event.target.value; context.redraw(); } })),
    !data.apis.length && empty("Nobody serves an API."),
    data.apis.length > 0 && !shown.length && empty(`Nothing is called “${wanted}”.`),
    h("div", { class: "apis" }, shown.slice(0, AT_ONCE).map((api) => row("section", api.api, () => summary(api, text)))),
    shown.length > AT_ONCE && h("p", { class: "dim" }, `${number(shown.length - AT_ONCE)} more: search for them.`),
  ];
}

function summary(api, text) {
  const matching = (names) => (text && !api.api.toLowerCase().includes(text) ? names.filter((each) => each.toLowerCase().includes(text)) : names);
  const chip = (name, kind) => h("li", {}, h("a", { class: `chip ${kind}`, href: `#/${to("apis", api.api)}` }, name, api.rates[name] ? h("span", {}, rate(api.rates[name])) : null));
  const chips = [...matching(api.procedures).map((each) => chip(each, "calls")), ...matching(api.events).map((each) => chip(each, "listens"))];
  return h("section", { class: "card", key: api.api },
    h("div", { class: "bar" }, h("h2", {}, link(to("apis", api.api), api.api)), badge(`version ${api.versions.join(", ")}`), api.mixed && badge("mixed", "warn"),
      h("span", { class: "dim" }, `served by ${[...new Set(api.peers.map((each) => each.service))].join(", ")}, ${plural(api.peers.length, "process", "processes")}`)),
    h("ul", { class: "chips" }, chips.slice(0, 24)), chips.length > 24 && link(to("apis", api.api), `and ${chips.length - 24} more`));
}

function one(data, context) {
  const known = data.apis.find((each) => each.api === context.name);
  const head = heading(context.name, link("apis", "All APIs"));
  if (!known) return [head, empty(`Nobody serves “${context.name}” now.`)];
  const stamp = `${context.name} ${known.peers.map((each) => `${each.instance}${each.digest}`)}`;
  if (stamp !== digest) load(stamp, context);
  if (!detail) return [head, h("div", { class: "waiting" }, "Asking for its description …")];
  if (detail.error) return [head, h("div", { class: "finding error" }, detail.error)];
  const shown = detail.forms.find((each) => each.digest === form.get(context.name)) ?? detail.forms[0];
  return [
    head,
    detail.mixed && h("div", { class: "finding warning" }, h("span", { class: "finding-mark", "aria-hidden": "true" }, "▲"), h("div", {}, "Its peers do not all serve the same: the forms stand side by side below.")),
    h("div", { class: "forms" }, detail.forms.length > 1 && detail.forms.map((each) => h("button", { type: "button", "aria-pressed": each === shown ? "true" : "false", onclick: () => { form.set(context.name, each.digest); context.redraw(); } },
      `Version ${each.version}, ${plural(each.peers.length, "process", "processes")}${each === detail.forms[0] ? "" : `: ${difference(detail.forms[0], each)}`}`))),
    shown.doc && h("p", { class: "doc" }, shown.doc),
    h("p", { class: "dim" }, `version ${shown.version}, served by `, shown.peers.map((each, index) => [index ? ", " : "", link(to("service", each.service), `${each.service} ${each.instance.slice(0, 4)}`)])),
    shown.procedures.map((each) => member(each, "procedure", shown, known, context)),
    shown.events.map((each) => member(each, "event", shown, known, context)),
  ];
}

// What another form has more, less or otherwise than the first.
function difference(first, other) {
  const signatures = (each) => new Map([...each.procedures, ...each.events].map((member) => [member.name, json([member.parameters, member.response])]));
  const [before, now] = [signatures(first), signatures(other)];
  const said = [...new Set([...before.keys(), ...now.keys()])].flatMap((name) => (!now.has(name) ? [`no ${name}`] : !before.has(name) ? [`${name} too`] : before.get(name) !== now.get(name) ? [`another ${name}`] : []));
  return said.join(", ") || "the same members";
}

async function load(stamp, context) {
  digest = stamp;
  const told = await ask(`/api/describe?name=${encodeURIComponent(context.name)}`).catch((error) => ({ error: error.message }));
  if (digest === stamp) {
    detail = told;
    if (told.error) setTimeout(() => { digest = digest === stamp ? "" : digest; }, ASK_AGAIN); // it may be busy
    context.redraw();
  }
}

function member(each, kind, shown, known, context) {
  const notes = kind === "event" ? [badge((each.delivery ?? "event").replaceAll("_", " "), "listens"), each.key && badge(`in order by ${each.key}`)] : [badge("procedure", "calls")];
  return h("section", { class: "card", key: `${shown.digest} ${kind} ${each.name}` },
    h("div", { class: "bar" }, h("h2", { class: "signature" }, each.signature), notes, h("span", { class: "dim" }, rate(known.rates[each.name] ?? 0))),
    each.doc && h("p", { class: "doc" }, each.doc),
    h("details", {}, h("summary", {}, "Schema"), h("pre", { tabindex: "0" }, json({ parameters: each.parameters, ...(kind === "procedure" ? { response: each.response } : {}) }))),
    h("details", {}, h("summary", {}, kind === "procedure" ? "Try it" : "Fire it"), tryIt(known.api, each, kind, shown.peers, context)));
}

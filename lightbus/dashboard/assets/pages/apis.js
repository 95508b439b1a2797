import { h, row } from "../dom.js";
import { json, number, plural, rate, short } from "../format.js";
import { ask, badge, empty, heading, link, to } from "../parts.js";
import { tryIt } from "../tryit.js";

export const STREAM = "apis";

const AT_ONCE = 40; // APIs that are drawn
const ASK_AGAIN = 3000; // milliseconds after which is asked again what was not answered
let wanted = "";
let detail = null;
let digest = ""; // of what the shown description was asked for

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
    !data.apis.length && empty("No worker serves an API."),
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
  if (!known) return [head, empty(`No worker serves “${context.name}” now.`)];
  const stamp = `${context.name} ${known.peers.map((each) => `${each.instance}${each.digest}`)}`;
  if (stamp !== digest) load(stamp, context);
  if (!detail) return [head, h("div", { class: "waiting" }, "Asking for its description …")];
  if (detail.error) return [head, h("div", { class: "finding error" }, detail.error)];
  const { forms } = detail;
  const [first] = forms;
  return [
    head,
    detail.missing.map((each) => h("div", { class: "finding error" }, each)),
    forms.length > 1 && h("div", { class: "finding warning" }, h("span", { class: "finding-mark", "aria-hidden": "true" }, "▲"), h("div", {}, `Workers serve ${forms.length} versions of it. Where these differ they are shown side by side, and what is not in all of them is marked.`)),
    first.doc && h("p", { class: "doc" }, first.doc),
    forms.map((each) => h("p", { class: "dim" }, servedBy(each))),
    ["procedure", "event"].flatMap((kind) => members(kind, known, context)),
  ];
}

const servedBy = (form) => [`version ${form.version}, served by `, form.peers.map((each, index) => [index ? ", " : "", link(to("service", each.service), `${each.service} ${short(each.instance)}`)])];
const schema = (kind, each) => json({ parameters: each.parameters, ...(kind === "procedure" ? { response: each.response } : {}) });

// The members of a kind: those that are the same in all versions, and those that are not with a column for each.
function members(kind, known, context) {
  const { forms } = detail;
  const listed = (each) => (kind === "procedure" ? each.procedures : each.events);
  const names = [...new Set(forms.flatMap((each) => listed(each).map((one) => one.name)))];
  const peers = forms.flatMap((each) => each.peers);
  return names.map((name) => {
    const found = forms.map((each) => listed(each).find((one) => one.name === name));
    const isSame = found.every((each) => each && json(each) === json(found[0]));
    return h("section", { class: "card", key: `${forms.map((each) => each.digest)} ${kind} ${name}` },
      isSame ? member(found[0], kind, peers, known, context) : [
        h("div", { class: "bar" }, h("h2", {}, name), notes(found.find(Boolean), kind), h("span", { class: "dim" }, rate(known.rates[name] ?? 0))),
        h("div", { class: "versions" }, found.map((each, index) => version(each, forms[index], kind, found, context)))]);
  });
}

function version(each, form, kind, all, context) {
  const others = all.filter((one) => one && one !== each);
  const head = h("p", { class: "dim" }, servedBy(form));
  if (!each) return h("div", { class: "version" }, head, h("p", {}, h("mark", {}, "It is not in this version.")));
  return h("div", { class: "version" }, head,
    h("h3", { class: "signature" }, marked(pieces(each.signature), others.map((one) => pieces(one.signature)))),
    details(each, kind, form.peers, context, marked(lines(schema(kind, each)), others.map((one) => lines(schema(kind, one))))));
}

// The pieces of a text; of which another text has none of the like, that is what is different in it.
const marked = (texts, others) => texts.map((each) => (others.every((other) => other.some((one) => one.trim() === each.trim())) ? each : h("mark", {}, each)));
const lines = (text) => text.split(/(?<=\n)/);

// A signature, taken apart into its name, its parameters and its result.
function pieces(signature) {
  const found = [""];
  let depth = 0;
  for (const sign of signature) {
    depth += "([{".includes(sign) - ")]}".includes(sign);
    if (depth === 1 && (sign === "," || (sign === "(" && found.length === 1))) found.push(sign, "");
    else if (depth === 0 && sign === ")") found.push(sign, "");
    else found[found.length - 1] += sign;
  }
  return found;
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

const notes = (each, kind) => (kind === "event" ? [badge((each.delivery ?? "event").replaceAll("_", " "), "listens"), each.key && badge(`in order by ${each.key}`)] : [badge("procedure", "calls")]);

function member(each, kind, peers, known, context) {
  return [
    h("div", { class: "bar" }, h("h2", { class: "signature" }, each.signature), notes(each, kind), h("span", { class: "dim" }, rate(known.rates[each.name] ?? 0))),
    details(each, kind, peers, context, schema(kind, each)),
  ];
}

const details = (each, kind, peers, context, text) => [
  each.doc && h("p", { class: "doc" }, each.doc),
  h("details", {}, h("summary", {}, "Schema"), h("pre", { tabindex: "0" }, text)),
  h("details", {}, h("summary", {}, kind === "procedure" ? "Try it" : "Fire it"), form(each, kind, peers, context)),
];

// A worker may send any schema: one of which no form can be made takes nothing else of the page away.
function form(each, kind, peers, context) {
  try {
    return tryIt(context.name, each, kind, peers, context);
  } catch (error) {
    return h("p", { class: "finding warning" }, `No form can be made of its schema: ${error.message}.`);
  }
}

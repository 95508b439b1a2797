// What several pages are made of.

import { h, row as lazy } from "./dom.js";
import { parseTold, stringify } from "./exact.js";
import { number } from "./format.js";

const AT_ONCE = 50; // rows that are drawn: more nobody reads, and they would cost frames
const FINDINGS = 20; // that are told in words: where there are more, the first ones say what it is
const sorts = new Map(); // table -> [column, descending]
const filters = new Map(); // table -> text
const whole = new Set(); // tables of which all rows are wanted

const unfolded = new Set(); // rows, of which also the columns are wanted for which there is no room

export const COMMANDS = "lightbus-cli"; // the service of all commands, dashboards included

let redraw = () => {};
export const onRedraw = (callback) => { redraw = callback; };

export const heading = (title, ...rest) => h("div", { class: "heading" }, h("h1", {}, title), h("div", { class: "heading-rest" }, rest));

export const card = (title, ...content) => h("section", { class: "card" }, title && h("h2", {}, title), content);

export const badge = (text, tone = "plain") => h("span", { class: `badge ${tone}` }, text);

export const empty = (text, ...rest) => h("div", { class: "empty" }, h("p", {}, text), rest);

export const link = (to, text, attributes = {}) => h("a", { href: `#/${to}`, ...attributes }, text);

export const to = (...parts) => parts.map(encodeURIComponent).join("/");

const STATES = { up: "good", draining: "warn", suspect: "warn", refused: "bad", unverified: "bad", gone: "bad", ok: "good", warning: "warn", stuck: "bad" };

export const state = (name) => badge(name, STATES[name] ?? "plain");

// columns: {title, cell(row), right, sort(row), wide}. Rows need an id.
export function table(name, columns, rows, { id, caption, none = "Nothing.", filter } = {}) {
  const wanted = (filters.get(name) ?? "").toLowerCase();
  let shown = wanted && filter ? rows.filter((row) => filter(row).toLowerCase().includes(wanted)) : rows;
  const [by, descending] = sorts.get(name) ?? [];
  const column = columns.find((each) => each.title === by);
  if (column) {
    const value = (row) => column.sort(row) ?? -Infinity;
    shown = [...shown].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (descending ? -1 : 1));
  }
  const count = shown.length;
  if (!whole.has(name)) shown = shown.slice(0, AT_ONCE);
  return h("div", { class: "table-box", key: `table-${name}` },
    filter && rows.length > 8 && search(name, caption),
    count ? drawn(name, columns, shown, id, caption, by, descending) : empty(rows.length ? `None matches “${wanted}”.` : none),
    count > shown.length && h("p", { class: "more" }, `${number(count - shown.length)} more. `,
      h("button", { type: "button", class: "quiet", onclick: () => { whole.add(name); redraw(); } }, "Show all")));
}

const search = (name, caption) => h("input", { key: `search-${name}`, class: "search", type: "search", placeholder: "Filter", "aria-label": `Filter: ${caption}`, oninput: (event) => { filters.set(name, event.target.value); redraw(); } });

function drawn(name, columns, rows, id, caption, by, descending) {
  const head = columns.map((each) => {
    const order = each.title !== by ? null : descending ? "descending" : "ascending";
    const turn = () => { sorts.set(name, [each.title, each.title === by ? !descending : Boolean(each.right)]); redraw(); };
    const title = each.sort ? h("button", { type: "button", onclick: turn }, each.title) : each.title;
    return h("th", { role: "columnheader", scope: "col", class: [each.right && "right", each.wide && "wide"].filter(Boolean).join(" ") || null, "aria-sort": order }, title);
  });
  const rest = columns.filter((each) => each.wide);
  const body = rows.flatMap((row) => [lazy("tr", id(row), () => h("tr", { role: "row" },
    columns.map((each, index) => h("td", { role: "cell", class: [each.right && "right", each.wide && "wide"].filter(Boolean).join(" ") || null, "data-label": each.title }, h("div", { class: "cell" }, !index && rest.length > 0 && unfold(`${name} ${id(row)}`), each.cell(row)))))),
    unfolded.has(`${name} ${id(row)}`) && lazy("tr", `${id(row)} rest`, () => h("tr", { role: "row", class: "rest" },
      h("td", { role: "cell", colspan: columns.length - rest.length }, h("dl", {}, rest.map((each) => h("div", {}, h("dt", {}, each.title), h("dd", {}, each.cell(row))))))))]);
  return h("table", { role: "table" }, h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)), h("tbody", { role: "rowgroup" }, body));
}

// Where there is no room for all columns of a table, a row shows the others below it.
function unfold(row) {
  const isOpen = unfolded.has(row);
  const turn = () => { isOpen ? unfolded.delete(row) : unfolded.add(row); redraw(); };
  return h("button", { type: "button", class: "unfold", "aria-expanded": isOpen ? "true" : "false", "aria-label": "The other columns", onclick: turn }, isOpen ? "▾" : "▸");
}

// Commands that show what a page shows, too.
const SHOWN_BY = { "lightbus dead list": "dead", "lightbus describe": "apis", "lightbus doctor": "overview", "lightbus lag": "groups", "lightbus peers": "peers", "lightbus top": "overview" };

const command = (text) => (Object.hasOwn(SHOWN_BY, text) ? link(SHOWN_BY[text], h("code", {}, text)) : h("code", {}, text));

// Text of ours in which commands stand between backticks.
export const words = (text) => text.split("`").map((each, index) => (index % 2 ? command(each) : each));

export function findings(list, { none } = {}) {
  if (!list.length) return none ? h("div", { class: "finding ok" }, h("span", { class: "finding-mark", "aria-hidden": "true" }, "✓"), h("div", {}, none)) : null;
  const told = [...new Map(list.map((each) => [each.text, each])).values()]; // one may be about several peers
  return h("ul", { class: "findings" }, told.slice(0, FINDINGS).map((each) => h("li", { class: `finding ${each.level ?? "warning"}`, key: each.text },
    h("span", { class: "finding-mark", "aria-hidden": "true" }, each.level === "error" ? "!" : "▲"),
    h("div", {}, h("p", {}, each.check && h("b", {}, `${each.check}: `), words(each.text)), each.remedy && h("p", { class: "remedy" }, words(each.remedy))))),
    told.length > FINDINGS && h("li", { class: "more", key: "more" }, words(`${number(told.length - FINDINGS)} more: \`lightbus doctor\` names all of them.`)));
}

const NAMED = 3; // peers that one sentence names

// That something is missing of what peers were asked for, where some of them did not answer.
export function silence(silent) {
  if (!silent?.length) return null;
  const names = silent.length > NAMED ? `${silent.slice(0, NAMED).join(", ")} and ${number(silent.length - NAMED)} more` : silent.join(", ");
  return h("div", { class: "finding warning" }, h("span", { class: "finding-mark", "aria-hidden": "true" }, "▲"), h("div", {}, `${names}: no answer, so what is stored there is not shown. The page Peers says why.`));
}

export function tile(title, value, { note, curve, tone } = {}) {
  return h("div", { class: `tile ${tone ?? ""}` }, h("div", { class: "tile-title" }, title), h("div", { class: "tile-value" }, value), note && h("div", { class: "tile-note" }, note), curve);
}

export function toast(text, tone = "good") {
  const box = document.getElementById("toasts");
  const made = h("div", { class: `toast ${tone}` }, text);
  box.append(made);
  setTimeout(() => made.remove(), tone === "bad" ? 30_000 : 6000);
}

const PATIENCE = 75; // seconds for an answer: a call may take 60

const LEFT_OUT = "20 different pages are open in this browser, as many as can be live at a time. Close one of them: this one is then live by itself.";
const REFUSED = "As many pages as this dashboard serves at a time are open. Close some of them: this one is then live again within a minute.";

// Why a stream tells nothing, and what to do about that.
export async function whySilent(trouble) {
  if (trouble === "left out") return LEFT_OUT;
  if (trouble === "refused") return ask("/api/about").then(() => REFUSED, (error) => `${error.message} Reload the page.`);
  return "Reconnecting: what is shown is not up to date.";
}

export async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: stringify(body) };
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE * 1000) }).catch((error) => {
    throw new Error(error.name === "TimeoutError" ? `No answer came within ${PATIENCE} s.` : `The dashboard cannot be reached: ${error.message}.`);
  });
  const value = await answer.text().then(parseTold).catch(() => ({ message: `The dashboard answered ${answer.status} ${answer.statusText}.` }));
  if (!answer.ok) throw new Error(value.message ?? `The dashboard answered ${answer.status}.`);
  return value;
}

export function copyable(text) {
  const copy = async (event) => {
    const button = event.currentTarget;
    const { clipboard } = navigator; // none where the page came over the network without TLS
    await (clipboard?.writeText(text) ?? Promise.reject()).then(() => { button.textContent = "Copied"; }, () => { button.textContent = "Select it, and copy"; });
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  return h("div", { class: "code" }, h("pre", { tabindex: "0" }, text), h("button", { type: "button", class: "quiet copy", onclick: copy }, "Copy"));
}

export function confirmed(question) {
  return new Promise((resolve) => {
    const end = (answer) => () => { dialog.close(); dialog.remove(); resolve(answer); };
    const dialog = h("dialog", { class: "dialog", "aria-label": question },
      h("p", {}, question),
      h("div", { class: "buttons" }, h("button", { type: "button", onclick: end(false) }, "Cancel"), h("button", { type: "button", class: "danger", onclick: end(true) }, "Yes, do it")));
    dialog.addEventListener("cancel", end(false));
    document.body.append(dialog);
    dialog.showModal();
  });
}

import { h, row } from "../dom.js";
import { ago, clock, json, number, plural, short } from "../format.js";
import { ask, badge, confirmed, empty, heading, silence, toast } from "../parts.js";

export const STREAM = "groups"; // its counts say when to ask again

const PORTION = 50; // that are dealt with by one request
const AT_ONCE = 50; // letters that are drawn
let told = null;
let count = null;
let progress = null;
let group = "";
let isWhole = false; // whether all are wanted

async function look(context) {
  told = await ask("/api/dead").catch((error) => ({ dead: [], more: 0, silent: [], error: error.message }));
  context.redraw();
}

export function enter(context) {
  [told, count, progress, isWhole] = [null, null, null, false];
  look(context);
}

export function render(data, context) {
  const now = data.groups.reduce((all, each) => all + each.dead, 0);
  if (count !== null && count !== now && !progress) look(context);
  count = now;
  if (!told) return [heading("Dead letters"), h("div", { class: "waiting" }, "Asking the publishers …")];
  const groups = [...new Set(told.dead.map((each) => each.group))].sort();
  const letters = told.dead.filter((each) => !group || each.group === group);
  const shown = isWhole ? letters : letters.slice(0, AT_ONCE);
  const choice = h("select", { "aria-label": "Group", onchange: (event) => { group = event.target.value; context.redraw(); } },
    h("option", { value: "" }, "All groups"), groups.map((each) => h("option", { value: each, key: each }, each)));
  return [
    heading("Dead letters", groups.length > 1 && choice),
    told.error && h("div", { class: "finding error" }, told.error),
    silence(told.silent),
    h("p", { class: "dim" }, "Events that a group failed to handle as often as it may try. Retry gives an event to that group again, and to no other."),
    !letters.length && !progress && !told.error && empty(told.silent.length ? "There are no others." : "There are no dead letters."),
    progress && h("div", { class: "progress" }, h("progress", { max: progress.all, value: progress.done, "aria-label": progress.what }), h("span", {}, `${progress.what}: ${progress.done} of ${progress.all}`)),
    letters.length > 0 && context.about.actions && !progress && h("div", { class: "buttons" },
      h("button", { type: "button", class: "primary", onclick: () => all("retry-dead", "Retry", letters, context) }, `Retry ${plural(letters.length, "event")}`),
      h("button", { type: "button", class: "danger", onclick: () => all("drop-dead", "Drop", letters, context) }, `Drop ${plural(letters.length, "event")}`)),
    shown.map((each, index) => row("section", `${each.group} ${each.native_id}`, () => letter(each, index, data.clock, context))),
    letters.length > shown.length && h("p", { class: "more", key: "all" }, `${number(letters.length - shown.length)} more. `,
      h("button", { type: "button", class: "quiet", onclick: () => { isWhole = true; context.redraw(); } }, "Show all")),
    told.more > 0 && h("p", { class: "dim" }, `And ${number(told.more)} more: they follow as these are dealt with.`),
  ];
}

function letter(each, index, now, context) {
  const one = (action, what) => () => run(action, what, [each], context).then(() => goOnAt(index));
  const drop = async () => { if (await confirmed(`Drop ${each.api}.${each.event} for ${each.group}?`)) await one("drop-dead", "Drop")(); };
  return h("section", { class: "card letter" },
    h("div", { class: "letter-head" },
      h("h2", {}, `${each.api}.${each.event}`), badge(`for ${each.group}`), badge(plural(each.deliveries, "delivery", "deliveries")),
      h("span", { class: "dim" }, `given up ${ago(each.died_at, now)}, fired ${clock(each.published_at)}`),
      context.about.actions && h("div", { class: "buttons" },
        h("button", { type: "button", "aria-label": `Retry ${each.native_id}`, onclick: one("retry-dead", "Retry") }, "Retry"),
        h("button", { type: "button", class: "danger", "aria-label": `Drop ${each.native_id}`, onclick: drop }, "Drop"))),
    h("pre", { class: "error-text", tabindex: "0" }, each.error),
    h("details", {}, h("summary", {}, "Arguments"), h("pre", { tabindex: "0" }, json(each.kwargs))),
    h("p", { class: "dim small" }, `id ${each.id} · stored as ${each.native_id} by ${each.publisher} ${short(each.instance)}`));
}

// What was focused is gone with its letter: the keyboard goes on at the one that has taken its place.
function goOnAt(index) {
  requestAnimationFrame(() => {
    if (document.activeElement && document.activeElement !== document.body) return;
    const left = document.querySelectorAll(".letter");
    (left[Math.min(index, left.length - 1)]?.querySelector("button") ?? document.getElementById("main")).focus({ preventScroll: true });
  });
}

async function all(action, what, letters, context) {
  if (await confirmed(`${what} ${plural(letters.length, "event")}?`)) await run(action, what, letters, context).then(() => goOnAt(0));
}

async function run(action, what, letters, context) {
  const portions = new Map();
  for (const each of letters) {
    const place = `${each.instance}\n${each.group}`;
    if (!portions.has(place)) portions.set(place, []);
    portions.get(place).push(each.native_id);
  }
  progress = { what, done: 0, all: letters.length };
  let [done, unknown, why] = [0, 0, ""];
  for (const [place, ids] of portions) {
    const [instance, name] = place.split("\n");
    for (let start = 0; start < ids.length; start += PORTION) {
      context.redraw();
      const portion = ids.slice(start, start + PORTION);
      try {
        const answer = await ask(`/api/actions/${action}`, { instance, group: name, native_ids: portion });
        done += answer.done.length;
        progress.done += portion.length;
      } catch (error) { // the other publishers may answer
        const left = ids.length - start;
        [unknown, why] = [unknown + left, error.message];
        progress.done += left;
        break;
      }
    }
  }
  const gone = letters.length - done - unknown;
  const left = action === "retry-dead" ? "were gone, or stay since their group does not get them now" : "were gone";
  const others = [gone ? `${gone} ${left}` : "", unknown ? `the outcome of ${unknown} is not known: ${why}` : ""].filter(Boolean);
  toast([`${what}: ${plural(done, "event")}`, ...others].join("; "), unknown ? "bad" : "good");
  progress = null;
  await look(context);
}

// The shell: which page is shown, and the stream that keeps it up to date.

import { anew, h, show } from "./dom.js";
import { ask, empty, heading, link, onRedraw, whySilent } from "./parts.js";
import * as apis from "./pages/apis.js";
import * as dead from "./pages/dead.js";
import * as events from "./pages/events.js";
import * as groups from "./pages/groups.js";
import * as journals from "./pages/journals.js";
import * as overview from "./pages/overview.js";
import * as peers from "./pages/peers.js";
import * as service from "./pages/service.js";
import { stream as openStream } from "./streams.js";

const UNKNOWN = { STREAM: "overview", render: (data, { name }) => [heading("There is no such page"), empty(`Nothing is called “${name}” here.`, h("p", {}, link("overview", "Go to the overview")))] };
const PAGES = { overview, service, apis, events, groups, dead, peers, journals };
const NAV = [["overview", "Overview"], ["apis", "APIs"], ["events", "Events"], ["groups", "Groups"], ["dead", "Dead letters"], ["peers", "Peers"], ["journals", "Journals"]];

const main = document.getElementById("main");
const status = document.getElementById("status");
export const context = { about: { actions: false, bus: "" }, name: "", redraw: () => draw() };
let page = null;
let data = null;
let stream = null;
let due = false;

// A link that was cut off in the middle of a sign is read as it stands.
function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function where() {
  const [, name = "", ...rest] = location.hash.split("/");
  const parts = rest.map(decoded).join("/");
  return Object.hasOwn(PAGES, name) ? [name, parts] : name ? ["unknown", location.hash.slice(2)] : ["overview", parts];
}

function go() {
  const [name, rest] = where();
  page?.leave?.();
  page = PAGES[name] ?? UNKNOWN;
  [data, context.name] = [null, rest];
  document.title = `${rest || (NAV.find(([each]) => each === name)?.[1] ?? "Service")} · ${context.about.bus} · Lightbus`;
  for (const link of document.querySelectorAll("#nav a")) {
    const isHere = link.dataset.page === (name === "service" ? "overview" : name);
    isHere ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
    if (isHere) link.scrollIntoView({ block: "nearest", inline: "nearest" }); // on a narrow screen the row of them is wider
  }
  main.replaceChildren(h("div", { class: "waiting" }, "Asking the bus …"));
  main.scrollTop = 0;
  page.enter?.(context);
  open();
}

function open() {
  stream?.close();
  if (document.hidden || !page) return;
  const mine = openStream(`/api/stream/${page.STREAM}?name=${encodeURIComponent(context.name)}`, {
    onmessage: (text) => {
      if (mine !== stream) return;
      data = JSON.parse(text);
      told("live", "good");
      context.redraw();
    },
    onerror: async (trouble) => {
      const text = await whySilent(trouble);
      if (mine === stream) told(text, "bad");
    },
  });
  stream = mine;
}

function told(text, tone) {
  if (status.textContent !== text) status.textContent = text;
  status.className = `status ${tone}`;
  const isBad = tone === "bad";
  main.classList.toggle("old", isBad && data !== null);
  if (isBad && !data) main.replaceChildren(h("p", { class: "finding error" }, text)); // instead of "Asking the bus …"
}

function draw() {
  anew();
  drawOn();
}

// Draw as much as a frame has time for, and the rest in the next ones.
function drawOn() {
  if (due || !data) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    if (!data) return;
    const isWhole = drawn();
    main.setAttribute("aria-busy", isWhole ? "false" : "true");
    if (!isWhole) drawOn();
  });
}

function drawn() {
  try {
    return show(main, page.render(data, context));
  } catch (error) {
    told(`this page cannot be drawn, by a fault of its own: ${error.message}`, "bad");
    throw error;
  }
}

function toggleTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("lightbus-theme", next); } catch {}
}

async function begin() {
  onRedraw(draw);
  document.getElementById("nav").append(...NAV.map(([name, title]) => h("a", { href: `#/${name}`, "data-page": name }, title)));
  document.getElementById("theme").onclick = toggleTheme;
  document.querySelector("body > .skip").onclick = (event) => { event.preventDefault(); main.focus(); }; // what stands behind the # names the page
  context.about = await ask("/api/about");
  document.getElementById("bus").textContent = `bus ${context.about.bus}`;
  addEventListener("hashchange", () => { go(); main.focus({ preventScroll: true }); });
  document.addEventListener("visibilitychange", () => { open(); page?.seen?.(); });
  addEventListener("resize", () => context.redraw());
  go();
}

begin().catch((error) => { told(error.message, "bad"); });

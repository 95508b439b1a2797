// Elements, and bringing a page up to date without losing what is focused, typed, scrolled or unfolded.

const HANDLERS = ["onclick", "oninput", "onchange", "onsubmit", "onkeydown", "ontoggle"];
const OWN = new Set(["value", "checked", "open", "selected"]); // what the user changes stays the user's

export function h(tag, attributes, ...children) {
  return withParts(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return withParts(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function withParts(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (HANDLERS.includes(name)) element[name] = value;
    else if (name === "key") element.setAttribute("data-key", value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false).map(shownText));
  return element;
}

// Signs that nobody sees, or that turn the order of what stands behind them (U+202E): a service's words could pass for
// the page's own. They are shown as their number is written.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const numbered = (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`;
const shownText = (each) => (typeof each === "string" ? each.replace(UNSEEN, numbered) : each);

const BUDGET = 8; // milliseconds of a frame in which elements are made: what is left waits for the next one
const AT_LEAST = 10; // elements are made in any case: on a busy machine, all of that time may go to other processes
let frame = -1;
let until = 0;
let isWhole = true;
let made = 0; // elements, since `show` was called
let edition = 0;

// Have everything be made anew that changes with what a page is told.
export const anew = () => { edition += 1; };

// An element of a long list: made anew for each edition, but only as many in a frame as there is time for.
export const row = (tag, key, make) => once(tag, key, edition, make);

function isLate() {
  if (performance.now() < until || made < AT_LEAST) return false;
  isWhole = false;
  return true;
}

// An element that is made only where none of this key and version is shown already: `make` returns it.
export function once(tag, key, version, make) {
  const place = h(tag, { key });
  place.dataset.version = version;
  place.make = make;
  return place;
}

function filled(place) {
  made += 1;
  const element = place.make();
  element.dataset.key = place.dataset.key;
  element.dataset.version = place.dataset.version;
  return element;
}

function whole(node) {
  if (node.nodeType === 1) {
    for (const place of node.querySelectorAll("[data-version]")) {
      if (place.make) isLate() ? place.remove() : place.replaceWith(filled(place));
    }
  }
  return node;
}

// Make `into` hold what `wanted` (an array of nodes) holds, by as few changes as can be. Return whether there was time
// for all of it: else it is to be shown again, in the next frame.
export function show(into, ...wanted) {
  if (frame !== document.timeline.currentTime) [frame, until] = [document.timeline.currentTime, performance.now() + BUDGET];
  [isWhole, made] = [true, 0];
  const fragment = document.createElement("div");
  fragment.append(...wanted.flat(Infinity).filter(Boolean));
  morphChildren(into, fragment);
  return isWhole;
}

function morphChildren(from, to) {
  const keyed = new Map();
  for (const child of from.children) if (child.dataset.key !== undefined) keyed.set(child.dataset.key, child);
  let here = from.firstChild;
  for (const child of [...to.childNodes]) {
    const shown = child.make && keyed.get(child.dataset.key);
    let isSame = shown && shown.dataset.version === child.dataset.version;
    if (child.make && !isSame && isLate()) {
      if (!shown) continue;
      isSame = true; // it stays as it is for a frame
    }
    const next = child.make && !isSame ? filled(child) : child;
    const key = next.nodeType === 1 ? next.dataset.key : undefined;
    let match = key === undefined ? here : keyed.get(key);
    if (key === undefined && match?.nodeType === 1 && match.dataset.key !== undefined) match = null;
    if (match && isAlike(match, next)) {
      if (match !== here) from.insertBefore(match, here);
      else here = here.nextSibling;
      if (!isSame) morph(match, next);
    } else from.insertBefore(whole(next), here);
  }
  while (here) {
    const gone = here;
    here = here.nextSibling;
    gone.remove();
  }
}

function isAlike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && one.dataset?.key === other.dataset?.key;
}

function morph(from, to) {
  if (from.nodeType !== 1) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.dataset.keep !== undefined) return; // it looks after itself
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !OWN.has(name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (!OWN.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const name of HANDLERS) if (from[name] !== to[name]) from[name] = to[name];
  morphChildren(from, to);
}

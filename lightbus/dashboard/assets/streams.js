// What a page is told again and again. All windows of a browser share two connections, which a worker keeps for them: a
// browser has six for a host, and more windows than that are to go on. Where it has no such workers, each window has its own.

const AGAIN = 30_000; // milliseconds after which what was refused is asked for again
const REPEAT = 5_000; // milliseconds after which a window says anew what it wants: one that crashed says nothing

const open = new Map(); // id -> stream
let shared; // undefined: not tried yet
let isHeard = false; // whether the worker has said anything since the last repetition
let due = false;
let next = 0;

// A stream tells `onmessage(text)`, and `onerror(trouble)` where nothing comes: it is "broken", and asked for again at
// once; "refused", and asked for again later; or "left out", until one of this browser's other windows needs its own less.
export function stream(url, { onmessage, onerror }) {
  shared = shared === undefined ? started() : shared;
  return shared ? ofAll(url, onmessage, onerror) : own(url, onmessage, onerror);
}

function own(url, onmessage, onerror) {
  let source;
  let timer;
  const begin = () => {
    source = new EventSource(url);
    source.onmessage = (event) => onmessage(event.data);
    source.onerror = () => {
      const isRefused = source.readyState === EventSource.CLOSED;
      if (isRefused) timer = setTimeout(begin, AGAIN);
      onerror(isRefused ? "refused" : "broken");
    };
  };
  begin();
  return { close: () => { clearTimeout(timer); source.close(); } };
}

function ofAll(url, onmessage, onerror) {
  const id = `${(next += 1)}`;
  let instead = null;
  open.set(id, { url, onmessage, onerror, alone: () => { instead = own(url, onmessage, onerror); } });
  say();
  return { close: () => { instead?.close(); if (open.delete(id)) say(); } };
}

function started() {
  if (typeof SharedWorker === "undefined") return null;
  try {
    const worker = connected();
    setInterval(repeat, REPEAT);
    addEventListener("pageshow", say);
    addEventListener("pagehide", () => shared?.port.postMessage({}));
    return worker;
  } catch { return null; }
}

function connected() {
  const worker = new SharedWorker("/assets/worker.js", { name: "lightbus-streams" });
  isHeard = true; // it has until the repetition after the next one
  worker.onerror = () => { // it could not be had: each window goes on by itself
    if (worker !== shared) return;
    shared = null;
    for (const each of open.values()) each.alone();
    open.clear();
  };
  worker.port.onmessage = ({ data: { id, text, trouble } }) => {
    isHeard = true;
    const each = open.get(id);
    text === undefined ? each?.onerror(trouble) : each?.onmessage(text);
  };
  return worker;
}

// It runs in the process of one of the windows, and is gone where that crashed: the others begin it again.
function repeat() {
  if (!shared) return;
  if (!isHeard) {
    shared.port.close();
    shared = connected();
    for (const each of open.values()) each.onerror("broken");
  }
  isHeard = false;
  say();
}

// Say what is wanted: once for all that changes at the same time.
function say() {
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    shared?.port.postMessage(Object.fromEntries([...open].map(([id, { url }]) => [id, url])));
  });
}

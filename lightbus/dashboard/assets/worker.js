// Runs once for all windows of a browser: keeps the two streams of which each takes its part. Pages are told how things
// are, so that their stream can be opened anew at any time; that of events goes on until the one in its place has begun.

const SILENT = 30_000; // milliseconds after which a window, or a stream, that says nothing is taken to be gone
const MOST = 20; // streams of one connection: the dashboard takes no more
const LONGEST = 3500; // characters of what a connection asks for: the dashboard takes 4,096
const HELD = 500; // milliseconds after which a stream of events has told what it held
const PAGES = "/api/stream/";

const windows = new Map(); // port -> { wanted: { id: url }, at }
const kinds = { [PAGES]: null, "/api/events": null }; // how urls begin -> { key, urls, source, before, at }

addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data }) => {
    const before = windows.get(port)?.wanted ?? {};
    windows.set(port, { wanted: data, at: Date.now() });
    port.postMessage({}); // so that it sees that somebody is here
    settle(Object.entries(data).some(([id]) => !Object.hasOwn(before, id)));
  };
  port.start();
});

setInterval(() => {
  for (const [port, { at }] of windows) if (Date.now() - at > SILENT) windows.delete(port);
  settle(false);
}, SILENT / 3);

// Have open what is wanted. Whoever comes anew is told at once, and may find a stream that was given up; such a stream
// is also asked for again from time to time: there may be room for it by then.
function settle(isNew) {
  for (const [start, now] of Object.entries(kinds)) {
    const wanted = [...new Set([...windows.values()].flatMap(({ wanted }) => Object.values(wanted)))].filter((url) => url.startsWith(start));
    const urls = carried(wanted, now?.urls ?? []);
    const leftOut = wanted.filter((url) => !urls.includes(url));
    tell(leftOut, { trouble: "left out" });
    const key = urls.join("\n");
    const isGivenUp = now?.source.readyState === EventSource.CLOSED;
    const isSilent = now && !isGivenUp && Date.now() - now.at > SILENT; // the server says something every ten seconds
    if (isSilent) tell(urls, { trouble: "broken" });
    const isDue = isGivenUp && Date.now() - now.at > SILENT;
    if (now && now.key === key && !isSilent && !isDue && !(isNew && (isGivenUp || start === PAGES))) continue;
    const before = key && start !== PAGES && !isSilent ? left(now) : (now?.before?.close(), now?.source.close(), null);
    kinds[start] = key ? opened(key, urls, before) : null;
  }
}

const asked = (urls) => `/api/streams?${new URLSearchParams(urls.map((url) => ["of", url]))}`;

// As much of what is wanted as one connection may carry: what is open goes on, and what comes later waits.
function carried(wanted, open) {
  const found = [];
  for (const url of [...wanted.filter((each) => open.includes(each)), ...wanted.filter((each) => !open.includes(each))]) {
    if (found.length < MOST && asked([...found, url]).length <= LONGEST) found.push(url);
  }
  return found.sort();
}

// Return the stream that is to go on until the next one has begun.
function left(now) {
  if (!now?.before) return now?.source;
  now.source.close(); // it has not begun itself
  return now.before;
}

function opened(key, urls, before) {
  const source = new EventSource(asked(urls));
  const made = { key, urls, source, before, at: Date.now() };
  urls.forEach((url, index) => source.addEventListener(`${index}`, (event) => {
    made.at = Date.now();
    tell([url], { text: event.data });
    if (!made.before) return;
    setTimeout((old) => old.close(), HELD, made.before);
    made.before = null;
  }));
  source.onerror = () => {
    made.before?.close();
    made.before = null;
    tell(urls, { trouble: source.readyState === EventSource.CLOSED ? "refused" : "broken" });
  };
  return made;
}

function tell(urls, told) {
  for (const [port, { wanted }] of windows) {
    for (const [id, url] of Object.entries(wanted)) if (urls.includes(url)) port.postMessage({ id, ...told });
  }
}

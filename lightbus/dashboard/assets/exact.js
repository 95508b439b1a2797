// JSON whose numbers stay as they are written: JavaScript's own are changed above 2^53, and 1.50 becomes 1.5.
//
// A number that JavaScript would change is a text here that begins with a mark. Nobody can guess it, so that no text of
// a service is taken for a number.

const MARK = `number ${[...crypto.getRandomValues(new Uint32Array(4))].join("-")} `;
const MARKED = new RegExp(`"${MARK}([^"]*)"`, "g");
const PARTS = /"(?:[^"\\]|\\.)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
const VALUES = new Set(["kwargs", "result", "parameters", "response"]); // what stands in them is the services' own

const kept = (part) => (part[0] === '"' || String(Number(part)) === part ? part : `"${MARK}${part}"`);

export const parse = (text) => JSON.parse(text.replace(PARTS, kept));
export const stringify = (value, indent) => JSON.stringify(value, null, indent)?.replace(MARKED, "$1");

// What a page is told: only values of services are exact, all else is reckoned with.
export const parseTold = (text) => joined(JSON.parse(text), parse(text));

function joined(plain, exact) {
  if (Array.isArray(plain)) return plain.map((each, index) => joined(each, exact[index]));
  if (plain === null || typeof plain !== "object") return plain;
  return Object.fromEntries(Object.entries(plain).map(([key, each]) => [key, VALUES.has(key) ? exact[key] : joined(each, exact[key])]));
}

// The number as it is written, where a value is one that is kept as text; else null.
export const written = (value) => (typeof value === "string" && value.startsWith(MARK) ? value.slice(MARK.length) : null);

// What is typed into a field for numbers: a browser allows there what JSON does not, such as .5 and 007.
export function typed(text, isInteger) {
  const plain = text.trim().replace(/^(-?)0*(?=\d)/, "$1").replace(/^(-?)\./, (_, sign) => `${sign}0.`);
  if (isInteger && !/^-?\d+$/.test(plain)) return Number(plain); // 1e3 is an integer
  return parse(plain);
}

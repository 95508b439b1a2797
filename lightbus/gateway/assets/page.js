// Shows what a token may do, from openapi.json, and lets it be tried. The token stays in this page's memory.
const find = (id) => document.getElementById(id);
let token = "";

function made(name, text, parent, attributes = {}) {
  const element = document.createElement(name);
  element.textContent = visible(text);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

async function asked(path, options = {}) {
  const headers = { Authorization: `Bearer ${token}`, ...options.headers };
  return fetch(path, { ...options, headers });
}

// JSON with indents, and with its numbers as they are written: JavaScript's own are changed above 2^53.
async function words(answer) {
  const text = await answer.text();
  const mark = `number ${[...crypto.getRandomValues(new Uint32Array(4))].join("-")} `;
  const kept = (part) => (part[0] === '"' ? part : `"${mark}${part}"`);
  try {
    const value = JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/g, kept));
    return visible(JSON.stringify(value, null, 2).replace(new RegExp(`"${mark}([^"]*)"`, "g"), "$1"));
  } catch {
    return visible(text);
  }
}

// Signs that nobody sees, or that turn the order of what stands behind them, are shown as their number is written.
function visible(text) {
  const unseen = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
  return text.replace(unseen, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function resolved(schema, document) {
  const name = (schema?.$ref || "").replace("#/components/schemas/", "");
  return name ? document.components.schemas[name] || {} : schema || {};
}

function example(schema, document) {
  const properties = resolved(schema, document).properties || {};
  const values = { string: "", integer: 0, number: 0, boolean: false, array: [], object: {} };
  return Object.fromEntries(Object.entries(properties).map(([name, part]) => {
    const one = resolved(part, document);
    return [name, one.default ?? values[one.type] ?? null];
  }));
}

function tried(path, operation, document, parent) {
  const details = made("details", "", parent);
  made("summary", "Try it", details);
  const form = made("form", "", details);
  const schema = operation.requestBody.content["application/json"].schema;
  const input = made("textarea", JSON.stringify(example(schema, document), null, 2), form, {
    "aria-label": `Arguments of ${operation.operationId}`, spellcheck: "false",
  });
  made("button", "Send", form);
  const output = made("pre", "", details, { role: "status" });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    output.textContent = "…";
    try {
      const headers = { "Content-Type": "application/json" };
      const answer = await asked(path, { method: "POST", headers, body: input.value });
      output.textContent = `${answer.status}\n${await words(answer)}`;
    } catch (error) {
      output.textContent = String(error);
    }
  });
}

function shown(openapi) {
  const main = find("shown");
  main.replaceChildren();
  if (!openapi.tags.length) made("p", "Nothing of what this token may do is there at the moment: no worker serves it, or the gateway's rules name something else.", main);
  for (const tag of openapi.tags) {
    made("h2", tag.name, main);
    if (tag.description) made("p", tag.description, main, { class: "doc" });
    for (const [path, methods] of Object.entries(openapi.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (!operation.tags.includes(tag.name)) continue;
        made("h3", `${method.toUpperCase()} /api${path}`, main);
        made("p", operation.description || operation.summary || "", main, { class: "doc" });
        if (method === "get") {
          made("p", `A stream of events: curl -N -H "Authorization: Bearer …" ${location.origin}/api${path}`, main);
          continue;
        }
        const details = made("details", "", main);
        made("summary", "Schema of the arguments", details);
        made("pre", JSON.stringify(operation.requestBody.content["application/json"].schema, null, 2), details);
        tried(`/api${path}`, operation, openapi, main);
      }
    }
  }
}

find("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  find("said").textContent = "…";
  try {
    const answer = await asked("/openapi.json");
    if (!answer.ok) {
      find("said").textContent = (await answer.json()).detail;
      return;
    }
    shown(await answer.json());
    find("said").textContent = "";
    find("where").textContent = `${location.origin}/openapi.json`;
    find("raw").hidden = false;
  } catch (error) {
    find("said").textContent = String(error);
  }
});

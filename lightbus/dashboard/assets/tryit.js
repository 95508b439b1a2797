// A form made from a schema, what came of it, and the code that does the same.

import { h, show } from "./dom.js";
import { parse, stringify, typed, written } from "./exact.js";
import { duration, json, short } from "./format.js";
import { ask, copyable } from "./parts.js";

const LEFT_OUT = Symbol("left out");

function resolved(schema, root) {
  if (schema.$ref) return resolved(root.$defs?.[schema.$ref.split("/").at(-1)] ?? {}, root);
  const some = schema.anyOf ?? schema.oneOf;
  if (some) {
    const real = some.map((each) => resolved(each, root)).filter((each) => each.type !== "null");
    const decimal = real.find((each) => each.format === "decimal"); // 1.50 is sent as it is typed: as a text
    if (decimal) return { ...decimal, default: schema.default, nullable: real.length + 1 < some.length };
    if (real.length === 1) return { ...real[0], default: schema.default, nullable: real.length < some.length };
  }
  return schema;
}

const asText = (value) => (typeof value === "string" && written(value) === null ? value : stringify(value));
const bound = (value) => written(value) ?? value;

// A field: its elements, and a function that reads the value, which throws where that cannot be one.
function field(name, given, isRequired, root, id) {
  const schema = resolved(given, root);
  const shown = schema.default === undefined || schema.default === null ? "" : asText(schema.default);
  const common = { id, name, required: isRequired && schema.type !== "string" ? true : null, placeholder: isRequired ? null : shown || "left out" };
  let input;
  let read;
  if (schema.enum || schema.type === "boolean") {
    const values = schema.enum ?? [true, false];
    input = h("select", { id, name }, !isRequired && h("option", { value: "" }, `left out${shown ? ` (${shown})` : ""}`), values.map((each, index) => h("option", { value: String(index) }, asText(each))));
    read = () => (input.value === "" ? LEFT_OUT : values[Number(input.value)]);
  } else if (schema.type === "integer" || schema.type === "number") {
    input = h("input", { ...common, type: "number", step: schema.type === "integer" ? 1 : "any", min: bound(schema.minimum), max: bound(schema.maximum) });
    read = () => (input.value === "" ? LEFT_OUT : typed(input.value, schema.type === "integer"));
  } else if (schema.type === "string") {
    input = h("input", { ...common, type: "text", autocomplete: "off" });
    read = () => (input.value === "" && !isRequired ? LEFT_OUT : input.value);
  } else {
    input = h("textarea", { ...common, rows: 3, spellcheck: "false", placeholder: schema.type === "array" ? "[ … ]" : schema.type === "object" ? "{ … }" : "JSON" });
    read = () => {
      if (input.value.trim() === "" && !isRequired) return LEFT_OUT;
      try { return parse(input.value); } catch (error) { throw new Error(`${name} is not JSON: ${error.message}`); }
    };
  }
  const type = [schema.type ?? "any", schema.format, schema.nullable ? "or null" : ""].filter(Boolean).join(" ");
  return { name, read, row: h("div", { class: "field" }, h("label", { for: id }, name, h("span", { class: "dim" }, ` ${type}${isRequired ? "" : ", optional"}`)), input) };
}

const python = (value) => {
  if (written(value) !== null) return written(value);
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${python(each)}`).join(", ")}}`;
  return JSON.stringify(value);
};

const shell = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// A text as the command line takes it: in quotes where it would be read as JSON, as a file's name, or as standard input.
function word(value) {
  if (typeof value !== "string" || written(value) !== null) return stringify(value);
  if (/^[@-]|[^ -~]/.test(value)) return JSON.stringify(value);
  try { JSON.parse(value); } catch { return value; }
  return JSON.stringify(value);
}

function code(api, name, kind, values, seconds) {
  const given = Object.entries(values).map(([key, each]) => `${key}=${python(each)}`).concat(seconds ? `bus_options={"timeout": ${seconds}}` : []).join(", ");
  const words = Object.entries(values).map(([key, each]) => shell(`${key}=${word(each)}`));
  const path = `bus.${api}.${name}`;
  const isCall = kind === "procedure";
  return {
    Sync: `import lightbus\n\nbus = lightbus.create()\n${isCall ? "result = " : ""}${path}${isCall ? "" : ".fire"}(${given})`,
    Async: `import asyncio\n\nimport lightbus\n\nbus = lightbus.create()\n\nasync def main():\n    ${isCall ? "result = " : ""}await ${path}.${isCall ? "call_async" : "fire_async"}(${given})\n\nasyncio.run(main())`,
    CLI: `lightbus ${isCall ? "call" : "fire"} ${seconds ? `--timeout ${seconds} ` : ""}${api}.${name} ${words.join(" ")}`.trim(),
  };
}

let count = 0;

export function tryIt(api, member, kind, peers, context) {
  const root = member.parameters ?? {};
  const required = new Set(root.required ?? []);
  const prefix = `try-${(count += 1)}`;
  const fields = Object.entries(root.properties ?? {}).map(([name, schema]) => field(name, schema, required.has(name), root, `${prefix}-${name}`));
  const output = h("div", { class: "output", role: "status" });
  const codes = h("div", { class: "codes" });
  let tab = "Sync";
  const seconds = kind === "procedure" ? h("input", { id: `${prefix}.time`, type: "number", min: 0.001, max: 60, step: "any", placeholder: "10" }) : null;
  const time = () => Number(seconds?.value) || null;
  const values = () => Object.fromEntries(fields.map((each) => [each.name, each.read()]).filter(([, each]) => each !== LEFT_OUT));
  const drawCode = () => {
    let texts;
    try { texts = code(api, member.name, kind, values(), time()); } catch (error) { texts = { Sync: error.message, Async: error.message, CLI: error.message }; }
    show(codes, h("div", { class: "tabs", role: "group", "aria-label": "Code that does the same" }, Object.keys(texts).map((each) => h("button", { type: "button", "aria-pressed": each === tab ? "true" : "false", onclick: () => { tab = each; drawCode(); } }, each))), copyable(texts[tab]));
  };
  const chosen = kind === "procedure" && peers.length > 1 ? h("select", { id: `${prefix}.peer` }, h("option", { value: "" }, "any"), peers.map((each) => h("option", { value: each.instance }, `${each.service} ${short(each.instance)}`))) : null;
  const submit = async (event) => {
    event.preventDefault();
    show(output, h("p", { class: "dim" }, "Waiting for the answer …"));
    try {
      const body = { api, [kind]: member.name, arguments: values(), peer: chosen?.value || null, timeout: time() };
      show(output, outcome(await ask(`/api/actions/${kind === "procedure" ? "call" : "fire"}`, body)));
    } catch (error) {
      show(output, h("p", { class: "finding error" }, error.message));
    }
  };
  const button = h("button", { type: "submit", class: "primary", disabled: !context.about.actions }, kind === "procedure" ? "Call" : "Fire");
  const form = h("form", { onsubmit: submit, oninput: drawCode },
    fields.length ? fields.map((each) => each.row) : h("p", { class: "dim" }, "It takes no arguments."),
    chosen && h("div", { class: "field" }, h("label", { for: `${prefix}.peer` }, "Peer"), chosen),
    seconds && h("div", { class: "field" }, h("label", { for: seconds.id }, "Timeout", h("span", { class: "dim" }, " seconds, 60 at most")), seconds),
    h("div", { class: "buttons" }, button, !context.about.actions && h("span", { class: "dim" }, "This dashboard only shows: start it with --allow-actions.")));
  drawCode();
  return h("div", { class: "try", "data-keep": "" }, form, output, codes);
}

function outcome(told) {
  const who = told.service ? ` by ${told.service} ${told.process}` : told.publisher ? `, stored by ${short(told.publisher)}` : "";
  const trace = told.trace && h("details", {}, h("summary", {}, "Traceback"), h("pre", { tabindex: "0" }, told.trace));
  if (told.error) return [h("p", { class: "finding error" }, told.message), trace, h("p", { class: "dim" }, `${told.error}, after ${duration(told.seconds)}${who}`)];
  if ("result" in told) return [h("p", { class: "dim" }, `Answered in ${duration(told.seconds)}${who}`), h("pre", { tabindex: "0", class: "result" }, json(told.result))];
  return [h("p", { class: "dim" }, `Fired in ${duration(told.seconds)}${who}: id ${told.id}`)];
}

// Numbers, times and sizes in words.

import { stringify } from "./exact.js";

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.05) return "<0.1";
  if (size < 10 && !Number.isInteger(value)) return value.toFixed(1);
  if (size < 10000) return Math.round(value).toLocaleString("en");
  if (size < 1e6) return `${(value / 1e3).toFixed(size < 1e5 ? 1 : 0)} k`;
  return `${(value / 1e6).toFixed(1)} M`;
}

export const rate = (value) => (value === null || value === undefined ? "–" : value === 0 ? "0" : `${number(value)}/s`);

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return `${Math.max(1, Math.round(seconds * 1e6))} µs`;
  if (seconds < 0.1) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  for (const unit of ["bytes", "kB", "MB", "GB"]) {
    if (count < 1000 || unit === "GB") return `${unit === "bytes" ? count : count.toFixed(1)} ${unit}`;
    count /= 1000;
  }
}

export function clock(at) {
  const then = new Date(at * 1000);
  const time = `${then.toLocaleTimeString("en-GB")}.${String(then.getMilliseconds()).padStart(3, "0")}`;
  return then.toDateString() === new Date().toDateString() ? time : `${then.toLocaleDateString("en-CA")} ${time}`;
}

export const ago = (at, now) => (at === null || at === undefined ? "–" : `${duration(Math.max(0, now - at))} ago`);
export const short = (instance) => instance.slice(0, 4);
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const json = (value) => stringify(value, 2);

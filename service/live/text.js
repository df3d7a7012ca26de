// How figures are written, and how elements are made. Whatever comes from a model, a tool or a server becomes a text
// node here and nothing else: nothing on this page is ever parsed as HTML.

const NOTHING = "–";

const $ = (id) => document.getElementById(id);

function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function button(words, press, attributes) {
  const made = el("button", { type: "button", ...attributes }, words);
  made.addEventListener("click", press);
  return made;
}

// Text is only set where it differs: a browser lays out again what is set to the same.
function write(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function mark(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

function seconds(value) {
  if (!Number.isFinite(value)) return NOTHING;
  if (value < 0.0995) return `${Math.round(Math.max(value, 0) * 1000)} ms`;
  return value < 9.95 ? `${value.toFixed(1)} s` : age(value);
}

function age(value) {
  if (!Number.isFinite(value)) return NOTHING;
  const whole = Math.max(Math.floor(value), 0);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`;
}

function count(value) {
  if (value < 10_000) return value.toLocaleString("en-US");
  const [unit, by] = value < 1e6 ? ["k", 1e3] : value < 1e9 ? ["M", 1e6] : ["G", 1e9];
  return `${(value / by).toFixed(value / by < 100 ? 1 : 0)} ${unit}`;
}

function some(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

function money(dollars) {
  if (dollars >= 100) return `$${count(Math.round(dollars))}`;
  if (dollars >= 0.995) return `$${dollars.toFixed(2)}`;
  return dollars > 0 && dollars < 0.0001 ? "< $0.0001" : `$${dollars.toFixed(4)}`;
}

// The start of a text that may be very long, cut between characters.
function clip(words, most) {
  if (words.length <= most) return words;
  const cut = words.charCodeAt(most - 1) >= 0xd800 && words.charCodeAt(most - 1) <= 0xdbff ? most - 1 : most;
  return `${words.slice(0, cut)}…`;
}

function oneLine(words, most = 300) {
  return clip(words.slice(0, most + 1).replace(/\s+/gu, " "), most);
}

// Characters that nobody can see, or that turn the direction of writing, as escapes: what is read must be what is there.
const UNSEEN_CHARACTERS = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

function plainly(words, kept = "\n") {
  return words.replace(UNSEEN_CHARACTERS, (one) =>
    kept.includes(one) ? one : `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`,
  );
}

// A whole number that is too long for the numbers of this language, kept as it was written: who approves a call must see
// the digits that the tool will get. An older browser cannot keep it, and says so.
class LongNumber {
  constructor(value, written) {
    this.value = value;
    this.written = written;
  }

  toJSON() {
    return this.written === undefined ? `about ${this.value}, rounded by this browser` : JSON.rawJSON(this.written);
  }
}

function readJson(words) {
  if (!/\d{16}/u.test(words)) return JSON.parse(words);
  return JSON.parse(words, (_, value, context) => {
    if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
    if ("rawJSON" in JSON) return /^-?\d+$/u.test(context.source) ? new LongNumber(value, context.source) : value;
    return Number.isInteger(value) || !Number.isFinite(value) ? new LongNumber(value) : value;
  });
}

function asJson(value, indent) {
  return value === undefined ? "" : JSON.stringify(value, null, indent);
}

// A moment behind another one, in few characters.
function since(value) {
  if (!(value >= 60)) return `+${seconds(value)}`;
  const two = (number) => String(Math.floor(number) % 60).padStart(2, "0");
  return value < 3600 ? `+${Math.floor(value / 60)}:${two(value)}` : `+${Math.floor(value / 3600)}:${two(value / 60)}:${two(value)}`;
}

function clock(time) {
  return new Date(time * 1000).toLocaleTimeString("en-GB");
}

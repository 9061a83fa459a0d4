// @ts-check
/* What the calculators of costs/ and fit/ share: figures as the pages write them, controls, a state in the address. */

/** Value, low, high; null where an end cannot be had.
 * @typedef {[number, number|null, number|null]} Span */

/* The signs of numbers, as quantcase/signs.py has them: [decimals, thousands]. The page says which are its own. */
const SIGNS = /** @type {Record<string, [string, string]>} */ ({ en: [".", ","], de: [",", "."], fr: [",", "\u202f"] });
const language = () => (typeof document === "undefined" ? "en" : document.documentElement.dataset.numbers || "en");
/** A formatted English figure with the page's signs.
 * @param {string} figure */
export function signed(figure) {
  const [point, group] = SIGNS[language()] || SIGNS.en;
  return point === "." ? figure : figure.replace(/[.,]/g, (c) => (c === "." ? point : group));
}
const FIGURE = new RegExp("(?<![\\p{L}\\p{N}_&#.,/])(?<![\\p{L}\\p{N}_]-)(?:\\d{1,3}(?:,\\d{3})+|\\d+)(?:\\.\\d+)?"
  + "(?![\\p{L}\\p{N}_/-]|[.,]\\d)", "gu");
/** A sentence of ours with its figures in the page's signs.
 * @param {string} words */
export const localized = (words) => words.replace(FIGURE, signed);
/** What was typed, in the page's signs; NaN where it is no number in them: 3.59 is none on a German page.
 * @param {string} typed */
export function typedNumber(typed) {
  const [point, group] = SIGNS[language()] || SIGNS.en, plain = typed.trim().replace(/[\s\u00a0\u202f]/g, "\u202f");
  const form = new RegExp("^[+-]?(?:\\d{1,3}(?:\\" + group + "\\d{3})+|\\d+)?(?:\\" + point + "\\d+)?$");
  if (!/\d/.test(plain) || !form.test(plain)) return NaN;
  return Number(plain.replaceAll(group, "").replace(point, "."));
}

/* Figures as text.number and text.span write them. */

/** Fixed decimals as Python rounds them: exact ties go to the even digit.
 * @param {number} value @param {number} places */
export function fixed(value, places) {
  const shown = value.toFixed(places), exact = value.toFixed(60), point = exact.indexOf(".");
  const tie = /^50*$/.test(exact.slice(point + 1 + places));
  if (!tie || !/[13579]$/.test(shown)) return shown;
  return exact.slice(0, places ? point + 1 + places : point); // cut, not rounded up: the digit before was even
}
const MOST_PLACES = 6;
/** The decimals that so many significant digits take, after rounding to them.
 * @param {number} value @param {number} digits */
const placesOf = (value, digits) => Math.max(0, digits - 1 - Number(value.toExponential(digits - 1).split("e")[1]));
/** @param {number} value @param {number} places */
export function grouped(value, places) {
  const [whole, rest] = fixed(Math.abs(value), places).split(".");
  const shown = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? "." + rest : "");
  return signed((value < 0 && /[1-9]/.test(shown) ? "−" : "") + shown);
}
/** A share as text.percent writes it.
 * @param {number} share @param {number} [places] */
export const percent = (share, places = 1) => grouped(100 * share, places) + " %";
/** @param {number|null} value @param {number} [digits] */
export function number(value, digits = 3) {
  if (value === null || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const places = placesOf(value, digits);
  if (places <= Math.max(MOST_PLACES, digits)) return grouped(value, Math.min(places, MOST_PLACES));
  const [mantissa, power] = value.toExponential(digits - 1).split("e");
  const raised = Array.from(String(Number(power)), (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)])).join("");
  return signed((mantissa + " × 10" + raised).replace("-", "−"));
}
/** A figure and its interval: all with as many decimals as the interval carries.
 * @param {Span|null} value @returns {[string, string]} */
export function spanWords(value) {
  if (!value || value[1] === null || value[2] === null) return [number(value && value[0]), ""];
  const [at, low, high] = /** @type {number[]} */ (value), half = (high - low) / 2, to = low >= 0 ? "–" : " to ";
  let places = half > 0 && half < Infinity ? Math.min(placesOf(at || half, 3), placesOf(half, 2)) : MOST_PLACES + 1;
  if (places > MOST_PLACES) return [number(at), "(" + number(low) + to + number(high) + ")"];
  while (places < MOST_PLACES && grouped(low, places) === grouped(high, places)) places++;
  return [grouped(at, places), "(" + grouped(low, places) + to + grouped(high, places) + ")"];
}
/** @param {string} tag @param {string} name @param {(Node|string)[]} inside */
export function make(tag, name, ...inside) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...inside);
  return node;
}
/* Controls: built here, so that no dead form stands on a page without scripts. */

/** A number as it stands in a field: all its digits, no thousands.
 * @param {number} value */
export const fieldWords = (value) => signed(String(value));
/** A number field; `act` gets what was typed when it is a number above `least` (and at most `most`), else the field
 * says that it is not.
 * @param {string} words @param {number|null} value @param {(x: number) => void} act
 * @param {{least?: number, most?: number, zero?: boolean, whole?: boolean}} [rule] */
export function numberField(words, value, act, { least = 0, most = Infinity, zero = false, whole = false } = {}) {
  const input = /** @type {HTMLInputElement} */ (make("input", ""));
  const english = language() === "en"; // a number field writes in the browser's language, whatever the page's is
  if (english) {
    Object.assign(input, { type: "number", step: "any", min: String(least) });
    if (most < Infinity) input.max = String(most);
  } else input.type = "text";
  input.inputMode = "decimal";
  input.value = value === null ? "" : fieldWords(value);
  input.addEventListener("input", () => {
    const typed = input.value.trim() === "" ? NaN : english ? Number(input.value) : typedNumber(input.value);
    const right = (typed > least || (zero && typed === least)) && typed <= most && (!whole || Number.isInteger(typed));
    if (right) input.removeAttribute("aria-invalid");
    else input.setAttribute("aria-invalid", "true");
    if (right) act(typed);
  });
  return { input, label: make("label", "", make("span", "", words), input) };
}
/** @param {string} words @param {[string, string][]} options @param {string} value @param {(v: string) => void} act */
export function choice(words, options, value, act) {
  const select = /** @type {HTMLSelectElement} */ (make("select", ""));
  for (const [key, shown] of options) select.append(Object.assign(make("option", "", shown), { value: key }));
  select.value = value;
  select.setAttribute("aria-label", words); // the label around it holds all options too
  select.addEventListener("change", () => act(select.value));
  return { select, label: make("label", "", make("span", "", words), select) };
}
/** @param {string} words @param {(Node|string)[]} inside */
export const group = (words, ...inside) => make("fieldset", "", make("legend", "", words), ...inside);
/** Keep a state in the address; what is as usual is left out.
 * @param {Record<string, string|number>} state @param {Record<string, string|number>} usual */
export function keep(state, usual) {
  const given = new URLSearchParams();
  for (const [k, v] of Object.entries(state)) if (String(v) !== String(usual[k])) given.set(k, String(v));
  const query = given.toString();
  history.replaceState(history.state, "", location.pathname + (query ? "?" + query : "") + location.hash);
}
/** Numbers of the address, by name; what is no number in (0, most] is left out.
 * @param {URLSearchParams} given @param {string} name @param {number} usual @param {number} [most]
 * @param {boolean} [zero] */
export function asked(given, name, usual, most = Infinity, zero = false) {
  const text = given.get(name), x = text === null || text.trim() === "" ? NaN : Number(text);
  return (x > 0 || (zero && x === 0)) && x <= most ? x : usual;
}
/** Reads a page's JSON; null where there is none.
 * @param {string} id */
export function embedded(id) {
  const node = document.getElementById(id);
  return node ? JSON.parse(node.textContent || "null") : null;
}

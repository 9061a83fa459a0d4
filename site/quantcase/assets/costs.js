// @ts-check
/* Costs with the reader's own figures. The formulas are those of analysis/cost.py and analysis/cost_table.py, once;
 * tests/browser/test_play.py runs both over a grid. The page reads well without this script. */

import { asked, choice, embedded, fixed, group, keep, localized, make, number, numberField, percent, signed,
  spanWords } from "./play.js";

/**
 * @typedef {import("./play.js").Span} Span
 * @typedef {{speed: Span, ttft: Span|null, e2e: Span|null}} Arm
 * @typedef {{saving: Span|null, decided: boolean, words: string}} Pair
 * @typedef {{name: string, output_tokens: number, loads: string[], usual: number, arms: Record<string, (Arm|null)[]>,
 *   pairs: Record<string, (Pair|null)[][]>}} Lane
 * @typedef {{id: string, grade: string, price: number|null, baseline: string, variants: string[], region: number,
 *   lanes: Lane[], gpus: Record<string, number>}} CostCase
 * @typedef {{limit: "ttft"|"e2e", ms: number}} Budget
 * @typedef {{prices: Record<string, number>, use: number, gpus: number, rate: number, budget: Budget|null,
 *   weights: Record<string, number>}} Inputs
 * @typedef {{share: number, output_tokens: number, speed: Span}} Part
 * @typedef {{case: string, workload: string, variant: string, load: string, missing: string,
 *   per_1m_tokens: Span|null, per_1k_requests: number|null, per_1m_requests: number|null, saving: Span|null,
 *   words: string, ttft: Span|null, e2e: Span|null}} Row
 * @typedef {{case: string, variant: string, missing: string, per_1m_tokens: Span|null, per_1k_requests: Span|null,
 *   saving: Span|null, words: string, requests_per_day: Span|null, bill_per_month: number|null, bar: Span|null}} MixRow
 */

const UNMET = "no load point with a p95 within the budget";
const NO_BASE = "no saving shown (the baseline has no load point to compare with)";
const NOISE = "no saving shown (within the noise)";
const HOURS_A_MONTH = 730;

/** @type {(values: number[]) => number} */
const sum = (values) => values.reduce((a, b) => a + b, 0);

/** The same of each end that is known.
 * @param {Span} span @param {(x: number) => number} change @returns {Span} */
export function each(span, change) {
  const end = (/** @type {number|null} */ x) => (x === null ? null : change(x));
  return [change(span[0]), end(span[1]), end(span[2])];
}
/** A span from a function of the index of its ends; null where an end is unknown.
 * @param {(i: 0|1|2) => number} at @returns {Span} */
function ends(at) {
  const end = (/** @type {1|2} */ i) => { const x = at(i); return Number.isNaN(x) ? null : x; };
  return [at(0), end(1), end(2)];
}
/** @param {Span} span @param {0|1|2} i */
const end = (span, i) => { const x = span[i]; return x === null ? NaN : x; };
/** @param {number} usdPerHour @param {number} tokensPerSecond @param {number} use */
export const usdPerMillion = (usdPerHour, tokensPerSecond, use) => 1e6 * usdPerHour / (3600 * tokensPerSecond * use);
/** @param {number} usdPer1m @param {number} tokens @param {number} requests */
export const usdPerRequests = (usdPer1m, tokens, requests) => usdPer1m * tokens * requests / 1e6;
/** @param {Span} span @returns {Span} */
const swapped = ([value, low, high]) => [value, high, low];
/** @param {Part[]} parts @param {number} usdPerHour @param {number} use @returns {Span} */
export function mixCost(parts, usdPerHour, use) {
  const tokens = sum(parts.map((p) => p.share * p.output_tokens));
  return swapped(ends((i) =>
    sum(parts.map((p) => p.share * p.output_tokens * usdPerMillion(usdPerHour, end(p.speed, i), use))) / tokens));
}
/** @param {Part[]} base @param {Span[]} savings @returns {Span} */
export function mixSaving(base, savings) {
  const weights = base.map((p) => p.share * p.output_tokens / p.speed[0]);
  return ends((i) => sum(weights.map((w, n) => w * end(savings[n], i))) / sum(weights));
}
/** @param {Span} share @param {number} region */
export const outside = (share, region) =>
  (share[1] !== null && share[1] > 1 - 1 / (1 + region)) || (share[2] !== null && share[2] < -region);
/** @param {Part[]} parts @param {number} gpus @param {number} use @returns {Span} */
export function requestsPerDay(parts, gpus, use) {
  const whole = sum(parts.map((p) => p.share));
  return ends((i) => 86400 * gpus * use * whole / sum(parts.map((p) => p.share * p.output_tokens / end(p.speed, i))));
}

/** The load point that counts; null: there is none.
 * @param {Lane} lane @param {string} variant @param {Budget|null} budget @returns {number|null} */
export function choose(lane, variant, budget) {
  const arms = lane.arms[variant] || [];
  if (!budget) return arms[lane.usual] ? lane.usual : null;
  for (let i = arms.length - 1; i >= 0; i--) {
    const arm = arms[i], tail = arm && arm[budget.limit];
    if (tail && tail[0] <= budget.ms) return i;
  }
  return null;
}
/** @param {Lane} lane @param {string} variant @param {number|null} at */
const armAt = (lane, variant, at) => (at === null ? null : (lane.arms[variant] || [])[at] || null);
/** @param {CostCase} found @param {Inputs} inputs */
const priceOf = (found, inputs) => (found.id in inputs.prices ? inputs.prices[found.id] : found.price);
/** GPUs of one server of a variant: each is paid for. @param {CostCase} found @param {string} variant */
const gpusOf = (found, variant) => found.gpus[variant] ?? 1;
/** A variant's name, with its GPUs where there are several. @param {CostCase} found @param {string} variant */
const named = (found, variant) => (gpusOf(found, variant) > 1 ? `${variant}, ${gpusOf(found, variant)} GPUs` : variant);

/** @param {CostCase} found @param {Lane} lane @param {string} variant @param {number} at @param {number|null} base
 * @returns {[Span|null, string]} */
function saved(found, lane, variant, at, base) {
  if (variant === found.baseline) return [null, "baseline"];
  const pair = base === null ? null : lane.pairs[variant][at][base];
  if (!pair) return [null, NO_BASE];
  return pair.decided ? [pair.saving, ""] : [null, pair.words];
}
/** Every variant on every workload.
 * @param {CostCase} found @param {Inputs} inputs @returns {Row[]} */
export function rows(found, inputs) {
  const price = priceOf(found, inputs);
  /** @type {Row[]} */
  const made = [];
  if (price === null) return made;
  for (const lane of found.lanes) {
    const base = choose(lane, found.baseline, inputs.budget);
    for (const variant of found.variants) {
      const at = choose(lane, variant, inputs.budget), arm = armAt(lane, variant, at);
      const head = { case: found.id, workload: lane.name, variant };
      if (at === null || !arm) {
        const none = { per_1m_tokens: null, per_1k_requests: null, per_1m_requests: null, saving: null, words: "" };
        if (inputs.budget) made.push({ ...head, load: "", missing: UNMET, ...none, ttft: null, e2e: null });
        continue;
      }
      const hour = price * gpusOf(found, variant);
      const cost = swapped(each(arm.speed, (x) => usdPerMillion(hour, x, inputs.use) * inputs.rate));
      const [saving, words] = saved(found, lane, variant, at, base);
      made.push({ ...head, load: lane.loads[at], missing: "", per_1m_tokens: cost,
        per_1k_requests: usdPerRequests(cost[0], lane.output_tokens, 1e3),
        per_1m_requests: usdPerRequests(cost[0], lane.output_tokens, 1e6), saving, words, ttft: arm.ttft,
        e2e: arm.e2e });
    }
  }
  return made;
}
/** @param {[Lane, number][]} lanes @param {string} variant @param {Inputs} inputs @returns {Part[]|null} */
function partsOf(lanes, variant, inputs) {
  const whole = sum(lanes.map(([, w]) => w)), parts = [];
  for (const [lane, weight] of lanes) {
    const arm = armAt(lane, variant, choose(lane, variant, inputs.budget));
    if (!arm) return null;
    parts.push({ share: weight / whole, output_tokens: lane.output_tokens, speed: arm.speed });
  }
  return parts;
}
/** @param {CostCase} found @param {[Lane, number][]} lanes @param {string} variant @param {Part[]|null} base
 * @param {Inputs} inputs @returns {[Span|null, string]} */
function mixSaved(found, lanes, variant, base, inputs) {
  if (variant === found.baseline) return [null, "baseline"];
  /** @type {Span[]} */
  const savings = [];
  let words = "";
  for (const [lane] of lanes) {
    const at = choose(lane, variant, inputs.budget), theirs = choose(lane, found.baseline, inputs.budget);
    const pair = at === null || theirs === null ? null : lane.pairs[variant][at][theirs];
    if (!base || !pair) return [null, NO_BASE];
    if (!pair.saving) return [null, pair.words];
    const [share, low, high] = pair.saving; // not decided: carries no claim, so its interval is widened to reach 0
    savings.push(pair.decided ? pair.saving : [share, Math.min(low || 0, 0), Math.max(high || 0, 0)]);
    words = words || pair.words;
  }
  if (!base) return [null, NO_BASE];
  const share = mixSaving(base, savings);
  if (outside(share, found.region)) return [share, ""];
  return [null, lanes.length === 1 ? words : NOISE];
}
/** Every variant on the reader's mix of the case's workloads.
 * @param {CostCase} found @param {Inputs} inputs @returns {MixRow[]} */
export function mix(found, inputs) {
  const price = priceOf(found, inputs);
  /** @type {[Lane, number][]} */
  const lanes = found.lanes.map((lane) => /** @type {[Lane, number]} */ (
    [lane, lane.name in inputs.weights ? inputs.weights[lane.name] : 1])).filter(([, w]) => w > 0);
  if (price === null || !lanes.length) return [];
  const base = partsOf(lanes, found.baseline, inputs);
  const made = found.variants.map((variant) => {
    const parts = partsOf(lanes, variant, inputs), head = { case: found.id, variant };
    if (!parts) return /** @type {MixRow} */ ({ ...head,
      missing: inputs.budget ? UNMET : "not measured on every workload of the mix", per_1m_tokens: null,
      per_1k_requests: null, saving: null, words: "", requests_per_day: null, bill_per_month: null, bar: null });
    const hour = price * gpusOf(found, variant);
    const cost = each(mixCost(parts, hour, inputs.use), (x) => x * inputs.rate);
    const tokens = sum(parts.map((p) => p.share * p.output_tokens));
    const [saving, words] = mixSaved(found, lanes, variant, base, inputs);
    return /** @type {MixRow} */ ({ ...head, missing: "", per_1m_tokens: cost,
      per_1k_requests: each(cost, (x) => x * tokens / 1000), saving, words,
      requests_per_day: requestsPerDay(parts, inputs.gpus, inputs.use),
      bill_per_month: hour * inputs.gpus * HOURS_A_MONTH * inputs.rate, bar: null });
  });
  const known = made.flatMap((row) => (row.per_1m_tokens || []).flatMap((x) => (x === null ? [] : [x])));
  const most = known.length ? Math.max(...known) : 1;
  for (const row of made) if (row.per_1m_tokens) row.bar = each(row.per_1m_tokens, (x) => 100 * x / most);
  return made;
}

/** @param {Span|null} value @returns {(Node|string)[]} */
function span(value) {
  const [figure, interval] = spanWords(value);
  return interval ? [figure + " ", make("small", "", interval)] : [figure];
}
const share = (/** @type {number|null} */ x) => percent(x === null ? NaN : x);
/** @param {Span|null} saving @param {string} words @returns {(Node|string)[]} */
export function savingCell(saving, words) {
  if (!saving) return [make("span", "qc-why", words)];
  return [share(saving[0]) + " ", make("small", "", "(" + share(saving[1]) + " to " + share(saving[2]) + ")")];
}
/** Three digits: a count that follows from an estimate.
 * @param {Span|null} value */
const rounded = (value) => value && each(value, (x) => Number(x.toPrecision(3)));

const SVG = "http://www.w3.org/2000/svg";
/** @param {Span} bar @param {number} series */
function drawn(bar, series) {
  const svg = document.createElementNS(SVG, "svg");
  const put = (/** @type {string} */ tag, /** @type {Record<string, string>} */ given) => {
    const node = document.createElementNS(SVG, tag);
    for (const [k, v] of Object.entries(given)) node.setAttribute(k, v);
    svg.append(node);
  };
  for (const [k, v] of [["class", "qc-bar"], ["viewBox", "0 0 100 10"], ["preserveAspectRatio", "none"],
    ["aria-hidden", "true"]]) svg.setAttribute(k, v);
  put("rect", { class: "qc-bar-" + series, width: fixed(bar[0], 2), height: "10" });
  if (bar[1] !== null && bar[2] !== null)
    put("line", { x1: fixed(bar[1], 2), x2: fixed(bar[2], 2), y1: "5", y2: "5" });
  return svg;
}
/** @param {string} id @param {(Node|string)[][][]} cells @param {boolean[]} figures */
function fill(id, cells, figures) {
  const body = document.querySelector("#table-" + id + " tbody");
  if (!body) return;
  body.replaceChildren(...cells.map((row) => make("tr", "", ...row.map((inside, i) => {
    const cell = make(i ? "td" : "th", figures[i] ? "num" : "", ...inside);
    if (!i) cell.setAttribute("scope", "row");
    return cell;
  }))));
  document.querySelectorAll("#table-" + id + " th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
}
/** @param {CostCase} found */
const linked = (found) =>
  Object.assign(make("a", "", found.id), { href: "../cases/" + encodeURIComponent(found.id) + "/" });
/** @param {CostCase} found */
function badge(found) {
  const node = make("span", "qc-grade", found.grade);
  node.dataset.grade = found.grade;
  return node;
}
const few = () => make("span", "qc-few", "too few requests");
/** What is said aloud: the lowest figure of each case, and whom it cannot be told from.
 * @param {CostCase[]} cases @param {Inputs} inputs @param {string} currency */
export function summary(cases, inputs, currency) {
  const said = [];
  for (const c of cases) {
    const priced = mix(c, inputs).filter((row) => row.per_1m_tokens);
    if (!priced.length) continue;
    const cost = (/** @type {MixRow} */ row, /** @type {0|1|2} */ i) =>
      (row.per_1m_tokens ? end(row.per_1m_tokens, i) : NaN);
    const low = priced.reduce((a, b) => (cost(b, 0) < cost(a, 0) ? b : a));
    const near = priced.filter((row) => row !== low && !(cost(row, 1) > cost(low, 2))).map((row) => row.variant);
    said.push(c.id + ": lowest figure for the mix " + number(cost(low, 0)) + " " + currency + " per 1M output tokens, "
      + low.variant + (near.length ? "; its interval meets that of " + near.join(", ") : "") + ".");
  }
  const all = cases.flatMap((c) => rows(c, inputs)), unmet = all.filter((row) => row.missing).length;
  if (unmet) said.push(unmet + " of " + all.length + " rows have no load point within the budget.");
  return said.join(" ") || "No case has a price.";
}
/** @param {CostCase[]} cases @param {Inputs} inputs */
function show(cases, inputs) {
  const found = cases.flatMap((c) => rows(c, inputs).map((row) => ({ c, row })));
  fill("costs", found.map(({ c, row }) => [
    [linked(c)], [row.workload + (row.load && ", " + localized(row.load))], [named(c, row.variant)],
    ...(row.missing ? [[row.missing], ["–"], ["–"], ["–"], ["–"], ["–"]] : [
      span(row.per_1m_tokens), savingCell(row.saving, row.words), [number(row.per_1k_requests)],
      [number(row.per_1m_requests)], row.ttft ? span(row.ttft) : [few()], row.e2e ? span(row.e2e) : [few()]]),
    [badge(c)]]), [false, false, false, true, true, true, true, true, true, false]);
  const mixed = cases.flatMap((c) => mix(c, inputs).map((row) => ({ c, row })));
  fill("mix", mixed.map(({ c, row }) => [
    [linked(c)], [named(c, row.variant)],
    ...(row.missing ? [[row.missing], ["–"], ["–"], ["–"], ["–"], ["–"]] : [
      span(row.per_1m_tokens), row.bar ? [drawn(row.bar, c.variants.indexOf(row.variant) % 8)] : ["–"],
      savingCell(row.saving, row.words), span(row.per_1k_requests), span(rounded(row.requests_per_day)),
      [number(row.bill_per_month)]]),
    [badge(c)]]), [false, false, true, false, true, true, true, true, false]);
}

/** @param {HTMLElement} box @param {CostCase[]} cases @param {string} currency @param {number} rate its units in 1 USD */
function calculator(box, cases, currency, rate) {
  const names = [...new Set(cases.flatMap((c) => c.lanes.map((lane) => lane.name)))];
  /** @type {Record<string, string|number>} */
  const usual = { use: 100, gpus: 1, cur: currency, rate, limit: "none", ms: 1000 };
  for (const name of names) usual["mix." + name] = 1;
  for (const c of cases) usual["price." + c.id] = c.price === null ? "" : c.price;
  const state = { ...usual }, status = make("p", "qc-play-says");
  const stated = document.querySelector(".qc-rate")?.textContent || ""; // the page's own rate, its source and date
  status.setAttribute("role", "status");
  status.setAttribute("aria-live", "polite");

  function read() {
    const given = new URLSearchParams(location.search);
    for (const [key, value] of Object.entries(usual)) {
      if (typeof value === "number" || key.startsWith("price.")) {
        const most = key === "use" ? 100 : Infinity;
        const found = asked(given, key, NaN, most, key.startsWith("mix."));
        state[key] = Number.isNaN(found) ? value : found;
      } else state[key] = given.get(key) || value;
    }
    state.cur = String(state.cur).slice(0, 8);
    state.gpus = Math.max(1, Math.round(Number(state.gpus)));
    if (!["ttft", "e2e"].includes(String(state.limit))) state.limit = "none";
  }
  /** @returns {Inputs} */
  function inputs() {
    const of = (/** @type {string} */ start) => Object.fromEntries(Object.entries(state)
      .filter(([k, v]) => k.startsWith(start) && v !== "").map(([k, v]) => [k.slice(start.length), Number(v)]));
    const budget = state.limit === "none" ? null
      : { limit: /** @type {"ttft"|"e2e"} */ (state.limit), ms: Number(state.ms) };
    return { prices: of("price."), use: Number(state.use) / 100, gpus: Number(state.gpus), rate: Number(state.rate),
      budget, weights: of("mix.") };
  }
  const say = () => { status.textContent = summary(cases, inputs(), String(state.cur)); };
  function draw() {
    show(cases, inputs());
    document.querySelectorAll(".qc-cur").forEach((node) => { node.textContent = String(state.cur); });
    const own = state.cur === usual.cur && state.rate === usual.rate, note = document.querySelector(".qc-rate");
    if (note) {
      note.textContent = own ? stated : "Amounts in " + state.cur + " at " + signed(String(state.rate)) + " " + state.cur
        + " for 1 USD, your own rate. The prices of a GPU by the hour are in USD.";
    }
    say();
  }
  function changed() { keep(state, usual); draw(); }
  const set = (/** @type {string} */ key) => (/** @type {number|string} */ x) => { state[key] = x; changed(); };

  function controls() {
    const field = (/** @type {string} */ words, /** @type {string} */ key, /** @type {object} */ rule = {}) =>
      numberField(words, state[key] === "" ? null : Number(state[key]), set(key), rule).label;
    const ms = numberField("Milliseconds", Number(state.ms), set("ms"));
    /** @type {[string, string][]} */
    const limits = [["none", "no budget"], ["ttft", "TTFT"], ["e2e", "E2E"]];
    const limit = choice("p95 of", limits, String(state.limit), (v) => {
      ms.input.disabled = v === "none";
      set("limit")(v);
    });
    ms.input.disabled = state.limit === "none";
    const label = /** @type {HTMLInputElement} */ (make("input", ""));
    Object.assign(label, { type: "text", maxLength: 8, value: String(state.cur) });
    label.addEventListener("input", () => set("cur")(label.value.trim() || currency));
    const back = Object.assign(make("button", "", "Back to the page's own figures"), { type: "button" });
    back.addEventListener("click", () => {
      Object.assign(state, usual);
      changed();
      controls();
      box.querySelector("input")?.focus();
    });
    box.replaceChildren(
      group("USD an hour, one GPU", ...cases.map((c) => field(c.id, "price." + c.id))),
      group("Machine", field("Use, %", "use", { most: 100 }), field("Servers", "gpus", { whole: true })),
      group("Mix: parts of all requests", ...names.map((n) => field(n, "mix." + n, { zero: true }))),
      group("Budget", limit.label, ms.label),
      group("Currency", make("label", "", make("span", "", "Label"), label), field("Units in 1 USD", "rate")),
      back, status);
  }
  read();
  controls();
  if (JSON.stringify(state) !== JSON.stringify(usual)) draw();
  else say();
}

function start() {
  const box = document.getElementById("costs-calculator");
  if (!box || box.dataset.qcReady) return;
  const data = embedded("costs-data");
  if (!data || !data.cases.length) return;
  box.dataset.qcReady = "1";
  box.hidden = false;
  calculator(box, data.cases, data.currency || "USD", data.rate || 1);
}
if (typeof document !== "undefined") {
  start();
  // @ts-ignore - Material's instant navigation, where it is on
  if (window.document$) window.document$.subscribe(start);
}

// @ts-check
/* Will it fit? With the reader's own model and load. The formulas are those of analysis/fit.py, once;
 * tests/browser/test_play.py runs both over a grid. The page reads well without this script. */
import { asked, choice, embedded, fieldWords, group, grouped, keep, make, number, numberField } from "./play.js";

/**
 * @typedef {{key: string, title: string, parameters: number, sixteen: number, hidden: number, intermediate: number,
 *   layers: number, heads: number, kv_heads: number, head_dim: number, vocabulary: number,
 *   measured: Overhead|null}} Shape
 * @typedef {{key: string, title: string, bits: number, whole: boolean}} Format
 * @typedef {{name: string, title: string, memory: number}} Gpu
 * @typedef {{low: number, high: number, starts: number}} Overhead
 * @typedef {{kv_bytes: number, tokens: number, contexts: number, share: number}} Ask
 * @typedef {{verdict: string, may_take: number, weights: number, kv: number, need: [number, number],
 *   free: [number, number], most: [number, number]}} Fit
 * @typedef {{shapes: Shape[], formats: Format[], gpus: Gpu[], ask: Ask, shape: string, format: string,
 *   constants: {block: number, batched: number, context: number[], graphs: number[], activations: number[]}}} Data
 */
const GIB = 1024 ** 3;

/** @param {Shape} shape @param {Format} stored */
export function weightsGib(shape, stored) {
  const plain = stored.whole ? 0 : shape.sixteen;
  return ((shape.parameters - plain) * stored.bits / 8 + plain * 2) / GIB;
}
/** @param {Shape} shape @param {number} kvBytes */
export const kvBytesPerToken = (shape, kvBytes) => 2 * shape.layers * shape.kv_heads * shape.head_dim * kvBytes;
/** @param {Shape} shape @param {Ask} ask @param {number} block */
export const kvGibPerContext = (shape, ask, block) =>
  Math.ceil(ask.tokens / block) * block * kvBytesPerToken(shape, ask.kv_bytes) / GIB;
/** @param {Shape} shape @param {number} contexts @param {Data["constants"]} c @returns {Overhead} */
export function estimate(shape, contexts, c) {
  const step = c.batched * 2 * (shape.hidden + shape.intermediate) * 2;
  const activations = (step + contexts * shape.vocabulary * 4) / GIB;
  const [low, high] = [0, 1].map((i) => c.activations[i] * activations + c.graphs[i] + c.context[i]);
  return { low, high, starts: 0 };
}
/** @param {Shape} shape @param {Format} stored @param {Ask} ask @param {number} memory @param {Overhead} rest
 * @param {number} block @returns {Fit} */
export function fit(shape, stored, ask, memory, rest, block) {
  const weights = weightsGib(shape, stored), each = kvGibPerContext(shape, ask, block);
  const kv = each * ask.contexts, may = memory * ask.share;
  const low = weights + kv + rest.low, high = weights + kv + rest.high;
  const most = (/** @type {number} */ x) => Math.max(0, Math.floor((may - weights - x) / each));
  const verdict = high <= may ? "fits" : low > may ? "does not fit" : "depends on overhead";
  return { verdict, may_take: may, weights, kv, need: [low, high], free: [may - high, may - low],
    most: [most(rest.high), most(rest.low)] };
}

/* Words, as pages/fit.py writes them. */
const SIGNS = /** @type {Record<string, string>} */ ({ fits: "✓", "does not fit": "✗", "depends on overhead": "?" });
const whole = (/** @type {number} */ n) => grouped(Math.round(n), 0);
const gib = (/** @type {number} */ x) => grouped(x, 1);
const between = (/** @type {string} */ a, /** @type {string} */ b) => (a === b ? a : a + " to " + b);
const billions = (/** @type {number} */ n) => number(n / 1e9, 4);
/** @param {Shape} shape @param {Format} stored @param {Ask} ask @param {Overhead} rest @param {Gpu} gpu
 * @param {number} block */
export function lines(shape, stored, ask, rest, gpu, block) {
  const found = fit(shape, stored, ask, gpu.memory, rest, block), plain = stored.whole ? 0 : shape.sixteen;
  const token = kvBytesPerToken(shape, ask.kv_bytes), tokens = Math.ceil(ask.tokens / block) * block;
  const source = rest.starts ? "measured, n = " + rest.starts + " server starts" : "estimated, not measured";
  return [
    "Weights: (" + billions(shape.parameters) + " − " + billions(plain) + ") × 10⁹ × " + number(stored.bits, 4)
      + " bits / 8 + " + billions(plain) + " × 10⁹ × 2 bytes = " + gib(found.weights) + " GiB",
    "KV cache: 2 × " + shape.layers + " layers × " + shape.kv_heads + " KV heads × " + shape.head_dim + " × "
      + number(ask.kv_bytes) + " bytes = " + whole(token) + " bytes a token; × " + whole(tokens) + " tokens × "
      + whole(ask.contexts) + " contexts = " + gib(found.kv) + " GiB",
    "Overhead: " + between(gib(rest.low), gib(rest.high)) + " GiB (" + source + ")",
    "Need: " + between(gib(found.need[0]), gib(found.need[1])) + " GiB",
    "May be taken of " + gpu.title + ": " + gib(gpu.memory) + " GiB × " + number(100 * ask.share) + " % = "
      + gib(found.may_take) + " GiB",
    "Result: " + found.verdict + "; free " + between(gib(found.free[0]), gib(found.free[1])) + " GiB; at most "
      + between(whole(found.most[0]), whole(found.most[1])) + " contexts of " + whole(ask.tokens) + " tokens at once",
  ];
}
/** @param {Fit} found */
function verdict(found) {
  const node = make("span", "qc-fit", SIGNS[found.verdict] + " " + found.verdict);
  node.dataset.fit = found.verdict;
  return node;
}
/** @param {Fit} found @returns {(Node|string)[][]} */
const cells = (found) => [[gib(found.may_take)], [between(gib(found.need[0]), gib(found.need[1]))], [verdict(found)],
  [between(gib(found.free[0]), gib(found.free[1]))], [between(whole(found.most[0]), whole(found.most[1]))]];

const FIELDS = /** @type {[string, string][]} */ ([["parameters", "Parameters, 10⁹"], ["layers", "Layers"],
  ["hidden", "Hidden size"], ["intermediate", "MLP width"], ["heads", "Heads"], ["kv_heads", "KV heads"],
  ["head_dim", "Head dimension"], ["vocabulary", "Vocabulary"]]);

/** @param {HTMLElement} box @param {Data} data */
function calculator(box, data) {
  /** @type {Record<string, string|number>} */
  const usual = { model: data.shape, format: data.format, bits: "", kv: data.ask.kv_bytes, tokens: data.ask.tokens,
    contexts: data.ask.contexts, share: 100 * data.ask.share, gpu: data.gpus[0].name };
  const gpuOf = (/** @type {string} */ name) => data.gpus.find((g) => g.name === name);
  if (gpuOf("h200")) usual.gpu = "h200";
  const state = { ...usual }, status = make("p", "qc-play-says");
  status.setAttribute("role", "status");
  status.setAttribute("aria-live", "polite");
  let open = false;

  const shapeOf = () => data.shapes.find((s) => s.key === state.model) || data.shapes[0];
  /** @returns {Shape} */
  function shape() {
    if (state.model !== "own") return shapeOf();
    const own = Object.fromEntries(FIELDS.map(([key]) => [key, Number(state[key])]));
    own.parameters *= 1e9;
    return /** @type {Shape} */ (/** @type {unknown} */ ({ ...own, key: "own", title: "your own model", measured: null,
      sixteen: own.vocabulary * own.hidden * (state.tied ? 1 : 2) }));
  }
  function fields() { // a shape as numbers to change
    const known = shapeOf();
    for (const [key] of FIELDS) state[key] = known[/** @type {"layers"} */ (key)];
    state.parameters = Number((known.parameters / 1e9).toPrecision(6));
    state.tied = known.sixteen < 2 * known.vocabulary * known.hidden ? 1 : 0;
  }
  /** @returns {Format} */
  function format() {
    const known = data.formats.find((f) => f.key === state.format) || data.formats[0];
    return state.bits === "" ? known : { ...known, bits: Number(state.bits) };
  }
  function read() {
    const given = new URLSearchParams(location.search), text = (/** @type {string} */ k) => given.get(k) || "";
    if (data.shapes.some((s) => s.key === text("model"))) state.model = text("model");
    if (data.formats.some((f) => f.key === text("format"))) state.format = text("format");
    if (gpuOf(text("gpu"))) state.gpu = text("gpu");
    for (const key of ["tokens", "contexts"])
      state[key] = Math.max(1, Math.round(asked(given, key, Number(usual[key]))));
    state.share = asked(given, "share", Number(usual.share), 100);
    state.kv = asked(given, "kv", Number(usual.kv), 4);
    const bits = asked(given, "bits", NaN, 32);
    if (!Number.isNaN(bits)) state.bits = bits;
    fields();
    if (text("model") !== "own") return;
    for (const [key] of FIELDS) state[key] = asked(given, key, Number(state[key]));
    state.tied = asked(given, "tied", 0, 1, true) ? 1 : 0;
    state.model = "own";
    open = true;
  }
  function draw() {
    const mine = shape(), stored = format();
    const ask = { kv_bytes: Number(state.kv), tokens: Number(state.tokens), contexts: Number(state.contexts),
      share: Number(state.share) / 100 };
    const rest = mine.measured || estimate(mine, ask.contexts, data.constants), block = data.constants.block;
    const gpu = gpuOf(String(state.gpu)) || data.gpus[0], said = lines(mine, stored, ask, rest, gpu, block);
    const list = document.querySelector("ol.qc-sum");
    if (list) list.replaceChildren(...said.map((line) => make("li", "", line)));
    const head = document.querySelector(".qc-fit-what");
    if (head) head.textContent = mine.title + ", " + stored.title;
    let fits = 0;
    for (const each of data.gpus) {
      const row = document.querySelector('#table-fit [data-gpu="' + each.name + '"]')?.closest("tr");
      const found = fit(mine, stored, ask, each.memory, rest, block);
      fits += found.verdict === "fits" ? 1 : 0;
      if (!row) continue;
      row.classList.toggle("qc-mine", each === gpu);
      cells(found).forEach((inside, i) => row.cells[i + 2].replaceChildren(...inside));
    }
    const [, , , , , result] = said;
    status.textContent = mine.title + ", " + stored.title + " on " + gpu.title + ". " + result + ". It fits on " + fits
      + " of " + data.gpus.length + " cards.";
  }
  function changed() {
    const names = [...FIELDS.map(([k]) => k), "tied"];
    const own = state.model === "own" ? {} : Object.fromEntries(names.map((k) => [k, state[k]]));
    keep(state, { ...usual, ...own });
    draw();
  }
  const set = (/** @type {string} */ key) => (/** @type {string|number} */ x) => { state[key] = x; changed(); };
  function controls() {
    const field = (/** @type {string} */ words, /** @type {string} */ key, /** @type {object} */ rule = {}) =>
      numberField(words, Number(state[key]), set(key), rule).label;
    /** @type {[string, string][]} */
    const models = [...data.shapes.map((s) => /** @type {[string, string]} */ ([s.key, s.title])), ["own", "your own"]];
    const model = choice("Model", models, String(state.model), (v) => {
      state.model = v;
      if (v === "own") open = true;
      else fields();
      changed();
      const last = document.activeElement === model.select;
      controls();
      if (last) box.querySelector("select")?.focus();
    });
    const own = FIELDS.map(([key, words]) => numberField(words, Number(state[key]), (x) => {
      state.model = "own";
      model.select.value = "own";
      set(key)(x);
    }, { whole: key !== "parameters" }).label);
    const tied = choice("Output head", [["0", "of its own"], ["1", "is the embedding"]], String(state.tied), (v) => {
      state.model = "own";
      model.select.value = "own";
      set("tied")(Number(v));
    });
    const details = /** @type {HTMLDetailsElement} */ (make("details", "", make("summary", "", "The model's shape"),
      group("From its config.json", ...own, tied.label)));
    details.open = open;
    details.addEventListener("toggle", () => { open = details.open; });
    const bits = numberField("Bits per weight, with scales", format().bits, set("bits"), { most: 32 });
    const stored = choice("Format", data.formats.map((f) => [f.key, f.title]), String(state.format), (v) => {
      state.bits = "";
      set("format")(v);
      bits.input.value = fieldWords(format().bits);
      bits.input.removeAttribute("aria-invalid");
    });
    const kv = choice("KV cache", [["2", "16 bits"], ["1", "8 bits"]], String(state.kv), (v) => set("kv")(Number(v)));
    const gpu = choice("GPU", data.gpus.map((g) => [g.name, g.title]), String(state.gpu), set("gpu"));
    const back = Object.assign(make("button", "", "Back to the page's example"), { type: "button" });
    back.addEventListener("click", () => {
      Object.assign(state, usual);
      fields();
      open = false;
      changed();
      controls();
      box.querySelector("select")?.focus();
    });
    box.replaceChildren(group("Model and card", model.label, gpu.label), group("Weights", stored.label, bits.label),
      group("Load", field("Tokens in a context", "tokens", { whole: true }),
        field("Contexts at once", "contexts", { whole: true }), kv.label),
      group("Card", field("Share of memory taken, %", "share", { most: 100 })), details, back, status);
  }
  read();
  controls();
  if (location.search) draw();
  else status.textContent = "The page's example. Change a field to see your own.";
}

function start() {
  const box = document.getElementById("fit-calculator");
  if (!box || box.dataset.qcReady) return;
  const data = embedded("fit-data");
  if (!data) return;
  box.dataset.qcReady = "1";
  box.hidden = false;
  calculator(box, data);
}
if (typeof document !== "undefined") {
  start();
  // @ts-ignore - Material's instant navigation, where it is on
  if (window.document$) window.document$.subscribe(start);
}

// @ts-check
/* The best balance on the experiment log, with other weights: sliders before the table, the score worked out again in
 * place. The data stand in the block's own attribute; their text only ever becomes a text node. At the page's own
 * weights the figures are those that stand there without this script (log_balance.py makes both).
 *
 * S = g * prod(ratio_k ^ w_k), the weights made to sum to 1; half its interval, as a logarithm, is sum(w_k * half_k).
 */
(function () {
  "use strict";
  /** @typedef {{key: string, name: string, weight: number}} Part weight: percent, before they are made to sum to 1 */
  /** @typedef {{name: string, quality: number, ratios: number[], halves: (number | null)[]}} Row */
  /** @typedef {{workload: string, parts: Part[], rows: Row[], most: number, swing: number, stays: string}} Data */
  /** @typedef {{at: number, value: number, low: number, high: number}} Score nan where there is no interval */
  const STEP = 5, MARK = "#balance:", MOST_PLACES = 6;
  /** The weights that differ from the page's, by workload; all blocks share one address.
   * @type {Map<string, string>} */
  const turned = new Map();
  /** One for each block: take over what the address says. @type {(() => void)[]} */
  const followers = [];

  /* number, span and their decimals are those of text.py: the browser test holds the two against each other. */
  /** The decimals that so many significant digits take. @param {number} value @param {number} digits */
  function decimals(value, digits) {
    return Math.max(0, digits - 1 - Number(value.toExponential(digits - 1).split("e")[1]));
  }
  /* The signs of numbers on this page, as quantcase/signs.py has them. */
  const SIGNS = /** @type {Record<string, [string, string]>} */ ({ de: [",", "."], fr: [",", "\u202f"] });
  const [POINT, GROUP] = SIGNS[document.documentElement.dataset.numbers || "en"] || [".", ","];
  const inSigns = (/** @type {string} */ figure) => figure.replace(/[.,]/g, (c) => (c === "." ? POINT : GROUP));
  /** @param {number} value @param {number} places */
  function fixed(value, places) {
    const [whole, rest] = value.toFixed(places).split(".");
    return inSigns(whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? "." + rest : ""));
  }
  /** @param {number} value @param {number} digits */
  function number(value, digits = 3) {
    if (value === 0) return "0";
    const places = decimals(value, digits);
    if (places <= MOST_PLACES) return fixed(value, places);
    const [mantissa, power] = value.toExponential(digits - 1).split("e");
    return inSigns(mantissa) + " × 10" + power.replace("-", "⁻").replace("+", "").replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(d)]);
  }
  /** A value with its interval. @param {Score} s @returns {(string | HTMLElement)[]} */
  function span(s) {
    if (Number.isNaN(s.low) || Number.isNaN(s.high)) return [number(s.value)];
    const half = (s.high - s.low) / 2, small = document.createElement("small");
    let places = half > 0 ? Math.min(decimals(s.value || half, 3), decimals(half, 2)) : MOST_PLACES + 1;
    const form = (/** @type {number} */ x) => (places > MOST_PLACES ? number(x) : fixed(x, places));
    while (places < MOST_PLACES && form(s.low) === form(s.high)) places += 1;
    small.textContent = "(" + form(s.low) + "–" + form(s.high) + ")";
    return [form(s.value) + " ", small];
  }
  /** @param {number[]} weights @returns {number[]} the same with the sum 1 */
  function normal(weights) {
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((w) => w / sum);
  }
  /** @param {Data} data @param {number[]} weights that sum to 1 @returns {Score[]} best first */
  function scores(data, weights) {
    return data.rows.map((row, at) => {
      let log = 0, half = 0;
      weights.forEach((w, k) => {
        if (w <= 0) return;
        log += w * Math.log(row.ratios[k]);
        const own = row.halves[k];
        half += w * (own === null ? NaN : own);
      });
      const value = row.quality * Math.exp(log);
      return { at, value, low: value * Math.exp(-half), high: value * Math.exp(half) };
    }).sort((a, b) => b.value - a.value);
  }
  /** Whether two intervals meet; without one nothing can be told apart. @param {Score} a @param {Score} b */
  const meet = (a, b) => !(a.high < b.low || b.high < a.low);

  /** @param {Data} data @param {Score[]} found */
  function tie(data, found) {
    const others = found.slice(1).filter((s) => meet(found[0], s)).map((s) => data.rows[s.at].name);
    if (!others.length) return "";
    const more = others.length > data.most ? " and " + (others.length - data.most) + " more" : "";
    return " No winner over " + others.slice(0, data.most).join(", ") + more + ": the intervals of S meet.";
  }
  /** @param {Data} data @param {number[]} weights @param {number} first the row that is first with them */
  function sure(data, weights, first) {
    const unstable = data.parts.filter((_, k) => weights[k] > 0 && [1 - data.swing, 1 + data.swing].some((by) => {
      const moved = normal(weights.map((w, i) => (i === k ? w * by : w)));
      return scores(data, moved)[0].at !== first;
    }));
    if (!unstable.length) return data.stays;
    return "The first place changes when the weight of " + unstable.map((p) => p.name).join(", ") + " is moved by half.";
  }

  /** What the address says of one workload; null where it says nothing that can be used.
   * @param {Data} data @returns {number[] | null} */
  function asked(data) {
    if (!location.hash.startsWith(MARK)) return null;
    const said = new URLSearchParams(location.hash.slice(MARK.length)).get(data.workload);
    if (said === null) return null;
    const given = new Map(said.split(",").map((pair) => {
      const found = /^([a-z]+)-(\d{1,3})$/.exec(pair);
      return found ? [found[1], Math.min(100, Math.round(Number(found[2]) / STEP) * STEP)] : ["", 0];
    }));
    const values = data.parts.map((p) => given.get(p.key) ?? p.weight);
    return values.some((v) => v > 0) ? values : null;
  }
  function save() {
    const parts = Array.from(turned, ([name, words]) => encodeURIComponent(name) + "=" + words);
    const plain = location.pathname + location.search;
    history.replaceState(history.state, "", parts.length ? MARK + parts.join("&") : plain);
  }

  /** @param {HTMLElement} box */
  function enhance(box) {
    const body = box.querySelector("tbody"), table = box.querySelector(".qc-table");
    if (box.dataset.qcReady || !box.dataset.balance || !body || !table) return;
    box.dataset.qcReady = "1";
    /** @type {Data} */
    const data = JSON.parse(box.dataset.balance);
    const lines = Array.from(body.rows), own = data.parts.map((p) => p.weight);
    const start = scores(data, normal(own))[0].at;
    /** @param {string} name @param {...(string | Node)} inside */
    const put = (name, ...inside) => box.querySelector('[data-part="' + name + '"]')?.replaceChildren(...inside);

    const bar = document.createElement("fieldset"), legend = document.createElement("legend");
    bar.className = "qc-balance-bar";
    legend.append("Other weights for ", Object.assign(document.createElement("bdi"), { textContent: data.workload }));
    bar.append(legend);
    const sliders = data.parts.map((part) => {
      const label = document.createElement("label"), name = document.createElement("span");
      const input = document.createElement("input"), shown = document.createElement("b");
      shown.setAttribute("aria-hidden", "true"); // the slider says it itself
      name.textContent = part.name;
      Object.assign(input, { type: "range", min: "0", max: "100", step: String(STEP), value: String(part.weight) });
      input.addEventListener("input", () => { draw(); save(); });
      label.append(name, input, shown);
      bar.append(label);
      return { input, shown };
    });
    const reset = Object.assign(document.createElement("button"), { type: "button" });
    reset.textContent = "Back to the page's weights";
    reset.addEventListener("click", () => { turn(own); save(); sliders[0].input.focus(); });
    const status = document.createElement("p");
    status.setAttribute("role", "status"); // a live region: polite
    bar.append(reset, status);
    table.before(bar);

    /** @param {number[]} values */
    function turn(values) {
      sliders.forEach((s, k) => { s.input.value = String(values[k]); });
      draw();
    }
    function draw() {
      const values = sliders.map((s) => Number(s.input.value)), same = values.every((v, k) => v === own[k]);
      reset.disabled = same;
      if (same) turned.delete(data.workload);
      else turned.set(data.workload, values.map((v, k) => data.parts[k].key + "-" + v).join(","));
      if (!values.some((v) => v > 0)) {
        sliders.forEach((s) => { s.shown.textContent = "0.00"; });
        status.textContent = "Give at least one part a weight: the table still shows the last score.";
        return;
      }
      const weights = normal(values), found = scores(data, weights), first = found[0];
      sliders.forEach((s, k) => {
        s.shown.textContent = fixed(weights[k], 2);
        s.input.setAttribute("aria-valuetext", fixed(weights[k], 2) + " of 1");
      });
      put("first", data.rows[first.at].name + ", S = ", ...span(first));
      put("tie", tie(data, found));
      put("sure", sure(data, weights, first.at));
      put("weights", data.parts.map((p, k) => p.name + " " + fixed(weights[k], 2)).join(", "));
      for (const s of found) lines[s.at].cells[1].replaceChildren(...span(s));
      body?.append(...found.map((s) => lines[s.at]));
      table?.querySelectorAll("[aria-sort]").forEach((head) => head.removeAttribute("aria-sort"));
      const kept = first.at === start ? ", as with the page's weights." : "; with the page's weights: "
        + data.rows[start].name + ".";
      status.textContent = "First: " + data.rows[first.at].name + (same ? ", with the page's own weights." : kept);
    }
    followers.push(() => turn(asked(data) ?? own));
    turn(asked(data) ?? own);
  }

  addEventListener("hashchange", () => {
    if (!location.hash.startsWith(MARK)) return;
    followers.forEach((follow) => follow());
    save(); // after all have read it
  });
  function start() {
    /** @type {NodeListOf<HTMLElement>} */
    const boxes = document.querySelectorAll(".qc-balance");
    boxes.forEach(enhance);
    if (boxes.length && location.hash.startsWith(MARK)) {
      const wanted = Array.from(boxes).find((b) => turned.has(JSON.parse(b.dataset.balance || "{}").workload));
      (wanted || boxes[0]).scrollIntoView();
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();

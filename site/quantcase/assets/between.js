/* Any two variants: what differs around them, and every figure with its difference. Pure functions of what the cases
 * publish. The formulas are those of quantcase/analysis/between.py; tests/browser/test_compare.py holds the two together.
 */
// @ts-check
/** @typedef {{value: number, variance?: number, freedom?: number, level?: string, low?: number, high?: number}} Figure */
/** @typedef {{mean: number, low: number, high: number, sha: string}} Lengths */
/** @typedef {{n: number, runs: number, figures: Record<string, Figure>, input?: Lengths, output?: Lengths, limited?: boolean}} Cell */
/** @typedef {{what: Record<string, string>, fixed: Record<string, Record<string, string>>, cells?: Record<string, Record<string, Cell>>, singles?: Record<string, number>, starts?: number, right?: number, asked?: number, gpus?: number}} Variant */
/** @typedef {{case: string, title: string, grade: string, weights: string, status: string, sound: boolean, gpu: string, defined_by: string, workloads: Record<string, Record<string, string>>, regions: Record<string, number>, margin_pp: number, variants: Record<string, Variant>, usd_per_hour?: number, price?: string}} Case */
/** @typedef {{key: string, title: string, higher: boolean, region: number, least: number, per_token: boolean}} Metric */
/** @typedef {{case: string, title: string, grade: string, weights: string, gpu: string, variants: string[]}} Entry */
/** @typedef {{metrics: Metric[], fixed: Record<string, Record<string, string>>, singles: Record<string, [string, boolean]>, cases: Entry[]}} Index */
/** @typedef {{case: Case, name: string, variant: Variant}} Side */
/** @typedef {{variable: string, state: string, words: string}} Difference */
/** @typedef {[number, number, number, number]} Value value, low, high, n */
/** @typedef {{workload: string, load: string, metric: string, a: Value | null, b: Value | null, change: string, ratio: number, low: number, high: number, p: number, adjusted_p: number, region: number, kind: string, refused: string, withheld: string}} Line */
(function () {
  "use strict";
  const COST = "usd_per_1m_output_tokens", SPEED = "throughput_tok_s", ACCURACY = "accuracy";
  const OF_ONE_GPU = "weights_gib"; // the engine states it of one GPU of a server
  const Z = 1.959963984540054, ALPHA = 0.05, NEAR = 0.01, MOST = 3, WORST = ["bad", "look", "none", "ok"];

  // ---- Student's t: the incomplete beta function by its continued fraction (Lentz), the logarithm of gamma by Lanczos
  /** @param {number} x */
  function logGamma(x) {
    if (x > 1e3) return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + 1 / (12 * x) - 1 / (360 * x ** 3);
    const c = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 1.208650973866179e-3,
      -5.395239384953e-6];
    const lead = x + 5.5, tail = c.reduce((sum, part, i) => sum + part / (x + 1 + i), 1.000000000190015);
    return (x + 0.5) * Math.log(lead) - lead + Math.log((2.5066282746310005 * tail) / x);
  }
  /** The continued fraction of the incomplete beta function. @param {number} a @param {number} b @param {number} x */
  function fraction(a, b, x) {
    const tiny = 1e-300, safe = (/** @type {number} */ v) => (Math.abs(v) < tiny ? tiny : v);
    let c = 1, d = 1 / safe(1 - ((a + b) * x) / (a + 1)), h = d;
    for (let m = 1; m < 20000; m++) {
      for (const step of [(m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
        (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))]) {
        d = 1 / safe(1 + step * d);
        c = safe(1 + step / c);
        h *= d * c;
      }
      if (Math.abs(d * c - 1) < 1e-15) break;
    }
    return h;
  }
  /** P(|T| > t) of Student's t, two-sided. @param {number} t @param {number} freedom */
  function tTail(t, freedom) {
    const a = freedom / 2, b = 0.5, y = (t * t) / (freedom + t * t), x = 1 - y;
    if (t === 0) return 1;
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) - a * Math.log1p((t * t) / freedom)
      + b * Math.log(y));
    if (x < (a + 1) / (a + b + 2)) return (front * fraction(a, b, x)) / a;
    return 1 - (front * fraction(b, a, y)) / b;
  }
  /** @type {Map<number, number>} */
  const quantiles = new Map();
  /** The t that 97.5 % of Student's t lie below. @param {number} freedom */
  function tQuantile(freedom) {
    const known = quantiles.get(freedom);
    if (known !== undefined) return known;
    let found;
    if (freedom > 1000) { // Cornish and Fisher (Abramowitz and Stegun 26.7.5)
      const z = Z;
      found = z + (z ** 3 + z) / (4 * freedom) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * freedom ** 2);
    } else {
      let low = 0, high = 2;
      while (tTail(high, freedom) > ALPHA) high *= 2;
      for (let i = 0; i < 200 && high - low > 1e-14 * high; i++) {
        const middle = (low + high) / 2;
        if (tTail(middle, freedom) > ALPHA) low = middle; else high = middle;
      }
      found = (low + high) / 2;
    }
    quantiles.set(freedom, found);
    return found;
  }

  // ---- Figures and their differences, as in quantcase/analysis/between.py
  const known = (/** @type {Figure} */ f) => f.variance !== undefined && f.freedom !== undefined;
  /** @param {Figure} f @returns {[number, number]} */
  function span(f) {
    if (!known(f)) return [f.low ?? NaN, f.high ?? NaN];
    if (f.value <= 0) return [NaN, NaN];
    const half = tQuantile(/** @type {number} */ (f.freedom)) * Math.sqrt(/** @type {number} */ (f.variance));
    return [f.value * Math.exp(-half), f.value * Math.exp(half)];
  }
  /** @param {Figure} ours @param {Figure} theirs @param {boolean} same @returns {[number, number, number, number]} */
  function ratio(ours, theirs, same) {
    if (ours.value <= 0 || theirs.value <= 0) return [NaN, NaN, NaN, NaN];
    const at = Math.log(ours.value / theirs.value), value = Math.exp(at);
    if (!known(ours) || !known(theirs)) return [value, NaN, NaN, NaN];
    const a = ours.variance ?? 0, b = theirs.variance ?? 0, f = ours.freedom ?? 0, g = theirs.freedom ?? 0;
    if (a + b === 0) return [value, value, value, at === 0 ? 1 : 0];
    const pooled = same && ours.level === "starts" && theirs.level === "starts";
    const freedom = pooled ? f : (a + b) ** 2 / (a ** 2 / f + b ** 2 / g);
    const half = tQuantile(freedom) * Math.sqrt(a + b);
    return [value, Math.exp(at - half), Math.exp(at + half), tTail(Math.abs(at) / Math.sqrt(a + b), freedom)];
  }
  /** @param {number} right @param {number} n @returns {[number, number]} */
  function wilson(right, n) {
    const share = right / n, z2 = Z * Z, centre = share + z2 / (2 * n);
    const half = Z * Math.sqrt((share * (1 - share)) / n + z2 / (4 * n * n));
    return [(centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)];
  }
  /** @param {[number, number]} ours @param {[number, number]} theirs @returns {[number, number, number]} */
  function newcombe(ours, theirs) {
    const [l1, u1] = wilson(...theirs), [l2, u2] = wilson(...ours), p1 = theirs[0] / theirs[1], p2 = ours[0] / ours[1];
    return [100 * (p2 - p1), 100 * (p2 - p1 - Math.hypot(p2 - l2, u1 - p1)),
      100 * (p2 - p1 + Math.hypot(u2 - p2, p1 - l1))];
  }
  /** @param {boolean} higher @param {number} low @param {number} high @param {number} width */
  function judge(higher, low, high, width) {
    if (Number.isNaN(low) || Number.isNaN(high)) return "inconclusive";
    const bound = Math.log1p(width), a = Math.log(low), b = Math.log(high);
    if (-bound <= a && b <= bound) return a <= 0 && 0 <= b ? "equivalent" : "negligible";
    if (a > bound || b < -bound) return (a > bound) === higher ? "faster" : "slower";
    return "inconclusive";
  }

  const fact = (/** @type {Side} */ s, /** @type {string} */ v, /** @type {string} */ k) => s.variant.fixed[v]?.[k] ?? "";
  const cells = (/** @type {Side} */ s) => s.variant.cells ?? {};
  /** @param {Side} a @param {Side} b @returns {[string, string, Cell, Cell][]} */
  function shared(a, b) {
    return Object.entries(cells(a)).flatMap(([workload, loads]) => Object.entries(loads).flatMap(([load, cell]) => {
      const other = cells(b)[workload]?.[load];
      return other ? [/** @type {[string, string, Cell, Cell]} */ ([workload, load, cell, other])] : [];
    }));
  }
  /** @param {Index} index @param {Side} a @param {Side} b @param {string} variable @returns {[string, string]} */
  function facts(index, a, b, variable) {
    if (!a.variant.fixed[variable] && !b.variant.fixed[variable]) return ["none", "not recorded"];
    if (![a, b].some((s) => Object.keys(s.variant.fixed[variable] ?? {}).length)) return ["none", "not recorded"];
    /** @type {string[]} */
    const states = [];
    const same = [], differ = [], missing = [], none = "not recorded";
    for (const [name, state] of Object.entries(index.fixed[variable])) {
      const one = fact(a, variable, name), two = fact(b, variable, name);
      if (one === two) { if (one) same.push(`${name} ${one}`); }
      else if (one && two) { states.push(state); differ.push(`${name} ${one} against ${two}`); }
      else if (state === "bad") missing.push(`${name} ${one || none} against ${two || none}`);
    }
    if (differ.length) return [WORST.find((w) => states.includes(w)) ?? "ok", differ.join("; ")];
    return missing.length ? ["none", missing.join("; ")] : ["ok", same.join("; ")];
  }
  /** @param {Side} a @param {Side} b @returns {[string, string]} */
  function tokenizer(a, b) {
    const [c, d] = [a, b].map((s) => fact(s, "Tokenizer", "counts"));
    if (c && d && fact(a, "Evaluation set", "prompts") === fact(b, "Evaluation set", "prompts")) {
      if (c === d) return ["ok", "the same prompts have the same number of tokens on both sides"];
      return ["bad", "the same prompts have other numbers of tokens: two tokenizers"];
    }
    if (fact(a, "Model", "base model") === fact(b, "Model", "base model"))
      return ["look", "taken from one base model; no prompts were counted on both sides"];
    return ["bad", "two base models, and no prompts that were counted on both sides"];
  }
  /** @param {Side} a @param {Side} b @param {"input" | "output"} which @returns {[string, string]} */
  function lengths(a, b, which) {
    const words = [];
    let compared = 0, near = 0;
    for (const [workload, load, ours, theirs] of shared(a, b)) {
      const one = ours[which], two = theirs[which];
      if (!one || !two) continue;
      compared += 1;
      if (one.sha === two.sha && one.mean === two.mean) continue;
      if (Math.abs(one.mean - two.mean) <= NEAR * two.mean) near += 1;
      else words.push(`${workload} ${load} ${one.mean.toFixed(1)} against ${two.mean.toFixed(1)}`);
    }
    if (!compared) return ["none", "no load point in common"];
    const more = words.length > MOST ? ` and ${words.length - MOST} more` : "";
    if (words.length) return ["bad", `mean tokens a request: ${words.slice(0, MOST).join("; ")}${more}`];
    return near ? ["look", "means within 1 %, not the same request by request"]
      : ["ok", `the same lengths at ${compared} load points`];
  }
  /** @param {Side} a @param {Side} b @param {string} workload @returns {string[]} */
  function unlike(a, b, workload) {
    const ours = a.case.workloads[workload], theirs = b.case.workloads[workload];
    const names = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])];
    return names.filter((n) => n !== "title" && ours[n] !== theirs[n])
      .map((n) => `${n} ${ours[n] ?? "none"} against ${theirs[n] ?? "none"}`);
  }
  /** @param {Side} a @param {Side} b @returns {[string, string]} */
  function definitions(a, b) {
    const both = Object.keys(a.case.workloads).filter((w) => w in b.case.workloads);
    if (!both.length) return ["bad", "no workload of the same name"];
    const words = both.map((w) => [w, unlike(a, b, w)]).filter(([, u]) => u.length)
      .map(([w, u]) => `${w}: ${/** @type {string[]} */ (u).join(", ")}`);
    return words.length ? ["bad", words.join("; ")] : ["ok", `defined alike: ${both.join(", ")}`];
  }
  /** Each fixed variable of two sides. @param {Index} index @param {Side} a @param {Side} b @returns {Difference[]} */
  function differences(index, a, b) {
    /** @type {Record<string, [string, string]>} */
    const special = { "Tokenizer": tokenizer(a, b), "Prompt length distribution": lengths(a, b, "input"),
      "Output length distribution": lengths(a, b, "output"), "Workload definition": definitions(a, b) };
    return Object.keys(index.fixed).map((variable) => {
      const [state, words] = special[variable] ?? facts(index, a, b, variable);
      return { variable, state, words };
    });
  }

  /** @param {Side} side @param {Cell} cell @param {string} metric @returns {Figure | undefined} */
  function figure(side, cell, metric) {
    if (metric !== COST) return cell.figures[metric];
    const speed = cell.figures[SPEED], price = side.case.usd_per_hour;
    if (!speed || price === undefined || speed.value <= 0) return undefined;
    const hour = price * (side.variant.gpus ?? 1); // every GPU of the server is paid for
    return { ...speed, value: (1e6 * hour) / (3600 * speed.value), low: undefined, high: undefined };
  }
  /** @param {string} workload @param {string} load @param {string} metric @param {Value | null} a @param {Value | null} b @returns {Line} */
  const line = (workload, load, metric, a, b) => ({ workload, load, metric, a, b, change: "ratio", ratio: NaN, low: NaN,
    high: NaN, p: NaN, adjusted_p: NaN, region: 0, kind: "inconclusive", refused: "", withheld: "" });
  const only = (/** @type {unknown} */ one) => `only ${one === undefined || one === null ? "B" : "A"} has it`;
  const defined = (/** @type {Side} */ a, /** @type {Side} */ b) => (a.case.defined_by === b.case.defined_by ? ""
    : `defined by ${a.case.defined_by} against ${b.case.defined_by}`);
  /** @param {Side} a @param {Side} b */
  function withheld(a, b) {
    if (a.case.grade === "simulated" || b.case.grade === "simulated") return "simulated timings are no measurement";
    return a.case.sound && b.case.sound ? "" : "a bundle has faults";
  }
  /** @param {Side} a @param {Side} b @param {string} workload @param {string} load @param {Metric} metric @param {Cell} ours @param {Cell} theirs @returns {Line | null} */
  function cellLine(a, b, workload, load, metric, ours, theirs) {
    const one = figure(a, ours, metric.key), two = figure(b, theirs, metric.key);
    if (!one && !two) return null;
    const [n, m] = [ours, theirs].map((c) => (metric.least ? c.n : c.runs));
    const made = line(workload, load, metric.key, one ? [one.value, ...span(one), n] : null,
      two ? [two.value, ...span(two), m] : null);
    const other = unlike(a, b, workload), [state, words] = tokenizer(a, b);
    if (!one || !two) made.refused = only(one);
    else if (other.length) made.refused = `the workload is defined otherwise: ${other.join(", ")}`;
    else if (defined(a, b)) made.refused = defined(a, b);
    else if (metric.per_token && state === "bad") made.refused = `a token is not the same amount of text: ${words}`;
    else if (Math.min(ours.n, theirs.n) < metric.least) made.refused = `fewer than ${metric.least} requests on a side`;
    if (made.refused || !one || !two) return made;
    [made.ratio, made.low, made.high, made.p] = ratio(two, one, a.case.case === b.case.case);
    made.adjusted_p = made.p;
    const own = metric.key === COST ? SPEED : metric.key;
    made.region = Math.max(metric.region, a.case.regions[own] ?? 0, b.case.regions[own] ?? 0);
    made.kind = judge(metric.higher, made.low, made.high, made.region);
    made.withheld = withheld(a, b) || (ours.limited || theirs.limited ? "the client was the limit on a side" : "");
    return made;
  }
  /** Holm's correction over the load points of each metric. @param {Line[]} lines */
  function correct(lines) {
    for (const metric of new Set(lines.map((x) => x.metric))) {
      const family = lines.filter((x) => x.metric === metric && !Number.isNaN(x.p)).sort((x, y) => x.p - y.p);
      let highest = 0;
      family.forEach((x, rank) => {
        highest = Math.max(highest, Math.min(1, x.p * (family.length - rank)));
        x.adjusted_p = highest;
      });
    }
    for (const x of lines)
      if ((x.kind === "faster" || x.kind === "slower") && !(x.adjusted_p < ALPHA)) x.kind = "inconclusive";
    return lines;
  }
  /** @param {Index} index @param {Side} a @param {Side} b @returns {Line[]} */
  function singles(index, a, b) {
    const engines = [a, b].map((s) => fact(s, "Engine", "engine"));
    return Object.entries(index.singles).flatMap(([metric, [, own]]) => {
      const one = a.variant.singles?.[metric], two = b.variant.singles?.[metric];
      if (one === undefined && two === undefined) return [];
      const made = line("", "", metric, one === undefined ? null : [one, NaN, NaN, a.variant.starts ?? 0],
        two === undefined ? null : [two, NaN, NaN, b.variant.starts ?? 0]);
      if (one === undefined || two === undefined) made.refused = only(one);
      else if (defined(a, b)) made.refused = defined(a, b);
      else if (own && engines[0] !== engines[1])
        made.refused = `each engine counts it its own way: ${engines[0]} against ${engines[1]}`;
      else if (metric === OF_ONE_GPU && (a.variant.gpus ?? 1) !== (b.variant.gpus ?? 1))
        made.refused = `stated of one GPU of a server, and they have ${a.variant.gpus ?? 1} and ${b.variant.gpus ?? 1}`;
      else if (one) made.ratio = two / one;
      return [made];
    });
  }
  /** @param {Side} a @param {Side} b @returns {Line[]} */
  function accuracy(a, b) {
    const of = (/** @type {Variant} */ v) => (v.right !== undefined && v.asked
      ? /** @type {[number, number]} */ ([v.right, v.asked]) : null);
    const one = of(a.variant), two = of(b.variant);
    if (!one && !two) return [];
    const value = (/** @type {[number, number] | null} */ c) => (c
      ? /** @type {Value} */ ([c[0] / c[1], ...wilson(...c), c[1]]) : null);
    const made = line("", "", ACCURACY, value(one), value(two));
    const sets = [a, b].map((s) => fact(s, "Evaluation set", "prompts"));
    made.change = "points";
    if (!one || !two) made.refused = only(one);
    else if (sets[0] !== sets[1]) made.refused = `other questions: ${sets[0]} against ${sets[1]}`;
    if (made.refused || !one || !two) return [made];
    [made.ratio, made.low, made.high] = newcombe(two, one);
    const width = made.region = Math.max(a.case.margin_pp, b.case.margin_pp);
    if (-width <= made.low && made.high <= width) made.kind = made.low <= 0 && 0 <= made.high ? "equivalent" : "negligible";
    else if (made.low > width || made.high < -width) made.kind = made.low > width ? "faster" : "slower";
    made.withheld = withheld(a, b);
    return [made];
  }
  /** Every figure of two sides, b against a. @param {Index} index @param {Side} a @param {Side} b @returns {Line[]} */
  function compared(index, a, b) {
    const lines = shared(a, b).flatMap(([workload, load, ours, theirs]) => index.metrics.flatMap((metric) => {
      const made = cellLine(a, b, workload, load, metric, ours, theirs);
      return made ? [made] : [];
    }));
    return [...correct(lines), ...singles(index, a, b), ...accuracy(a, b)];
  }
  Object.assign(globalThis, { quantcaseBetween: Object.freeze({ compared, differences, tTail, tQuantile, ratio, newcombe }) });
})();

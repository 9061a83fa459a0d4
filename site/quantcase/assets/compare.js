/* The comparison page: two pickers, and what quantcaseBetween (between.js) makes of them. Figures are loaded case by
 * case as scripts, because fetch does not work from file://; each holds one string of JSON. Whatever stands in them is
 * untrusted and only ever becomes a text node. Without this script the page lists the cases and the comparable pairs.
 */
// @ts-check
(function () {
  "use strict";
  /** @typedef {{case: string, title: string, grade: string, weights: string, gpu: string, variants: string[]}} Entry */
  /** @typedef {{metrics: any[], fixed: any, singles: Record<string, [string, boolean]>, cases: Entry[], usual: string[][]}} Index */
  const SAFE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$/;
  const SHAPES = { faster: "▲", slower: "▼", equivalent: "=", negligible: "≈", inconclusive: "?" };
  const WORDS = { faster: "faster", slower: "slower", equivalent: "equivalent", negligible: "different, negligible",
    inconclusive: "inconclusive" };
  const BETTER = { faster: "better", slower: "worse" }, CHEAPER = { faster: "cheaper", slower: "dearer" };
  const STATES = { ok: "✓ the same", look: "! look", bad: "✗ differs", none: "– not recorded" };
  const GRADES = { simulated: "simulated: replayed timings, nothing was measured",
    published: "published: somebody else's figures", imported: "imported: another tool's figures" };
  const between = () => /** @type {any} */ (globalThis).quantcaseBetween;

  /** @param {string} tag @param {string} name @param {...(Node | string)} inside */
  function make(tag, name, ...inside) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...inside);
    return node;
  }
  const bdi = (/** @type {string} */ words) => make("bdi", "", words);
  // Figures as the pages write them: quantcase/text.py, number() and span().
  /* The signs of numbers on this page, as quantcase/signs.py has them. */
  const SIGNS = /** @type {Record<string, [string, string]>} */ ({ de: [",", "."], fr: [",", "\u202f"] });
  const [POINT, GROUP] = SIGNS[document.documentElement.dataset.numbers || "en"] || [".", ","];
  const inSigns = (/** @type {string} */ figure) => figure.replace(/[.,]/g, (c) => (c === "." ? POINT : GROUP));
  const FIGURE = new RegExp("(?<![\\p{L}\\p{N}_&#.,/])(?<![\\p{L}\\p{N}_]-)(?:\\d{1,3}(?:,\\d{3})+|\\d+)(?:\\.\\d+)?"
    + "(?![\\p{L}\\p{N}_/-]|[.,]\\d)", "gu");
  /** Words of ours with their figures in these signs. @param {string} words */
  const localized = (words) => words.replace(FIGURE, inSigns);
  /** @param {number} value @param {number} digits */
  const placesOf = (value, digits) => Math.max(0, digits - 1 - Number(value.toExponential(digits - 1).split("e")[1]));
  /** @param {number} value @param {number} places */
  const fixed = (value, places) => inSigns(value.toLocaleString("en-US", { minimumFractionDigits: places,
    maximumFractionDigits: places }).replace(/^-(?=[0.,]*$)/, "").replace("-", "−"));
  /** @param {number} value @param {number} digits */
  const number = (value, digits) => (value === 0 ? "0" : fixed(value, Math.min(6, placesOf(value, digits))));
  /** The figure, and its interval where there is one. @param {number} value @param {number} low @param {number} high @param {number} digits */
  function spanned(value, low, high, digits) {
    const half = (high - low) / 2;
    if (!Number.isFinite(half)) return [number(value, digits), ""];
    if (value === 0 || half <= 0) return [number(value, digits), `(${number(low, digits)}–${number(high, digits)})`];
    let places = Math.min(placesOf(value, digits), placesOf(half, 2), 6);
    while (places < 6 && fixed(low, places) === fixed(high, places)) places += 1;
    return [fixed(value, places), `(${fixed(low, places)}–${fixed(high, places)})`];
  }
  /** A change as text.signed_percent writes it: no sign where it rounds to zero. @param {number} x @param {string} unit */
  function signed(x, unit) {
    const shown = Math.abs(x).toFixed(1).replace(/\B(?=(\d{3})+\.)/g, ",");
    return `${shown === "0.0" ? "" : x < 0 ? "−" : "+"}${inSigns(shown)}${unit}`;
  }
  /** @param {string} metric */
  const digits = (metric) => (metric.endsWith("_tokens") || metric.endsWith("_mib") ? 1 : metric === "throughput_tok_s" ? 4 : 3);

  /** @param {string} load */
  const atLoad = (load) => load.replace(/^c(\d+)$/, "concurrency $1").replace(/^r([\d.e+-]+)$/, (_, rate) => `${inSigns(rate)} requests/s`);
  /** A cost is published in dollars and shown in the site's currency. @param {string} metric @param {number} rate */
  const rateOf = (metric, rate) => (metric.startsWith("usd") ? rate : 1);
  /** One side's figure. @param {any} line @param {"a" | "b"} side @param {number} least @param {number} rate */
  function value(line, side, least, rate) {
    const got = line[side];
    if (!got) return make("td", "num", "–");
    const [at, low, high] = got.slice(0, 3).map((/** @type {number} */ x) => x * rateOf(line.metric, rate));
    const n = got[3], share = line.metric === "accuracy";
    if (least && n < least) return make("td", "num", make("span", "qc-few", `n = ${n}, too few`));
    const [words, bounds] = share ? spanned(100 * at, 100 * low, 100 * high, 3) : spanned(at, low, high, digits(line.metric));
    const cell = make("td", "num", share ? `${words} %` : words);
    if (bounds) cell.append(" ", make("small", "", bounds));
    cell.append(" ", make("small", "qc-n", `n = ${n}`));
    return cell;
  }
  /** The difference, its interval and its word, or why there is none. @param {any} line */
  function change(line) {
    if (line.refused) return make("td", "qc-refused", "✗ not compared: ", bdi(line.refused));
    const points = line.change === "points";
    const at = points ? signed(line.ratio, " points") : signed(100 * (line.ratio - 1), " %");
    if (!Number.isFinite(line.ratio)) return make("td", "qc-refused", "✗ not compared: no ratio to zero");
    if (!Number.isFinite(line.low)) return make("td", "", make("span", "qc-change", at), " ", make("small", "qc-span", "(one number: no interval)"));
    const bound = (/** @type {number} */ x) => (points ? signed(x, "") : signed(100 * (x - 1), ""));
    const words = { ...WORDS, ...(points ? BETTER : line.metric.startsWith("usd") ? CHEAPER : {}) };
    /** @type {keyof typeof SHAPES} */
    const kind = line.kind;
    const word = make("span", "qc-delta", line.withheld ? `no word: ${line.withheld}` : `${SHAPES[kind]} ${words[kind]}`);
    word.dataset.class = line.withheld ? "withheld" : kind;
    const unit = points ? " points" : " %";
    return make("td", "", make("span", "qc-change", at), " ", word, " ",
      make("small", "qc-span", `(${bound(line.low)} to ${bound(line.high)}${unit})`));
  }
  /** @param {string} id @param {string[]} heads @param {(Node | string)[][]} rows @param {string} [caption] */
  function table(id, heads, rows, caption = "") {
    const head = make("tr", ""), body = make("tbody", "");
    for (const words of heads) {
      const th = make("th", "", words);
      th.setAttribute("scope", "col");
      head.append(th);
    }
    for (const [first, ...rest] of rows) {
      const th = make("th", "", first), row = make("tr", "", th);
      th.setAttribute("scope", "row");
      row.append(...rest.map((c) => (c instanceof HTMLTableCellElement ? c : make("td", "", c))));
      body.append(row);
    }
    const whole = make("table", "", make("thead", "", head), body);
    if (caption) whole.prepend(make("caption", "", caption));
    const box = make("div", "qc-table", whole);
    box.id = `table-${id}`;
    box.tabIndex = 0; // it may scroll sideways: by keys, too
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `Table: ${id}`);
    return box;
  }

  /** What must be known before any figure is believed. @param {any} side @param {string} letter */
  function grade(side, letter) {
    const c = side.case, told = [];
    if (c.grade in GRADES) told.push(GRADES[/** @type {keyof typeof GRADES} */ (c.grade)]);
    if (c.weights === "dummy") told.push("dummy weights: speed and memory are those of the real shapes, quality is unknown");
    if (c.status !== "complete") told.push(`the run is ${c.status}`);
    if (!c.sound) told.push("the bundle has faults");
    const link = /** @type {HTMLAnchorElement} */ (make("a", "", bdi(c.case)));
    link.href = `../cases/${encodeURIComponent(c.case)}/`;
    const badge = make("span", "qc-grade", c.grade), weights = make("span", "qc-grade", `${c.weights} weights`);
    badge.dataset.grade = c.grade;
    return make("p", "qc-side", make("strong", "", `${letter}: `, bdi(side.name)), " of ", link, " ", badge, " ", weights,
      told.length ? ` ${told.join("; ")}.` : "");
  }
  /** @param {any[]} found */
  function warning(found) {
    const bad = found.filter((d) => d.state === "bad"), look = found.filter((d) => d.state === "look");
    const names = (/** @type {any[]} */ list) => list.map((d) => `${d.variable} (${localized(d.words)})`).join("; ");
    const banner = make("div", "qc-banner");
    banner.setAttribute("role", "note");
    banner.dataset.kind = bad.length ? "interrupted" : "fixed";
    banner.append(bad.length ? make("span", "", "Not only the variants differ: ", bdi(names(bad)), ". A difference below is that of everything named here together.")
      : "No fixed variable that moves figures was seen to differ.");
    if (look.length) banner.append(make("span", "", " Look also at: ", bdi(names(look)), "."));
    return banner;
  }
  /** Two variants on boxes that are known to share no card, as `apart` in analysis/gpus_boxes.py tells it.
   * @param {any} a @param {any} b */
  function boxes(a, b) {
    const [one, two] = [a, b].map((s) => /** @type {string[]} */ (s.variant.boxes ?? []));
    const [ours, theirs] = [one, two].map((names) => names.flatMap((name) => name.split(" ").slice(1)).filter((word) => word !== "+"));
    if (!one.length || !two.length || ours.some((card) => theirs.includes(card))) return [];
    const banner = make("div", "qc-banner", "A and B were measured on different boxes: A on ", bdi(one.join(", ")), ", B on ",
      bdi(two.join(", ")), ". Two cards of one type are never quite alike: a difference below is the box's, too.");
    banner.setAttribute("role", "note");
    banner.dataset.kind = "interrupted";
    return [banner];
  }
  /** @param {Index} index @param {any} a @param {any} b @param {string} currency @param {number} rate its units in 1 USD */
  function result(index, a, b, currency, rate) {
    const found = between().differences(index, a, b), lines = between().compared(index, a, b);
    const parts = [grade(a, "A"), grade(b, "B"), ...boxes(a, b), warning(found)];
    if (a.case.case === b.case.case) parts.push(make("p", "", "Both are of one case. Its own page reads all variants at once, which asks more of a difference before it gets a word."));
    const own = [...new Set([...Object.keys(a.variant.what), ...Object.keys(b.variant.what)])];
    const heads = ["Figure", "A", "B", "B against A"];
    parts.push(make("h3", "", "What is compared"), table("what", ["What", "A", "B"],
      own.map((k) => [k, bdi(a.variant.what[k] ?? "–"), bdi(b.variant.what[k] ?? "–")])));
    const metrics = new Map(index.metrics.map((m) => [m.key, m]));
    const cells = lines.filter((/** @type {any} */ x) => x.workload);
    for (const workload of new Set(cells.map((/** @type {any} */ x) => x.workload))) {
      const mine = cells.filter((/** @type {any} */ x) => x.workload === workload);
      parts.push(make("h3", "", bdi(a.case.workloads[workload]?.title ?? workload)));
      parts.push(table(`cells-${workload}`, ["Load", ...heads], mine.map((/** @type {any} */ x) => {
        const metric = metrics.get(x.metric), least = metric.least;
        const words = currency === "USD" ? metric.title : metric.title.replace("USD", currency).replace("$", currency);
        return [atLoad(x.load), words, value(x, "a", least, rate), value(x, "b", least, rate), change(x)];
      }), "n: repeats for throughput and cost, requests for percentiles. Intervals 95 %."));
    }
    if (!cells.length) parts.push(make("p", "qc-none", "These two have no workload and load point in common: there is no speed or cost to compare."));
    const once = lines.filter((/** @type {any} */ x) => !x.workload);
    const title = (/** @type {string} */ key) => (key === "accuracy" ? "Accuracy (share of answers right)" : index.singles[key][0]);
    parts.push(make("h3", "", "Memory, start-up, quality"));
    if (once.length) parts.push(table("once", heads, once.map((/** @type {any} */ x) => [title(x.metric), value(x, "a", 0, 1), value(x, "b", 0, 1), change(x)]),
      "n: server starts, the first of which counts; for accuracy questions, taken as independent. Where both are of one case its quality page pairs them question by question, which is sharper."));
    else parts.push(make("p", "qc-none", "Neither side has figures of memory, start-up or quality."));
    parts.push(make("h3", "", "Fixed variables"), table("fixed", ["Variable", "State", "Seen"], found.map((/** @type {any} */ d) => {
      const state = make("span", "qc-check", STATES[/** @type {keyof typeof STATES} */ (d.state)]);
      state.dataset.state = d.state;
      return [d.variable, state, bdi(localized(d.words))];
    })));
    return parts;
  }

  /** @type {Map<string, Promise<any>>} */
  const files = new Map();
  /** The document of a file `quantcaseData("...")`, once. @param {string} src */
  function load(src) {
    const had = files.get(src);
    if (had) return had;
    const got = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = src;
      script.addEventListener("load", () => {
        script.remove();
        const text = /** @type {any} */ (globalThis).quantcaseData?.pop();
        try { resolve(JSON.parse(text)); } catch { reject(new Error(src)); }
      });
      script.addEventListener("error", () => { script.remove(); reject(new Error(src)); });
      document.head.append(script);
    });
    got.catch(() => files.delete(src)); // asked again at the next turn
    files.set(src, got);
    return got;
  }

  /** @param {HTMLElement} box */
  function enhance(box) {
    if (box.dataset.qcReady) return;
    box.dataset.qcReady = "1";
    const status = make("p", "qc-count"), out = make("div", "qc-compare-out"), bar = make("div", "qc-compare-bar");
    status.setAttribute("role", "status");
    /** @type {Index | null} */
    let index = null;
    let turn = 0;
    const currency = box.dataset.currency || "USD", rate = Number(box.dataset.rate || 1);
    const pickers = ["A", "B"].map((letter) => {
      const made = [make("select", ""), make("select", "")].map((s) => /** @type {HTMLSelectElement} */ (s));
      const group = make("fieldset", "", make("legend", "", letter === "A" ? "A, the reference" : "B, held against A"));
      ["Case", "Variant"].forEach((words, i) => group.append(make("label", "", make("span", "", words), made[i])));
      bar.append(group);
      return made;
    });
    /** @param {HTMLSelectElement} select @param {[string, string][]} options */
    function fill(select, options) {
      select.replaceChildren(...options.map(([key, words]) => {
        const option = document.createElement("option");
        option.value = key;
        option.textContent = `\u2068${words}\u2069`; // isolated: an <option> holds no <bdi>
        return option;
      }));
    }
    const entry = (/** @type {string} */ id) => index?.cases.find((c) => c.case === id);
    /** @param {number} side @param {string} id @param {string} variant */
    function set(side, id, variant) {
      const found = entry(id);
      if (!found) return;
      pickers[side][0].value = id;
      fill(pickers[side][1], found.variants.map((v) => [v, v]));
      if (found.variants.includes(variant)) pickers[side][1].value = variant;
    }
    /** What the address asks for; null where it asks for nothing that is there. */
    function asked() {
      const given = new URLSearchParams(location.hash.slice(1));
      const sides = ["a", "b"].map((k) => {
        const [id, ...rest] = (given.get(k) ?? "").split("/"), found = entry(id);
        return found?.variants.includes(rest.join("/")) ? [id, rest.join("/")] : null;
      });
      return sides[0] && sides[1] ? /** @type {[string, string][]} */ (sides) : null;
    }
    async function draw() {
      const mine = ++turn, chosen = pickers.map(([c, v]) => [c.value, v.value]);
      status.textContent = "Loading…";
      try {
        const docs = await Promise.all(chosen.map(([id]) => load(`${box.dataset.src}cases/${id}.js`)));
        if (mine !== turn || !index) return;
        if (docs.some((c, i) => c.case !== chosen[i][0])) throw new Error("another case than was asked for");
        const [a, b] = docs.map((c, i) => ({ case: c, name: chosen[i][1], variant: c.variants[chosen[i][1]] }));
        if (chosen[0].join("/") === chosen[1].join("/")) {
          out.replaceChildren(make("p", "qc-none", "A and B are the same variant: choose another."));
        } else out.replaceChildren(...result(index, a, b, currency, rate));
        status.textContent = `A: ${a.name} of ${a.case.case}. B: ${b.name} of ${b.case.case}.`;
      } catch (error) {
        if (mine === turn) {
          out.replaceChildren();
          status.textContent = `The figures could not be loaded (${error instanceof Error ? error.message : error}). The case pages below hold them.`;
        }
      }
    }
    function save() {
      const coded = pickers.map(([c, v], i) => `${"ab"[i]}=${encodeURIComponent(c.value)}/${encodeURIComponent(v.value)}`);
      history.replaceState(history.state, "", `#${coded.join("&")}`);
    }
    pickers.forEach(([of, variant], side) => {
      of.addEventListener("change", () => { set(side, of.value, ""); save(); draw(); });
      variant.addEventListener("change", () => { save(); draw(); });
    });
    async function start() {
      try { index = await load(`${box.dataset.src}cases.js`); } catch {
        status.textContent = "The list of cases could not be loaded. The case pages below hold the figures.";
        return;
      }
      const { usual, cases: all } = /** @type {Index} */ (index), cases = all.filter((c) => SAFE.test(c.case) && c.variants.length);
      pickers.forEach(([of]) => fill(of, cases.map((c) => [c.case, `${c.case} (${c.grade}, ${c.weights} weights)`])));
      const given = location.hash.startsWith("#a=") ? asked() : null;
      (given ?? usual.filter(([id]) => SAFE.test(id))).forEach(([id, variant], side) => set(side, id, variant));
      if (!cases.length) status.textContent = "There is no case with variants to compare.";
      else await draw();
      if (location.hash.startsWith("#a=") && !given) status.textContent += " The address names a variant that is not here.";
    }
    addEventListener("hashchange", () => {
      const given = box.isConnected && location.hash.startsWith("#a=") ? asked() : null;
      if (!given) return;
      given.forEach(([id, variant], side) => set(side, id, variant));
      draw().then(() => box.scrollIntoView());
    });
    document.querySelectorAll(".qc-pair").forEach((node) => { // side by side needs this script, so this script links it
      const place = /** @type {HTMLElement} */ (node), link = /** @type {HTMLAnchorElement} */ (make("a", "", "side by side"));
      link.href = `#a=${place.dataset.a}&b=${place.dataset.b}`;
      place.replaceChildren(link);
    });
    box.replaceChildren(bar, status, out);
    start();
  }

  const start = () => document.querySelectorAll(".qc-compare").forEach((box) => enhance(/** @type {HTMLElement} */ (box)));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
  /** @type {any} */ (window).document$?.subscribe(start); // Material's instant navigation
})();

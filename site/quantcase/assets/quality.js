/* The samples browser: answers side by side with the baseline's. All that was asked and answered is hostile, so it
 * only ever becomes a text node or a value. Without this script the first samples stand on the page all the same. */
// @ts-check
(function () {
  "use strict";
  // What pages/samples.py writes: index.json holds the entries, 0.json, 1.json, ... the samples.
  /** @typedef {"differs" | "lost" | "gained" | "failed" | "marked"} Kind */
  /** @typedef {{id: string, suite: string, task: string} & Record<Kind, string[]>} Entry */
  /** @typedef {{baseline: string, variants: string[], chunk: number, items: Entry[]}} Index */
  /** @typedef {{variant: string, right: boolean | null, status: string, error: string | null, problem: string | null,
   *   parsed: string | null, mark: string | null, remark: string, segments: ["=" | "+" | "-", string][], cut: boolean,
   *   first?: {position: number, token: string, at?: number} | null}} Answer */
  /** @typedef {{id: string, prompt: string, reference: string | null, answers: Answer[]}} Sample */
  const PAGE = 10;
  /** @type {Map<Kind | "all", string>} */
  const SHOW = new Map([["all", "all"], ["differs", "differs from the baseline"], ["lost", "lost: was right, is wrong"],
    ["gained", "gained: was wrong, is right"], ["failed", "failed"], ["marked", "marked by a person"]]);
  /** @type {Map<boolean | null, [string, string]>} */
  const SAYS = new Map([[true, ["right", "✓ right"]], [false, ["wrong", "✗ wrong"]], [null, ["unscored", "unscored"]]]);
  const FAULT = "The samples could not be loaded: what stands below is all there is for now.";

  /** @template {keyof HTMLElementTagNameMap} T
   * @param {T} tag @param {string} [name] @param {...(Node | string)} inside @returns {HTMLElementTagNameMap[T]} */
  function make(tag, name, ...inside) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...inside);
    return node;
  }
  /** @param {string} words @param {() => void} act */
  function button(words, act) {
    const node = Object.assign(make("button", "", words), { type: "button" });
    node.addEventListener("click", act);
    return node;
  }
  /** @param {string} kind @param {...(Node | string)} inside */
  const says = (kind, ...inside) => make("span", "qc-says qc-" + kind, ...inside);
  /** @param {string} name @param {string} text */
  const textBox = (name, text) => Object.assign(make("div", "qc-text " + name, text), { dir: "auto" });
  // An <option> holds no <bdi>: its words are isolated by characters.
  /** @param {string} value @param {string} words */
  const option = (value, words) => Object.assign(make("option", "", "\u2068" + words + "\u2069"), { value });
  const note = (/** @type {(Node | string)[]} */ ...inside) => make("p", "qc-samples-note", ...inside);
  const label = (/** @type {string} */ words) => make("p", "qc-label", words);
  const bold = (/** @type {string} */ words) => make("strong", "", make("bdi", "", words));
  const coded = (/** @type {string | number} */ words) => encodeURIComponent(words).replace(/%2F/g, "/");

  /** The pieces of an answer, the first token that differs in a <mark>. Offsets count characters, not UTF-16 units.
   * @param {Answer} answer */
  function pieces(answer) {
    const box = textBox("", ""), first = answer.first;
    const from = first?.at ?? -1;
    const to = first && from >= 0 ? from + Array.from(first.token).length : from;
    let at = 0;
    for (const [op, text] of answer.segments) {
      const holder = op === "=" ? box : make(op === "+" ? "ins" : "del");
      const points = from < 0 || op === "-" ? [] : Array.from(text);
      const low = Math.max(0, from - at), high = Math.min(points.length, to - at);
      const part = (/** @type {number} */ a, b = points.length) => points.slice(a, b).join("");
      if (low < high) holder.append(part(0, low), make("mark", "", part(low, high)), part(high));
      else holder.append(text);
      at += points.length;
      if (holder !== box) box.append(holder);
    }
    return box;
  }
  /** @param {Answer} answer @param {boolean} base @param {boolean} differs */
  function column(answer, base, differs) {
    const ok = answer.status === "ok", same = answer.segments.every(([op]) => op === "=");
    const verdict = ok ? says(.../** @type {[string, string]} */ (SAYS.get(answer.right)))
      : says("failed", "! failed: ", make("bdi", "", answer.error || answer.status));
    const head = make("header", "", bold(answer.variant), base ? " (baseline) " : " ", verdict);
    if (answer.problem) head.append(" ", says("problem", "! " + answer.problem));
    const node = make("section", "qc-column", head), own = answer.segments.filter(([op]) => op !== "-");
    if (answer.segments.length) node.append(pieces(answer));
    if (ok && !own.length) node.append(note("(empty)"));
    if (ok && !base && same && !differs) node.append(note("= the same as the baseline"));
    if (answer.cut) node.append(note(differs && same ? "Cut here: the difference comes later." : "Cut here."));
    if (answer.first) node.append(note("Leaves the baseline at token " + (answer.first.position + 1)
      + (answer.first.token ? "." : ": it ends there.")));
    if (answer.parsed !== null && answer.parsed !== own.map((s) => s[1]).join(""))
      node.append(note("Read as ", make("bdi", "qc-parsed", answer.parsed)));
    const mark = "Marked " + answer.mark + (answer.remark ? ": " : ".");
    if (answer.mark) node.append(note(mark, make("bdi", "", answer.remark)));
    return node;
  }
  /** @param {Sample} sample @param {Entry} entry @param {string} baseline @param {string} variant */
  function article(sample, entry, baseline, variant) {
    const anchor = make("a", "", make("bdi", "", sample.id)), prompt = textBox("qc-prompt", sample.prompt);
    anchor.addEventListener("click", (event) => event.stopPropagation()); // instant navigation swallows hashchange
    anchor.href = "#sample=" + coded(sample.id) + (variant ? "&variant=" + coded(variant) : "");
    const more = button("Whole prompt", () => {
      more.setAttribute("aria-expanded", String(prompt.classList.toggle("qc-open")));
    });
    more.setAttribute("aria-expanded", "false");
    const node = make("article", "qc-sample", make("header", "", anchor), label("Prompt"), prompt, more);
    node.id = "sample=" + sample.id;
    if (sample.reference !== null) node.append(label("Reference"), textBox("qc-reference", sample.reference));
    const columns = [baseline, variant].filter(Boolean).map((name) => {
      const answer = sample.answers.find((a) => a.variant === name), apart = entry.differs.concat(entry.failed);
      if (answer) return column(answer, name === baseline, apart.includes(name) || apart.includes(baseline));
      return make("section", "qc-column", make("header", "", bold(name)), note("has no answer to this"));
    });
    node.append(make("div", "qc-columns", ...columns));
    return node;
  }

  /** @param {HTMLElement} box */
  function enhance(box) {
    if (box.dataset.qcReady) return;
    box.dataset.qcReady = "1";
    /** @type {Map<string, Promise<any>>} */
    const files = new Map();
    const state = { task: "", variant: "", show: /** @type {Kind | "all"} */ ("all"), page: 1 };
    const still = /** @type {HTMLElement} */ (box.querySelector(".qc-samples-static"));
    const live = make("div", "qc-samples-live");
    const task = make("select", "", option("", "all")), variant = make("select", ""), show = make("select", "");
    const count = make("p", "qc-count"), pagers = [pager(), pager()];
    let index = /** @type {Index | null} */ (null), turn = 0, wanted = /** @type {string | null} */ (null);
    /** @param {string} name @returns {Promise<any>} */
    function get(name) {
      const had = files.get(name);
      if (had) return had;
      const got = fetch(box.dataset.src + name).then((r) => { if (!r.ok) throw new Error(name); return r.json(); });
      got.catch(() => files.delete(name)); // asked again at the next turn
      files.set(name, got);
      return got;
    }
    function pager() {
      const step = (/** @type {number} */ by) => () => { state.page += by; save(); draw(); box.scrollIntoView(); };
      const back = button("← Previous", step(-1)), on = button("Next →", step(1));
      const nav = Object.assign(make("nav", "qc-pager", back, on), { hidden: true });
      nav.setAttribute("aria-label", "Pages of samples");
      return { nav, back, on };
    }
    function read() {
      const many = location.hash.startsWith("#samples:");
      if (!many && !location.hash.startsWith("#sample=")) return false;
      const given = new URLSearchParams(location.hash.slice(many ? 9 : 1));
      wanted = many ? null : given.get("sample");
      state.task = given.get("task") || "";
      state.variant = given.get("variant") || state.variant;
      const show = /** @type {Kind | "all"} */ (given.get("show"));
      state.show = SHOW.has(show) ? show : "all";
      state.page = parseInt(given.get("page") || "", 10) || 1;
      return true;
    }
    function save() {
      const usual = { task: "", variant: index ? index.variants[0] : "", show: "all", page: 1 };
      const keys = /** @type {(keyof typeof usual)[]} */ (Object.keys(usual));
      const parts = keys.filter((k) => state[k] !== usual[k]).map((k) => k + "=" + coded(state[k]));
      history.replaceState(history.state, "", "#samples:" + parts.join("&"));
    }
    /** @param {Entry} item @param {string} baseline */
    function fits(item, baseline) {
      if (state.task && state.task !== item.suite && state.task !== item.suite + "/" + item.task) return false;
      if (state.show === "all" || item[state.show].includes(state.variant)) return true;
      return ["failed", "marked"].includes(state.show) && item[state.show].includes(baseline);
    }
    /** @param {Index} got */
    function fill(got) {
      const tasks = new Set(got.items.flatMap((i) => [i.suite, i.suite + "/" + i.task]));
      task.append(...Array.from(tasks, (t) => option(t, t)));
      variant.append(...got.variants.map((v) => option(v, v)));
      const named = variant.closest("label");
      if (named) named.hidden = got.variants.length < 2;
    }
    async function draw() {
      const mine = ++turn;
      try {
        const all = /** @type {Index} */ (await get("index.json"));
        if (!index) { index = all; fill(all); }
        if (!all.variants.includes(state.variant)) state.variant = all.variants[0] || "";
        const found = Array.from(all.items.keys()).filter((at) => fits(all.items[at], all.baseline));
        const goal = wanted === null ? -1 : all.items.findIndex((i) => i.id === wanted);
        const pages = Math.ceil(found.length / PAGE), place = found.indexOf(goal);
        const file = (/** @type {number} */ at) => Math.floor(at / all.chunk);
        state.page = Math.min(Math.max(1, place < 0 ? state.page : 1 + Math.floor(place / PAGE)), Math.max(1, pages));
        const shown = found.slice((state.page - 1) * PAGE, state.page * PAGE);
        /** @type {Map<number, Sample[]>} */
        const chunks = new Map();
        await Promise.all(shown.map(async (at) => chunks.set(file(at), await get(file(at) + ".json"))));
        const sample = (/** @type {number} */ at) =>
          /** @type {Sample[]} */ (chunks.get(file(at)))[at % all.chunk];
        if (mine !== turn) return;
        const made = shown.map((at) => article(sample(at), all.items[at], all.baseline, state.variant));
        box.dataset.live = "1"; // hides what stands on the page itself, on screens only
        still.querySelectorAll("[id]").forEach((node) => node.removeAttribute("id"));
        live.replaceChildren(...(made.length ? made : [note("No sample is like that.")]));
        [task.value, variant.value, show.value] = [state.task, state.variant, state.show];
        count.textContent = found.length + " of " + all.items.length
          + (pages ? " (page " + state.page + " of " + pages + ")" : "")
          + (wanted !== null && goal < 0 ? ". There is no sample of that name." : "");
        for (const { nav, back, on } of pagers) {
          nav.hidden = pages < 2;
          [back.disabled, on.disabled] = [state.page <= 1, state.page >= pages];
        }
        live.querySelectorAll(/** @type {"div"} */ (".qc-text")).forEach((text) => {
          const over = text.scrollHeight > text.clientHeight + 12, more = text.nextElementSibling;
          if (text.classList.contains("qc-prompt")) { if (more instanceof HTMLElement) more.hidden = !over; }
          else if (over) text.tabIndex = 0; // it scrolls: by keys, too
        });
        wanted = null;
        if (place < 0) return;
        made[place % PAGE].classList.add("qc-wanted");
        made[place % PAGE].scrollIntoView();
      } catch { if (mine === turn) count.textContent = FAULT; }
    }
    function changed() {
      const chosen = /** @type {Kind | "all"} */ (show.value);
      Object.assign(state, { task: task.value, variant: variant.value, show: chosen, page: 1 });
      save(); draw();
    }

    const bar = make("div", "qc-samples-bar");
    const controls = /** @type {[string, HTMLSelectElement][]} */ ([["Task", task], ["Variant", variant], ["Show", show]]);
    for (const [words, control] of controls) {
      control.addEventListener("change", changed);
      control.addEventListener("focus", () => { if (!index) draw(); });
      bar.append(make("label", "", make("span", "", words), control));
    }
    SHOW.forEach((words, value) => show.append(option(value, words)));
    count.setAttribute("role", "status"); // a live region: polite
    bar.append(count, pagers[0].nav);
    still.before(bar, live, pagers[1].nav);
    addEventListener("hashchange", () => { if (box.isConnected && read()) draw(); });
    if (read()) { draw().then(() => { if (location.hash.startsWith("#samples:")) box.scrollIntoView(); }); return; }
    new IntersectionObserver((entries, self) => {
      if (entries.some((e) => e.isIntersecting)) { self.disconnect(); if (!index) draw(); }
    }).observe(box);
  }

  const start = () => document.querySelectorAll(/** @type {"div"} */ (".qc-samples")).forEach(enhance);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
  /** @type {any} */ (window).document$?.subscribe(start); // Material's instant navigation
})();

/* The samples browser: answers side by side with the baseline's. All that was asked and answered is hostile, so it
 * only ever becomes a text node or a value. Without this script the first samples stand on the page all the same. */
(function () {
  "use strict";
  const PAGE = 10;
  const SHOW = new Map([["all", "all"], ["differs", "differs from the baseline"], ["lost", "lost: was right, is wrong"],
    ["gained", "gained: was wrong, is right"], ["failed", "failed"], ["marked", "marked by a person"]]);
  const SAYS = new Map([[true, ["right", "✓ right"]], [false, ["wrong", "✗ wrong"]], [null, ["unscored", "unscored"]]]);
  const FAULT = "The samples could not be loaded: what stands below is all there is for now.";

  function make(tag, name, ...inside) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...inside);
    return node;
  }
  function button(words, act) {
    const node = Object.assign(make("button", "", words), { type: "button" });
    node.addEventListener("click", act);
    return node;
  }
  const says = (kind, ...inside) => make("span", "qc-says qc-" + kind, ...inside);
  const textBox = (name, text) => Object.assign(make("div", "qc-text " + name, text), { dir: "auto" });
  // An <option> holds no <bdi>: its words are isolated by characters.
  const option = (value, words) => Object.assign(make("option", "", "\u2068" + words + "\u2069"), { value });
  const note = (...inside) => make("p", "qc-samples-note", ...inside);
  const label = (words) => make("p", "qc-label", words);
  const bold = (words) => make("strong", "", make("bdi", "", words));
  const coded = (words) => encodeURIComponent(words).replace(/%2F/g, "/");

  /* The pieces of an answer, the first token that differs in a <mark>. Offsets count characters, not UTF-16 units. */
  function pieces(answer) {
    const box = textBox("", ""), first = answer.first;
    const from = first && first.at !== undefined ? first.at : -1;
    const to = from < 0 ? from : from + Array.from(first.token).length;
    let at = 0;
    for (const [op, text] of answer.segments) {
      const holder = op === "=" ? box : make(op === "+" ? "ins" : "del");
      const points = from < 0 || op === "-" ? [] : Array.from(text);
      const low = Math.max(0, from - at), high = Math.min(points.length, to - at);
      const part = (a, b) => points.slice(a, b).join("");
      if (low < high) holder.append(part(0, low), make("mark", "", part(low, high)), part(high));
      else holder.append(text);
      at += points.length;
      if (holder !== box) box.append(holder);
    }
    return box;
  }
  function column(answer, base, differs) {
    const ok = answer.status === "ok", same = answer.segments.every(([op]) => op === "=");
    const verdict = ok ? says(...SAYS.get(answer.right))
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

  function enhance(box) {
    if (box.dataset.qcReady) return;
    box.dataset.qcReady = "1";
    const files = new Map(), state = { task: "", variant: "", show: "all", page: 1 };
    const still = box.querySelector(".qc-samples-static"), live = make("div", "qc-samples-live");
    const task = make("select", "", option("", "all")), variant = make("select", ""), show = make("select", "");
    const count = make("p", "qc-count"), pagers = [pager(), pager()];
    let index = null, turn = 0, wanted = null;
    function get(name) {
      if (files.has(name)) return files.get(name);
      const got = fetch(box.dataset.src + name).then((r) => { if (!r.ok) throw new Error(name); return r.json(); });
      got.catch(() => files.delete(name)); // asked again at the next turn
      return files.set(name, got).get(name);
    }
    function pager() {
      const step = (by) => () => { state.page += by; save(); draw(); box.scrollIntoView(); };
      const nav = make("nav", "qc-pager", button("← Previous", step(-1)), button("Next →", step(1)));
      nav.setAttribute("aria-label", "Pages of samples");
      return Object.assign(nav, { hidden: true });
    }
    function read() {
      const many = location.hash.startsWith("#samples:");
      if (!many && !location.hash.startsWith("#sample=")) return false;
      const given = new URLSearchParams(location.hash.slice(many ? 9 : 1));
      wanted = many ? null : given.get("sample");
      state.task = given.get("task") || "";
      state.variant = given.get("variant") || state.variant;
      state.show = SHOW.has(given.get("show")) ? given.get("show") : "all";
      state.page = parseInt(given.get("page"), 10) || 1;
      return true;
    }
    function save() {
      const usual = { task: "", variant: index ? index.variants[0] : "", show: "all", page: 1 };
      const parts = Object.keys(usual).filter((k) => state[k] !== usual[k]).map((k) => k + "=" + coded(state[k]));
      history.replaceState(history.state, "", "#samples:" + parts.join("&"));
    }
    function fits(item) {
      if (state.task && state.task !== item.suite && state.task !== item.suite + "/" + item.task) return false;
      if (state.show === "all" || item[state.show].includes(state.variant)) return true;
      return ["failed", "marked"].includes(state.show) && item[state.show].includes(index.baseline);
    }
    function fill() {
      const tasks = new Set(index.items.flatMap((i) => [i.suite, i.suite + "/" + i.task]));
      task.append(...Array.from(tasks, (t) => option(t, t)));
      variant.append(...index.variants.map((v) => option(v, v)));
      variant.parentNode.hidden = index.variants.length < 2;
    }
    async function draw() {
      const mine = ++turn;
      try {
        const got = await get("index.json");
        if (!index) { index = got; fill(); }
        if (!index.variants.includes(state.variant)) state.variant = index.variants[0] || "";
        const found = Array.from(index.items.keys()).filter((at) => fits(index.items[at]));
        const goal = wanted === null ? -1 : index.items.findIndex((i) => i.id === wanted);
        const pages = Math.ceil(found.length / PAGE), place = found.indexOf(goal);
        const file = (at) => Math.floor(at / index.chunk);
        state.page = Math.min(Math.max(1, place < 0 ? state.page : 1 + Math.floor(place / PAGE)), Math.max(1, pages));
        const shown = found.slice((state.page - 1) * PAGE, state.page * PAGE);
        const chunks = new Map();
        await Promise.all(shown.map(async (at) => chunks.set(file(at), await get(file(at) + ".json"))));
        const sample = (at) => chunks.get(file(at))[at % index.chunk];
        if (mine !== turn) return;
        const made = shown.map((at) => article(sample(at), index.items[at], index.baseline, state.variant));
        box.dataset.live = "1"; // hides what stands on the page itself, on screens only
        still.querySelectorAll("[id]").forEach((node) => node.removeAttribute("id"));
        live.replaceChildren(...(made.length ? made : [note("No sample is like that.")]));
        [task.value, variant.value, show.value] = [state.task, state.variant, state.show];
        count.textContent = found.length + " of " + index.items.length
          + (pages ? " (page " + state.page + " of " + pages + ")" : "")
          + (wanted !== null && goal < 0 ? ". There is no sample of that name." : "");
        for (const nav of pagers) {
          nav.hidden = pages < 2;
          [nav.firstChild.disabled, nav.lastChild.disabled] = [state.page <= 1, state.page >= pages];
        }
        live.querySelectorAll(".qc-text").forEach((text) => {
          const over = text.scrollHeight > text.clientHeight + 12;
          if (text.classList.contains("qc-prompt")) text.nextSibling.hidden = !over;
          else if (over) text.tabIndex = 0; // it scrolls: by keys, too
        });
        wanted = null;
        if (place < 0) return;
        made[place % PAGE].classList.add("qc-wanted");
        made[place % PAGE].scrollIntoView();
      } catch { if (mine === turn) count.textContent = FAULT; }
    }
    function changed() {
      Object.assign(state, { task: task.value, variant: variant.value, show: show.value, page: 1 });
      save(); draw();
    }

    const bar = make("div", "qc-samples-bar");
    for (const [words, control] of [["Task", task], ["Variant", variant], ["Show", show]]) {
      control.addEventListener("change", changed);
      control.addEventListener("focus", () => { if (!index) draw(); });
      bar.append(make("label", "", make("span", "", words), control));
    }
    SHOW.forEach((words, value) => show.append(option(value, words)));
    count.setAttribute("role", "status"); // a live region: polite
    bar.append(count, pagers[0]);
    still.before(bar, live, pagers[1]);
    addEventListener("hashchange", () => { if (box.isConnected && read()) draw(); });
    if (read()) { draw().then(() => { if (location.hash.startsWith("#samples:")) box.scrollIntoView(); }); return; }
    const seen = (all, self) => { if (all.some((e) => e.isIntersecting)) { self.disconnect(); if (!index) draw(); } };
    new IntersectionObserver(seen).observe(box);
  }

  const start = () => document.querySelectorAll(".qc-samples").forEach(enhance);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
  if (window.document$) window.document$.subscribe(start); // Material's instant navigation
})();

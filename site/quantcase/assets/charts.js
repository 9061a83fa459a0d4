// @ts-check
/* A button on each chart that opens its interactive view: values under the pointer, series to hide, axes to zoom.
 *
 * Nothing is loaded before somebody asks: Vega is one file beside this one, brought by a script tag, so that a site
 * opened from a disk works too. The specification stands on the figure itself. Vega interprets expressions instead of
 * compiling them, so a Content-Security-Policy without eval or inline styles is enough. Colours are CSS variables.
 */
(function () {
  "use strict";

  /**
   * @typedef {{ name: string, color?: string, shape?: string, strokeDash?: number[] }} Series
   * @typedef {{ zoom: Object<string, string>, field?: string, series?: Series[] }} Meta
   * @typedef {{ runAsync: () => Promise<unknown>, finalize: () => void, signal: (name: string, value?: unknown) => any,
   *   scale: (name: string) => any }} View
   * @typedef {{ embed: (node: HTMLElement, spec: object, options: object) => Promise<{ view: View }>, config: object }} Vega
   */

  const OWN = document.currentScript instanceof HTMLScriptElement ? document.currentScript.src : document.baseURI;
  const FAULT = "The interactive view could not be loaded. The chart above shows the same figures.";
  const HINT = "Drag to move, Ctrl and wheel to zoom, double click to go back.";
  const SVG = "http://www.w3.org/2000/svg";
  /** @type {Object<string, string>} */
  const SHAPES = {
    circle: "M14 5a5 5 0 1 1-10 0a5 5 0 1 1 10 0z", square: "M4.5.5h9v9h-9z", diamond: "M9-1l5 6-5 6-5-6z",
    "triangle-up": "M9 0l5.5 10h-11z", "triangle-down": "M9 10l5.5-10h-11z", "triangle-right": "M14 5l-10 5.5v-11z",
    "triangle-left": "M4 5l10 5.5v-11z", cross: "M7.2 0h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z",
  };
  /** Decimals and thousands where the page's are not English, as quantcase/signs.py has them. */
  const SIGNS = /** @type {Record<string, [string, string]>} */ ({ de: [",", "."], fr: [",", "\u202f"] })[
    document.documentElement.dataset.numbers || "en"];
  /** @type {Promise<Vega> | null} */
  let vega = null;

  /** Vega, asked for once; asked again after a failure. @returns {Promise<Vega>} */
  function load() {
    vega = vega || new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("vega.js", OWN).href;
      script.addEventListener("load", () => {
        const found = /** @type {any} */ (window).quantcaseVega;
        if (found) resolve(found); else reject(new Error("vega.js brought nothing"));
      });
      script.addEventListener("error", () => reject(new Error("vega.js")));
      document.head.append(script);
    });
    vega.catch(() => { vega = null; });
    return vega;
  }

  /** @param {string} tag @param {string} name @param {string} [words] */
  function make(tag, name, words) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (words) node.textContent = words;
    return node;
  }

  /** @param {string} words @param {() => void} act @returns {HTMLButtonElement} */
  function button(words, act) {
    const node = document.createElement("button");
    node.type = "button";
    node.textContent = words;
    node.addEventListener("click", act);
    return node;
  }

  /** Every width of a specification, however deep, times a factor. @param {any} spec @param {number} factor */
  function widen(spec, factor) {
    if (typeof spec.width === "number") spec.width = Math.max(60, Math.round(spec.width * factor));
    for (const part of [spec.spec, ...(spec.layer || []), ...(spec.vconcat || [])]) if (part) widen(part, factor);
  }

  /** A sign as in the drawn legend: shape, dash or square in the series' colour. @param {Series} series */
  function swatch(series) {
    const svg = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "path");
    svg.setAttribute("viewBox", "0 -1 18 12");
    svg.setAttribute("aria-hidden", "true");
    const colour = series.color || "currentColor", line = series.strokeDash && !series.shape;
    path.setAttribute("d", line ? "M0 5h18" : SHAPES[series.shape || "square"] || SHAPES.square);
    path.setAttribute(line ? "stroke" : "fill", colour);
    if (line) {
      path.setAttribute("stroke-width", "2.2");
      path.setAttribute("stroke-dasharray", /** @type {number[]} */ (series.strokeDash).join(" "));
    }
    svg.append(path);
    return svg;
  }

  /** @param {HTMLElement} figure */
  function enhance(figure) {
    const still = /** @type {HTMLElement | null} */ (figure.querySelector(".qc-chart"));
    const written = figure.dataset.spec;
    if (!still || !written || figure.dataset.qcReady) return;
    figure.dataset.qcReady = "1";
    const svg = still.querySelector("svg"), label = svg ? svg.getAttribute("aria-label") || "" : "";
    const tools = make("div", "qc-chart-tools"), live = make("div", "qc-live"), tip = make("div", "qc-chart-tip");
    const said = make("p", ""), zooms = make("span", ""), names = make("div", "qc-chart-series");
    const toggle = button("Interactive", () => { if (!live.hidden) close(); else if (!busy) open(); });
    /** @type {View | null} */
    let view = null;
    let busy = false, drawn = 0, turn = 0;
    /** @type {Set<string>} */
    const hidden = new Set();

    toggle.setAttribute("aria-pressed", "false");
    toggle.setAttribute("aria-label", "Interactive: " + label.split(". ")[0]);
    said.setAttribute("role", "status");
    live.setAttribute("role", "img");
    live.setAttribute("aria-label", label);
    tip.hidden = live.hidden = zooms.hidden = names.hidden = true;
    names.setAttribute("role", "group");
    names.setAttribute("aria-label", "Series shown");
    tools.append(toggle, zooms, names, said);
    still.after(live, tools);
    figure.append(tip);
    figure.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
    live.addEventListener("pointerleave", () => { tip.hidden = true; });
    new ResizeObserver(() => { // told after a layout, which asking here would force; what does not scroll is no Tab stop
      if (still.scrollWidth > still.clientWidth + 1) still.tabIndex = 0;
      else still.removeAttribute("tabindex");
    }).observe(still);

    /** Vega's own tooltip writes a style sheet into the page; this one writes text. @type {(h: any, e: any, i: any, v: any) => void} */
    function point(_handler, event, _item, value) {
      tip.hidden = value === null || value === undefined || value === "";
      if (tip.hidden) return;
      const list = document.createElement("dl");
      for (const [name, text] of Object.entries(typeof value === "object" ? value : { "": value })) {
        list.append(make("dt", "", name), make("dd", "", String(text)));
      }
      tip.replaceChildren(list);
      const box = figure.getBoundingClientRect(), left = event.clientX - box.left;
      tip.style.left = Math.max(0, Math.min(left + 14, box.width - tip.offsetWidth - 4)) + "px";
      tip.style.top = Math.max(0, event.clientY - box.top - tip.offsetHeight - 10) + "px";
    }

    /** One drawing at a width. @param {Vega} from @param {number} factor @returns {Promise<View>} */
    async function draw(from, factor) {
      const spec = JSON.parse(/** @type {string} */ (written));
      widen(spec, factor);
      if (matchMedia("(pointer: coarse)").matches) still_on_touch(spec); // a finger scrolls the page
      const options = {
        actions: false, ast: true, defaultStyle: false, mode: "vega-lite", renderer: "svg", tooltip: point,
        config: themed(from.config, getComputedStyle(live).fontFamily, live.clientWidth),
        loader: { load: refuse, sanitize: refuse, http: refuse, file: refuse },
        ...(SIGNS ? { formatLocale: { decimal: SIGNS[0], thousands: SIGNS[1], grouping: [3], currency: ["$", ""] } } : {}),
      };
      const made = (await from.embed(live, spec, options)).view;
      if (hidden.size) await made.signal("hidden", Array.from(hidden)).runAsync();
      return made;
    }

    /** Drawn to see how wide axes and words are, and again until it fits. @param {Vega} from */
    async function fit(from) {
      const mine = ++turn, inner = inner_width(JSON.parse(/** @type {string} */ (written)));
      for (let factor = 1, tries = 0; ; tries++) {
        const made = await draw(from, factor);
        if (mine !== turn) { made.finalize(); return; }
        const node = live.querySelector("svg"), room = live.clientWidth;
        const over = node ? node.getBoundingClientRect().width - room : 0;
        if ((over <= 0 && over > -4) || tries > 2) { replace(made); return; }
        made.finalize();
        factor = Math.max(0.1, factor - (over + 1) / inner);
      }
    }

    /** @param {View} made */
    function replace(made) {
      if (view) view.finalize();
      view = made;
      drawn = live.clientWidth;
    }

    async function open() {
      busy = true;
      toggle.setAttribute("aria-busy", "true");
      said.textContent = "";
      try {
        const from = await load();
        live.hidden = false;
        await fit(from);
        still_hidden(true);
        controls(JSON.parse(/** @type {string} */ (written)).usermeta);
      } catch {
        close();
        said.textContent = FAULT;
      }
      toggle.removeAttribute("aria-busy");
      busy = false;
    }

    /** @param {boolean} away */
    function still_hidden(away) {
      /** @type {HTMLElement} */ (still).hidden = away;
      toggle.setAttribute("aria-pressed", String(away));
    }

    function close() {
      turn += 1;
      if (view) view.finalize();
      view = null;
      live.replaceChildren();
      hidden.clear();
      live.hidden = tip.hidden = zooms.hidden = names.hidden = true;
      said.textContent = "";
      still_hidden(false);
    }

    /** Buttons for what this chart can do. @param {Meta} meta */
    function controls(meta) {
      const axes = Object.entries(meta.zoom);
      zooms.replaceChildren();
      if (axes.length) {
        zooms.append(button("Zoom in", () => zoom(meta, 0.7)), " ", button("Zoom out", () => zoom(meta, 1 / 0.7)), " ",
          button("Reset", () => zoom(meta, 0)));
        if (!matchMedia("(pointer: coarse)").matches) said.textContent = HINT;
      }
      zooms.hidden = !axes.length;
      names.replaceChildren(...(meta.series || []).map((series) => {
        const node = button("", () => {
          if (!hidden.delete(series.name)) hidden.add(series.name);
          node.setAttribute("aria-pressed", String(!hidden.has(series.name)));
          if (view) view.signal("hidden", Array.from(hidden)).runAsync();
        });
        node.setAttribute("aria-pressed", "true");
        node.append(swatch(series), make("bdi", "", series.name));
        return node;
      }));
      names.hidden = (meta.series || []).length < 2;
    }

    /** Both ends of every axis that may move, about their middle; 0 goes back. @param {Meta} meta @param {number} factor */
    function zoom(meta, factor) {
      if (!view) return;
      const panels = (JSON.parse(/** @type {string} */ (written)).vconcat || [0]).length;
      for (let panel = 0; panel < panels; panel++) {
        for (const [axis, field] of Object.entries(meta.zoom)) {
          const signal = (panel ? "zoom_" + panel : "zoom") + "_" + field;
          if (!factor) { view.signal(signal, null); continue; }
          const scale = view.scale(panels > 1 ? "concat_" + panel + "_" + axis : axis);
          const log = scale.type === "log";
          const [a, b] = scale.domain().map((/** @type {number} */ x) => log ? Math.log(x) : x);
          const ends = [(a + b) / 2 - factor * (b - a) / 2, (a + b) / 2 + factor * (b - a) / 2];
          view.signal(signal, log ? ends.map(Math.exp) : ends);
        }
      }
      view.runAsync();
    }

    new ResizeObserver(() => {
      if (live.hidden || busy || Math.abs(live.clientWidth - drawn) < 8) return;
      drawn = live.clientWidth;
      load().then(fit).catch(() => { close(); said.textContent = FAULT; });
    }).observe(figure);
  }

  /** The theme with the page's font; names of series and axes leave room for the chart. @param {any} config
   * @param {string} font @param {number} room */
  function themed(config, font, room) {
    const axis = { ...config.axis, labelLimit: Math.min(config.axis.labelLimit, 0.3 * room), titleLimit: 0.68 * room };
    return { ...config, font, axis, title: { ...config.title, limit: room } };
  }

  function refuse() { return Promise.reject(new Error("charts load nothing")); }

  /** The width of the widest view. @param {any} spec @returns {number} */
  function inner_width(spec) {
    const below = [spec.spec, ...(spec.layer || []), ...(spec.vconcat || [])].filter(Boolean).map(inner_width);
    return Math.max(typeof spec.width === "number" ? spec.width : 0, ...below);
  }

  /** No dragging and no wheel: buttons stay. @param {any} spec */
  function still_on_touch(spec) {
    for (const param of spec.params || []) {
      if (param.select && param.bind === "scales") Object.assign(param.select, { translate: false, zoom: false });
    }
    for (const part of [...(spec.layer || []), ...(spec.vconcat || [])]) still_on_touch(part);
  }

  const start = () => document.querySelectorAll("figure.qc-figure").forEach((f) => enhance(/** @type {HTMLElement} */ (f)));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
  const navigated = /** @type {any} */ (window).document$; // Material's instant navigation
  if (navigated) navigated.subscribe(start);
})();

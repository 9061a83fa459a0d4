// @ts-check
/* Tables: sorted by a button in each header, copied as CSV or Markdown. Cells only ever become text: what stands in
 * them may come from a model or a log. Without this script every table reads as it was written.
 */
(function () {
  "use strict";

  const SAID_MS = 2000;
  /* The signs of numbers on this page: decimals, and what sets thousands apart (the no-break spaces always may). */
  const COMMA = ["de", "fr"].includes(document.documentElement.dataset.numbers || "en");
  const GROUP = COMMA ? /(\d)[.\u2009\u202f\u00a0](?=\d{3}(?!\d))/g : /(\d)[,\u2009\u202f\u00a0](?=\d{3}(?!\d))/g;
  const NUMBER = /^[~<>≤≥≈$€]?\s*([+-]?\d+(?:\.\d+)?)(?:\s*×\s*10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?/;
  const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const order = new Intl.Collator(document.documentElement.lang || "en", { numeric: true, sensitivity: "base" });

  /** @param {Element} cell @returns {string} its words on one line */
  function words(cell) {
    return (cell.textContent || "").replace(/[\s\u2009\u202f\u00a0]+/g, " ").trim();
  }

  /** The number that a cell begins with, in the page's signs; NaN for a dash, a word, or `n = 36, too few`.
   * @param {Element} cell @returns {number} */
  function value(cell) {
    const text = (cell.textContent || "").trim();
    const plain = text.replace(/[−–](?=\s*\d)/g, "-").replace(GROUP, "$1");
    const match = (COMMA ? plain.replace(/(\d),(?=\d)/g, "$1.") : plain).match(NUMBER);
    if (!match) return NaN;
    const power = Array.from(match[2] || "", (c) => (c === "⁻" ? "-" : String(RAISED.indexOf(c)))).join("");
    return parseFloat(match[1]) * 10 ** Number(power || 0);
  }

  /** @param {string} text @returns {boolean} whether there is nothing to sort by */
  function empty(text) { return text === "" || text === "–" || text === "-"; }

  /* One polite voice for all tables. */
  const voice = document.querySelector(".qc-voice") || document.createElement("div");
  voice.className = "qc-voice";
  voice.setAttribute("role", "status");
  /** @param {string} said */
  function say(said) {
    if (!voice.isConnected) document.body.append(voice);
    voice.textContent = "";
    setTimeout(() => { voice.textContent = said; }, 50); // a text that stays the same is not read again
  }

  /** Each row's place as it was written. Rows may be made anew by a calculator: those are placed when first seen.
   * @type {WeakMap<HTMLTableRowElement, number>} */
  const places = new WeakMap();
  let seen = 0;
  /** @param {HTMLTableElement} table @returns {HTMLTableRowElement[]} */
  function asWritten(table) {
    const rows = Array.from(table.tBodies[0].rows);
    rows.forEach((row) => { if (!places.has(row)) places.set(row, seen++); });
    return rows.sort((a, b) => (places.get(a) || 0) - (places.get(b) || 0));
  }

  /** @param {HTMLTableElement} table @param {number} column @param {"ascending"|"descending"|""} way
   */
  function sort(table, column, way) {
    const rows = asWritten(table).map((row) => {
      const cell = row.cells[column];
      return { row, text: words(cell), number: value(cell) };
    });
    if (way) {
      const sign = way === "descending" ? -1 : 1, figures = isFigures(table, column);
      rows.sort((a, b) => {
        if (empty(a.text) || empty(b.text)) return Number(empty(a.text)) - Number(empty(b.text));
        if (!figures) return sign * order.compare(a.text, b.text);
        if (isNaN(a.number) || isNaN(b.number)) return Number(isNaN(a.number)) - Number(isNaN(b.number));
        return sign * (a.number - b.number);
      });
    }
    table.tBodies[0].append(...rows.map((r) => r.row));
  }

  /** Whether a column is sorted by value: its cells are set as figures, or at least half of them are numbers alone.
   * @param {HTMLTableElement} table @param {number} column */
  function isFigures(table, column) {
    const head = table.tHead && table.tHead.rows[0].cells[column];
    if (head && head.classList.contains("num")) return true;
    const told = Array.from(table.tBodies[0].rows, (row) => words(row.cells[column])).filter((text) => !empty(text));
    return told.length > 0 && told.filter((text) => /^[+−-]?\d[\d., ]*( %)?$/.test(text)).length * 2 >= told.length;
  }

  /** @param {HTMLTableElement} table */
  function sortable(table) {
    const heads = Array.from(table.tHead ? table.tHead.rows[0].cells : []);
    if (asWritten(table).length < 2) return;
    heads.forEach((head, column) => {
      const title = words(head) || "result";
      const button = document.createElement("button");
      button.type = "button";
      button.className = "qc-sort";
      button.append(...head.childNodes);
      if (!words(button)) button.setAttribute("aria-label", title);
      button.title = "Sort";
      head.append(button);
      head.classList.add("qc-sortable");
      head.addEventListener("click", () => {
        const first = isFigures(table, column) ? "descending" : "ascending";
        const second = first === "descending" ? "ascending" : "descending";
        const now = head.getAttribute("aria-sort");
        const way = now === null ? first : now === first ? second : "";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (way) head.setAttribute("aria-sort", way);
        sort(table, column, way);
        say(way ? "Sorted by " + (words(head) || title) + ", " + way + "." : "In the original order.");
      });
    });
  }

  /** A spreadsheet takes what begins like this for a formula, and cells may be hostile. Figures of the page itself are
   * exempt: a number alone, or a change in its own element, which no text of a bundle can make.
   * @param {Element} cell @returns {string} */
  function csvCell(cell) {
    const text = words(cell), own = cell.querySelector(".qc-change, .qc-delta") !== null;
    const formula = /^[=@\t\r]|^[+-](?![\d.,]+( ?%)?$)/.test(text);
    return '"' + (formula && !own ? "'" : "") + text.replace(/"/g, '""') + '"';
  }

  /** @param {HTMLTableElement} table @returns {string} RFC 4180 */
  function csv(table) {
    return Array.from(table.rows, (row) => Array.from(row.cells, csvCell).join(",")).join("\r\n") + "\r\n";
  }

  /** @param {Element} cell @returns {string} text that stays text in Markdown */
  function markdownCell(cell) {
    const marks = /[\\|`*[\]<>]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])/g;
    return words(cell).replace(marks, "\\$&").replace(/&(?=[#\w]+;)/g, "&amp;");
  }

  /** @param {HTMLTableElement} table @returns {string} a GitHub table */
  function markdown(table) {
    const lines = Array.from(table.rows, (row) => "| " + Array.from(row.cells, markdownCell).join(" | ") + " |");
    const heads = Array.from(table.rows[0].cells, (head) => (head.classList.contains("num") ? "---:" : "---"));
    lines.splice(1, 0, "| " + heads.join(" | ") + " |");
    return lines.join("\n") + "\n";
  }

  /** @param {HTMLTableElement} table @param {Element} tools */
  function copyable(table, tools) {
    if (!navigator.clipboard) return; // only pages from https, localhost or a file may write to it
    /** @type {[string, (t: HTMLTableElement) => string][]} */
    const kinds = [["CSV", csv], ["Markdown", markdown]];
    for (const [name, make] of kinds) {
      const button = document.createElement("button"), usual = "Copy as " + name;
      button.type = "button";
      button.textContent = usual;
      button.addEventListener("click", () => {
        const after = (/** @type {string} */ said) => () => {
          button.textContent = said;
          say(said === "Copied" ? "Copied as " + name + "." : "The browser did not let it be copied.");
          setTimeout(() => { button.textContent = usual; }, SAID_MS);
        };
        navigator.clipboard.writeText(make(table)).then(after("Copied"), after("Not copied"));
      });
      tools.append(button);
    }
  }

  /** A box with nothing to scroll is no stop of the Tab key.
   * @param {HTMLElement} box */
  function stops(box) {
    const check = () => {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    };
    new ResizeObserver(check).observe(box);
  }

  /** @param {HTMLElement} box */
  function enhance(box) {
    const table = box.querySelector("table");
    if (!table || !table.tBodies.length || box.dataset.qcReady) return;
    box.dataset.qcReady = "1";
    sortable(table);
    const frame = box.closest(".qc-frame");
    let tools = frame && frame.querySelector(":scope > .qc-tools");
    if (!tools) {
      tools = document.createElement("div");
      tools.className = "qc-tools";
      box.after(tools);
    }
    copyable(table, tools);
  }

  function start() {
    document.querySelectorAll(".qc-table").forEach((box) => enhance(/** @type {HTMLElement} */ (box)));
    const boxes = document.querySelectorAll(".qc-scroll, .qc-chart[tabindex]");
    boxes.forEach((box) => stops(/** @type {HTMLElement} */ (box)));
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
  const page$ = /** @type {any} */ (window).document$;
  if (page$) page$.subscribe(start); // Material's instant navigation
})();

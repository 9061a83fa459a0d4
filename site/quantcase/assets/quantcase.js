/* Small comforts: sort a table by its header, copy it as CSV. The page reads well without any of it. */
(function () {
  "use strict";

  function figure(text) {
    const match = text.replace(/[,\s]/g, "").replace("−", "-").match(/^[+-]?\d+(\.\d+)?/);
    return match ? parseFloat(match[0]) : null;
  }

  function sort(table, column, head) {
    const down = head.getAttribute("aria-sort") !== "descending";
    const rows = Array.from(table.tBodies[0].rows);
    const value = (row) => {
      const text = row.cells[column].textContent.trim();
      const number = figure(text);
      return number === null ? text.toLowerCase() : number;
    };
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
      return down ? -order : order;
    });
    table.querySelectorAll("thead th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...rows);
  }

  function csv(table) {
    return Array.from(table.rows, (row) =>
      Array.from(row.cells, (cell) => '"' + cell.textContent.trim().replace(/"/g, '""') + '"').join(",")
    ).join("\n");
  }

  function enhance(box) {
    const table = box.querySelector("table");
    if (!table || box.dataset.qcReady) return;
    box.dataset.qcReady = "1";
    table.querySelectorAll("thead th").forEach((head, column) => {
      head.classList.add("qc-sortable");
      head.tabIndex = 0;
      head.addEventListener("click", () => sort(table, column, head));
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(table, column, head); });
    });
    if (!navigator.clipboard) return;
    const tools = document.createElement("div");
    tools.className = "qc-tools";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy as CSV";
    button.addEventListener("click", () =>
      navigator.clipboard.writeText(csv(table)).then(() => {
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy as CSV"; }, 1500);
      })
    );
    tools.append(button);
    box.after(tools);
  }

  function start() { document.querySelectorAll(".qc-table").forEach(enhance); }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();

// @ts-check
/* What every page of Quantcase does beyond showing itself: a link to a table or chart inside something folded opens it.
 * Tables are in tables.js, samples in quality.js. The page reads well without any of it.
 */
(function () {
  "use strict";

  /** Open whatever the address points into, and bring it into view. */
  function reveal() {
    let id = "";
    try { id = decodeURIComponent(location.hash.slice(1)); } catch { return; } // a hash that is no text names nothing
    const target = id ? document.getElementById(id) : null;
    if (!target) return;
    let closed = false;
    for (let up = target.closest("details"); up; up = up.parentElement && up.parentElement.closest("details")) {
      closed = closed || !up.open;
      up.open = true;
    }
    if (closed) target.scrollIntoView();
  }

  window.addEventListener("hashchange", reveal);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", reveal);
  else reveal();
})();

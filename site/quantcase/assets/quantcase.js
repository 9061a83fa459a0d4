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

  /** What Material writes into the page later gets what it lacks: a name for each code block's tools and for each part
   * of the menu; a stop of the Tab key for a block that scrolls. */
  function name_parts() {
    document.querySelectorAll(".md-code__nav:not([aria-label])").forEach((nav, i) => {
      nav.setAttribute("aria-label", `Code block ${i + 1}`);
    });
    document.querySelectorAll("nav.md-nav[aria-labelledby]").forEach((nav) => {
      const label = document.getElementById(nav.getAttribute("aria-labelledby") ?? "");
      if (label && label.textContent?.trim()) return;
      nav.setAttribute("aria-label", nav.querySelector(".md-nav__title")?.textContent?.trim() || "Menu");
      nav.removeAttribute("aria-labelledby");
    });
    document.querySelectorAll("article pre > code, article pre:not(:has(code))").forEach((pre) => {
      pre.setAttribute("tabindex", "0"); // what is folded or not laid out yet has no width to ask for
    });
  }

  /** On the page of addresses that are not there: of a version that is gone, the way to its case. */
  function gone() {
    const place = document.querySelector(/** @type {"p"} */ (".qc-gone")), link = place?.querySelector("a");
    const named = /^(.*\/cases\/([A-Za-z0-9][A-Za-z0-9._-]*)\/)versions\//.exec(location.pathname);
    if (!place || !link || !named) return;
    link.href = location.origin + named[1];
    link.textContent = named[2];
    place.hidden = false;
  }

  window.addEventListener("hashchange", reveal);
  window.addEventListener("load", name_parts);
  window.addEventListener("load", gone);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", reveal);
  else reveal();
})();

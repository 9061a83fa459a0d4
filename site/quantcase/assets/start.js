// @ts-check
/* What must stand before the page is painted: Material's own small scripts, as a file, so that a Content-Security-Policy
 * without inline scripts is enough; the colours of the reader; keys for the header; and a search that asks for its index
 * when it is opened. It runs in the header, before Material's bundle. Without it the page reads the same.
 */
(function () {
  "use strict";
  const DRAWER_MS = 300; // Material's drawer takes 250
  const site = /** @type {any} */ (window);

  // -- what Material's bundle expects, as in its partials/javascripts/base.html --------------------------------------

  // The site's root, where Material's own script takes it from the page: the same on every page, on any host.
  const root = new URL("../..", /** @type {HTMLScriptElement} */ (document.currentScript).src);
  site.__md_scope = root;
  /** @type {any} */
  let kept = null; // browsers that keep nothing throw at the name
  try { kept = localStorage; } catch { /* then nothing is remembered */ }
  /** @param {string} text */
  site.__md_hash = (text) => [...text].reduce((hash, sign) => (hash << 5) - hash + sign.charCodeAt(0), 0);
  /** @param {string} key */
  site.__md_get = (key, store = kept, scope = root) => {
    try { return JSON.parse(store.getItem(`${scope.pathname}.${key}`) ?? "null"); } catch { return null; }
  };
  /** @param {string} key @param {unknown} value */
  site.__md_set = (key, value, store = kept, scope = root) => {
    try { store.setItem(`${scope.pathname}.${key}`, JSON.stringify(value)); } catch { /* for this page only */ }
  };

  // -- colours: what was chosen, else what the system asks for, before anything is painted ----------------------------

  const chosen = site.__md_get("__palette")?.color ?? { media: "(prefers-color-scheme)" };
  if (chosen.media === "(prefers-color-scheme)") {
    const wanted = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
    const option = document.querySelector(`[data-md-color-media="(prefers-color-scheme: ${wanted})"]`);
    for (const name of ["media", "scheme", "primary", "accent"]) {
      const value = option?.getAttribute(`data-md-color-${name}`);
      if (value) chosen[name] = value;
    }
  }
  for (const [name, value] of Object.entries(chosen)) document.body.setAttribute(`data-md-color-${name}`, String(value));

  // -- menu and search by keyboard: Material's labels take no focus, so buttons stand in for them ----------------------

  document.querySelectorAll("button[data-qc-for]").forEach((found) => {
    const button = /** @type {HTMLButtonElement} */ (found);
    const toggle = /** @type {HTMLInputElement} */ (document.getElementById(button.dataset.qcFor ?? ""));
    const label = button.previousElementSibling;
    if (!toggle || !(label instanceof HTMLLabelElement)) return;
    label.hidden = true;
    button.hidden = false;
    const tell = () => button.setAttribute("aria-expanded", String(toggle.checked));
    toggle.addEventListener("change", tell);
    tell();
    button.addEventListener("click", () => {
      label.click();
      tell();
      if (toggle.id !== "__drawer" || !toggle.checked) return;
      /** When the drawer has come: its first link that no other part of the menu covers. @param {number} turns */
      const enter = (turns) => setTimeout(() => {
        const links = [...document.querySelectorAll(".md-sidebar--primary .md-nav__link:is([href], [tabindex])")];
        const seen = links.find((link) => {
          const { x, y, width, height } = link.getBoundingClientRect();
          return width > 0 && link.contains(document.elementFromPoint(x + width / 2, y + height / 2));
        });
        // A menu of one page shows that page's own parts: then the first of what lies on the screen at all.
        const near = turns > 0 ? undefined : links.find((link) => {
          const { x, y, width } = link.getBoundingClientRect();
          return width > 0 && x >= 0 && y >= 0 && x < innerWidth && y < innerHeight;
        });
        const target = seen ?? near;
        if (toggle.checked && target instanceof HTMLElement) target.focus({ preventScroll: true });
        else if (toggle.checked && turns > 0) enter(turns - 1);
      }, DRAWER_MS);
      enter(5);
    });
    if (toggle.id === "__drawer") document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !toggle.checked) return;
      toggle.click();
      tell();
      button.focus();
    });
  });

  // -- the search index: the heaviest part of a site, wanted by few pages ----------------------------------------------

  const query = document.querySelector("[data-md-component=search-query]");
  if (!query || location.protocol === "file:" || new URLSearchParams(location.search).has("h")) return;
  /** @type {(() => void)[]} */
  let held = [];
  let opened = false;
  const { open, send } = XMLHttpRequest.prototype;
  const index = new Set();
  /** @this {XMLHttpRequest} @param {any[]} how */
  XMLHttpRequest.prototype.open = function (...how) {
    if (new URL(String(how[1]), document.baseURI).pathname.endsWith("/search/search_index.json")) index.add(this);
    return Reflect.apply(open, this, how);
  };
  /** @this {XMLHttpRequest} @param {any[]} what */
  XMLHttpRequest.prototype.send = function (...what) {
    if (opened || !index.has(this)) return Reflect.apply(send, this, what);
    held.push(() => Reflect.apply(send, this, what));
  };
  function release() {
    opened = true;
    XMLHttpRequest.prototype.open = /** @type {any} */ (open);
    XMLHttpRequest.prototype.send = send;
    held.forEach((ask) => ask());
    held = [];
  }
  query.addEventListener("focus", release, { once: true });
  document.getElementById("__search")?.addEventListener("change", release, { once: true });
})();

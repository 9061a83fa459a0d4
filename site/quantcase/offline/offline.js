// @ts-check
/* A site opened from a disk: addresses of folders lead to their index.html, and JSON that a page asks for comes from a
 * script beside it, because browsers let no page read files. On a web server this script does nothing.
 */
(function () {
  "use strict";
  if (location.protocol !== "file:") return;

  /** @type {Object<string, unknown>} */
  const files = /** @type {any} */ (window).quantcaseFiles = {};
  const ROOT = new URL("../../", /** @type {HTMLScriptElement} */ (document.currentScript).src).href;

  /** A folder's index.html; null for what is no folder of this site. @param {string} address */
  function page(address) {
    const url = new URL(address, document.baseURI);
    if (url.protocol !== "file:" || !url.pathname.endsWith("/")) return null;
    url.pathname += "index.html";
    return url.href;
  }

  // Links that scripts make, and results of the search: those in the pages name files already.
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    const found = link instanceof HTMLAnchorElement ? page(link.href) : null;
    if (found && link instanceof HTMLAnchorElement) link.href = found;
  }, true);

  /** @param {string} address @returns {Promise<Response>} */
  function brought(address) {
    const name = address.slice(ROOT.length);
    return new Promise((resolve, reject) => {
      const done = () => resolve(new Response(JSON.stringify(files[name]), { headers: { "Content-Type": "application/json" } }));
      if (name in files) { done(); return; }
      const script = document.createElement("script");
      script.src = address + ".js";
      script.addEventListener("load", done);
      script.addEventListener("error", () => reject(new TypeError(name + " is not part of this site")));
      document.head.append(script);
    });
  }

  const usual = window.fetch.bind(window);
  window.fetch = (what, how) => {
    const address = new URL(what instanceof Request ? what.url : String(what), document.baseURI).href;
    return address.startsWith(ROOT) && address.endsWith(".json") ? brought(address) : usual(what, how);
  };
})();

"""Vega for the browser: vl-convert's own bundle as one file of the site, loaded only when a reader asks for it."""

from __future__ import annotations

import functools
import json

import vl_convert

from quantcase.charts import cache
from quantcase.charts.interactive import painted
from quantcase.charts.theme import CONFIG

__all__ = ["vega_js"]

# Licences ask that their notice stays with the copy; the bundler drops comments.
_NOTICE = """/*! Vega, Vega-Lite, Vega-Embed and the Vega expression interpreter, with D3: bundled by vl-convert.
 * Vega, Vega-Lite, Vega-Embed: Copyright University of Washington Interactive Data Lab, BSD-3-Clause.
 * D3: Copyright Mike Bostock, ISC. Their licences: github.com/vega, github.com/d3. No warranty.
 */
"""


@functools.cache
def vega_js() -> str:
    """The text of `assets/quantcase/vega.js`: sets `quantcaseVega` with Vega-Embed and the charts' theme.

    About 0.9 MB, 0.3 MB as it is transferred. Kept on disk as drawings are: making it takes seconds.
    """
    config = json.dumps(painted(CONFIG), sort_keys=True)
    snippet = f"window.quantcaseVega = {{ embed: vegaEmbed, config: {config} }};"
    # In a function of its own: the bundle's names are not the page's.
    head, tail = f"{_NOTICE}(function () {{\n", "\n})();\n"
    return cache.kept(head + snippet + tail, ".js", lambda: head + str(vl_convert.javascript_bundle(snippet)) + tail)

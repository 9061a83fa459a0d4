"""Texts with labels out of a data set of the Hugging Face hub, through the API of its dataset viewer.

The viewer gives rows a hundred at a time, so that 500 of a large set are fetched in seconds, and nothing needs to be
installed; no code of a data set is ever run. Endpoints and answers: huggingface.co/docs/dataset-viewer (/splits,
/rows). HF_ENDPOINT names another hub, HF_TOKEN opens gated sets, HF_HUB_OFFLINE=1 forbids asking.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Struct

from collector.errors import QuantcaseError, UsageFault

__all__ = ["Labelled", "labelled"]

_HUB = "https://huggingface.co"
_PAGE = 100  # the most rows that the API gives at once
_BLOCK, _MOST_BLOCKS = 20, 50
_TRIES = 4
_TIMEOUT_S = 30.0
_MOST_WAIT_S = 20.0
_MOST_BYTES = 64 << 20
_LATER = (429, 500, 502, 503, 504)  # 500 is also "the response is not ready yet"
_LOCAL = "name a local `file` of the suite instead"


class Labelled(Struct, frozen=True):
    """(text, label) pairs in their order, and what is known of them."""

    pairs: list[tuple[str, str]]
    names: list[str] = []  # all labels of the set, those of none of these texts too; empty where only the texts tell
    source: str = ""  # a hub's data set: name:config:split@revision


def labelled(dataset: str, text_column: str, label_column: str, count: int) -> Labelled:
    """At most `count` pairs of `NAME`, `NAME:CONFIG` or `NAME:CONFIG:SPLIT`.

    Many sets are sorted by label: of a longer split come blocks of about 20 rows, spread evenly over it. Without a
    split it is `test`, else `validation`, else the only one; without a config `default`, else the only one.

    Raises:
        QuantcaseError: the hub cannot be reached, refuses, or answers what cannot be read.
        UsageFault: no such config, split or column, or a row without a label.
    """
    name, _, rest = dataset.partition(":")
    config, _, split = rest.partition(":")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise QuantcaseError(f"data set {name} cannot be had: HF_HUB_OFFLINE is set", fix=_LOCAL)
    splits, _ = _get("/splits", {"dataset": name}, name)
    config, split = _chosen(splits, name, config, split)
    place = {"dataset": name, "config": config, "split": split}
    first, headers = _get("/rows", {**place, "offset": "0", "length": "1"}, name)
    total, revision = first.get("num_rows_total"), headers.get("X-Revision") or ""
    if not isinstance(total, int) or total < 1:
        raise UsageFault(f"data set {name}: {config}/{split} holds no rows", fix="name another split")
    pairs: list[tuple[str, str]] = []
    names: list[str] = []
    for offset, length in _blocks(count, total):
        page, headers = _get("/rows", {**place, "offset": str(offset), "length": str(length)}, name)
        if (headers.get("X-Revision") or "") != revision:
            raise QuantcaseError(f"data set {name} changed while it was read", fix="start the run again")
        rows, names = _rows(page, name, text_column, label_column, offset)
        if len(rows) != length:
            problem = f"data set {name}: {len(rows)} of {length} rows came from row {offset + 1} on"
            raise QuantcaseError(problem, fix=_LOCAL)
        pairs += rows
    return Labelled(pairs, names, f"{name}:{config}:{split}{f'@{revision}' if revision else ''}")


def _blocks(count: int, total: int) -> list[tuple[int, int]]:
    """(first row, rows) of each request: all of a short split, blocks spread evenly over a long one."""
    count = min(count, total)
    many = -(-count // _PAGE)
    if count < total:
        many = max(many, min(-(-count // _BLOCK), _MOST_BLOCKS))
    bounds = [b * count // many for b in range(many + 1)]
    return [(lo + b * (total - count) // many, hi - lo) for b, (lo, hi) in enumerate(pairwise(bounds))]


def _chosen(answer: dict[str, Any], name: str, config: str, split: str) -> tuple[str, str]:
    """The config and the split, as asked for or as there is no doubt about."""
    found: dict[str, list[str]] = {}
    entries = answer.get("splits")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            found.setdefault(str(entry.get("config")), []).append(str(entry.get("split")))
    if not found:
        raise QuantcaseError(f"data set {name}: the hub's viewer lists no splits of it", fix=_LOCAL)
    if not config:
        config = "default" if "default" in found else next(iter(found))
        if len(found) > 1 and config != "default":
            raise UsageFault(f"data set {name} has several configs", fix=f"name one, {name}:CONFIG; {_few(found)}")
    if config not in found:
        raise UsageFault(f"data set {name} has no config {config}", fix=f"configs: {_few(found)}")
    splits = found[config]
    if not split:
        known = [s for s in ("test", "validation") if s in splits] or (splits if len(splits) == 1 else [])
        if not known:
            raise UsageFault(
                f"data set {name} has several splits", fix=f"name one, {name}:{config}:SPLIT; {_few(splits)}"
            )
        split = known[0]
    if split not in splits:
        raise UsageFault(f"data set {name} has no split {split}", fix=f"splits: {_few(splits)}")
    return config, split


def _rows(page: dict[str, Any], name: str, text: str, label: str, at: int) -> tuple[list[tuple[str, str]], list[str]]:
    """The pairs of one page, and the names of all labels where the set has them.

    A class label is the number of its name; -1 stands for none, in sets that hide theirs.
    """
    try:
        kinds = {f["name"]: f["type"] for f in page["features"]}
        rows = [(r["row"], r.get("truncated_cells") or []) for r in page["rows"]]
    except (KeyError, TypeError, AttributeError):
        raise QuantcaseError(f"data set {name}: the hub's rows have another form than expected", fix=_LOCAL) from None
    for column in (text, label):
        if column not in kinds:
            key = "text_column" if column == text else "label_column"
            raise UsageFault(f"data set {name} has no column {column}", fix=f"set {key}; columns: {_few(kinds)}")
    kind = kinds[label]
    names = kind.get("names") if isinstance(kind, dict) and kind.get("_type") == "ClassLabel" else None
    pairs = []
    for number, (row, cut) in enumerate(rows, at + 1):
        said, value = row.get(text), row.get(label)
        if text in cut or label in cut:
            raise QuantcaseError(f"data set {name}: the hub cut the text of row {number}", fix=_LOCAL)
        if not isinstance(said, str):
            raise UsageFault(f"data set {name}: row {number} has no text in {text}", fix="set text_column")
        if names is not None:
            known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
            value = names[value] if known else None
        if value is None or isinstance(value, (dict, list)) or not str(value).strip():
            raise UsageFault(
                f"data set {name}: row {number} has no label in {label}",
                fix="set label_column, or name a split that has labels: NAME:CONFIG:SPLIT",
            )
        pairs.append((said, str(value).strip()))
    return pairs, [str(n).strip() for n in names or []]


def _viewer() -> str:
    """The address of the viewer: beside the hub, as `datasets-server.`, or the hub's own where that is a bare IP."""
    hub = (os.environ.get("HF_ENDPOINT") or _HUB).rstrip("/")
    parts = urllib.parse.urlsplit(hub)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise UsageFault("HF_ENDPOINT is no http address", fix=f"for example {_HUB}")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return hub if host == "localhost" else hub.replace("://", "://datasets-server.", 1)
    return hub


def _get(path: str, query: Mapping[str, str], name: str) -> tuple[dict[str, Any], Message]:
    """One answer of the API, a JSON object. What may pass is tried again."""
    url = f"{_viewer()}{path}?{urllib.parse.urlencode(query)}"
    token = os.environ.get("HF_TOKEN", "")
    request = urllib.request.Request(url)  # noqa: S310 - http(s), see _viewer
    if token:  # never to where a redirect leads
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    for tries_left in reversed(range(_TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - http(s), see _viewer
                raw, headers = response.read(_MOST_BYTES + 1), response.headers
        except urllib.error.HTTPError as e:
            with e:
                said = _said(e.read(4000))
            if e.code in _LATER and tries_left:
                time.sleep(_wait(e.headers.get("Retry-After"), _TRIES - tries_left))
                continue
            raise _refused(e.code, said, name, bool(token)) from None
        except (OSError, http.client.HTTPException) as e:  # URLError and a time-out are OSErrors
            reason = getattr(e, "reason", None) or e
            problem = f"data set {name} cannot be had from {urllib.parse.urlsplit(url).hostname}: {reason}"
            raise QuantcaseError(problem, fix=f"is this machine online? If not, {_LOCAL}") from None
        if len(raw) > _MOST_BYTES:
            raise QuantcaseError(f"data set {name}: the hub's answer is larger than 64 MiB", fix=_LOCAL)
        try:
            return msgspec.json.decode(raw, type=dict[str, Any]), headers
        except (ValueError, RecursionError):
            raise QuantcaseError(f"data set {name}: the hub's answer is no JSON object", fix=_LOCAL) from None
    raise AssertionError("the last try returns or raises")


def _refused(code: int, said: str, name: str, token: bool) -> QuantcaseError:
    fix = _LOCAL
    if code in (401, 403):
        fix = (
            "is it spelled right, and may HF_TOKEN read it?" if token else "is it spelled right? A gated one: HF_TOKEN"
        )
    elif code == 404:
        fix = "is it spelled right, as owner/name?"
    elif code in _LATER:
        fix = f"try again later, or {_LOCAL}"
    return QuantcaseError(f"data set {name} cannot be had: HTTP {code}{f', {said}' if said else ''}", fix=fix)


def _said(raw: bytes) -> str:
    """The hub's own words for an error, in one short line."""
    try:
        message = msgspec.json.decode(raw, type=dict[str, Any]).get("error", "")
    except (ValueError, RecursionError):
        message = ""
    line = " ".join(str(message).split())
    return line if len(line) <= 160 else f"{line[:157]}..."


def _wait(header: str | None, attempt: int) -> float:
    """Seconds until the next try: what the hub asks for, else 1, 2, 4."""
    if header is not None and header.strip().isdigit():
        return min(float(header), _MOST_WAIT_S)
    return float(2 ** (attempt - 1))


def _few(names: Any) -> str:
    """Names in one short line."""
    said = " ".join(", ".join(map(str, names)).split())
    return said if len(said) <= 200 else f"{said[:197]}..."

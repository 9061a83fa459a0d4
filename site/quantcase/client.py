"""What a client's site shows, and how: the options under `plugins: - quantcase:` as one checked structure.

Nothing here knows MkDocs. A wrong option is one line that names it and says what to write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct, field

from collector import gpus
from collector.bundle.read import QuantcaseError
from quantcase.signs import Language, signed
from quantcase.text import text

__all__ = [
    "KINDS", "Currency", "Settings", "brand_css", "confidential_html", "from_config", "numbers_html", "settings",
    "stylesheets",
]  # fmt: skip

KINDS = ("texts", "logs", "notes")
Kind = Literal["texts", "logs", "notes"]
_STANDARD = "Confidential. Not to be passed on without leave."
_FIX = "see docs/guide/clients.md"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class Currency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A currency in which amounts are shown: how many units of it one US dollar was, who says so, and when."""

    code: Annotated[str, Meta(pattern=r"^[A-Z]{3}$")] = "USD"
    rate: Annotated[float, Meta(gt=0, lt=1e9)] = 1.0
    source: str = ""
    date: str = ""

    @property
    def foreign(self) -> bool:
        """Whether amounts must be converted."""
        return self.code != "USD"

    def words(self) -> str:
        """A sentence that names the rate, USD included, as safe text; empty for dollars."""
        if not self.foreign:
            return ""
        rate = signed(f"{self.rate:.12g}")
        said = f"Amounts in {self.code} at {rate} {self.code} for 1 USD ({self.source}, {self.date})"
        return text(f"{said}. The prices of a GPU by the hour are in USD, as they are quoted.")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of one site. Field names are the keys in mkdocs.yml."""

    results: str = "results"
    overlay: str = ""  # a folder with the client's own files, which stand in for those of docs/
    client: str = ""
    confidential: bool | str = False  # True: a standard line; text: that line
    cases: list[str] = field(default_factory=list)
    leave_out: list[str] = field(default_factory=list)
    currency: Currency = field(default_factory=Currency)
    prices: dict[str, Annotated[float, Meta(gt=0)]] = field(default_factory=dict)  # USD per hour by GPU profile
    numbers: Language = "en"
    colours: dict[Literal["primary", "accent"], str] = field(default_factory=dict)
    redact: list[Kind] = field(default_factory=list)
    show_simulated: bool = True
    show_published: bool = True
    cache: str = ".cache/quantcase"
    processes: Annotated[int, Meta(ge=0)] = 0

    @property
    def confidential_line(self) -> str:
        """The line on every page, or an empty string."""
        if self.confidential is True:
            return _STANDARD
        return " ".join(self.confidential.split()) if isinstance(self.confidential, str) else ""

    def left_out(self, uri: str) -> bool:
        """Whether a page or file of the site, by its path in the sources, is left out."""
        return any(fnmatchcase(uri, pattern) for pattern in self.leave_out)


def settings(options: Mapping[str, Any]) -> Settings:
    """The options as they stand in mkdocs.yml, checked.

    Raises:
        QuantcaseError: an option that does not exist, is of the wrong kind, or cannot be: one line that names it.
    """
    given = {str(k): v for k, v in options.items() if v is not None}
    if isinstance(given.get("redact"), bool):
        given["redact"] = list(KINDS) if given["redact"] else []
    if isinstance(given.get("currency"), str):
        given["currency"] = {"code": given["currency"]}
    prices = given.get("prices")
    for gpu, price in prices.items() if isinstance(prices, Mapping) else ():
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 < price < 1e6:
            raise QuantcaseError(f"prices.{gpu} must be USD per hour, a number above 0", fix=f"it is {price!r}")
    try:
        made = msgspec.convert(_plain(given), Settings)
    except msgspec.ValidationError as e:
        what, _, where = str(e).partition(" - at `$.")
        place = f"{where.rstrip('`')}: " if where else ""
        raise QuantcaseError(f"{place}{what[:1].lower()}{what[1:]}", fix=_FIX) from None
    _possible(made)
    return made


def from_config(config: Path) -> Settings:
    """The settings in a site's own mkdocs.yml, for commands that build no site. What it inherits is not read.

    Raises:
        QuantcaseError: the file cannot be read, names no `quantcase` under `plugins`, or has a wrong option.
    """

    class Loader(yaml.SafeLoader):
        """MkDocs' own tags (`!ENV`, `!relative`) stand in other parts of the file."""

    Loader.add_multi_constructor("!", lambda *_: None)
    try:
        data: Any = yaml.load(config.read_text("utf-8"), Loader=Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise QuantcaseError(f"{config} cannot be read: {' '.join(str(e).split())[:200]}", fix=_FIX) from None
    plugins = data.get("plugins") if isinstance(data, Mapping) else None
    listed = plugins if isinstance(plugins, list) else [plugins]
    found = [p["quantcase"] for p in listed if isinstance(p, Mapping) and isinstance(p.get("quantcase"), Mapping)]
    if not found:
        raise QuantcaseError(f"{config} has no options under `plugins: quantcase:`", fix="name a site's mkdocs.yml")
    return settings(found[0])


def _plain(value: Any) -> Any:
    """YAML's dates as text, mappings of any kind as dicts: what msgspec reads."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _possible(made: Settings) -> None:
    """What the types alone cannot say."""
    unknown = next((g for g in made.prices if g not in gpus.load()), None)
    if unknown is not None:
        raise QuantcaseError(f"prices.{unknown}: no GPU profile has that name", fix="see `collect gpus`")
    if made.currency.foreign and not (made.currency.source and made.currency.date):
        raise QuantcaseError(
            f"currency.{made.currency.code} needs its rate, the rate's source and date",
            fix="currency: {code: EUR, rate: 0.92, source: ECB reference rate, date: 2026-11-20}",
        )
    if not made.currency.foreign and made.currency.rate != 1:
        raise QuantcaseError("currency.rate of USD is 1", fix="name the currency, or leave the rate out")
    for name, colour in made.colours.items():
        if not _COLOUR.fullmatch(colour):
            raise QuantcaseError(f"colours.{name}: {colour[:40]!r} is no colour", fix="write it as '#12344a'")
    for pattern in made.leave_out:
        if pattern.startswith(("/", "..")) or pattern in ("index.md", "*", "**"):
            raise QuantcaseError(
                f"leave_out: {pattern!r} cannot be left out", fix="a page's path in docs/, * stands for anything"
            )


# -- The client's own look --------------------------------------------------------------------------------------------


def stylesheets(made: Settings) -> list[str]:
    """Style sheets that a site with these settings needs beside the usual ones."""
    return ["assets/quantcase/client.css"] * bool(made.confidential_line) + ["assets/brand.css"] * bool(made.colours)


def brand_css(made: Settings) -> str:
    """The client's colours for Material; words on the primary colour are black or white, whichever reads better."""
    lines = []
    if primary := made.colours.get("primary"):
        words = "#000000" if _luminance(primary) > 0.179 else "#ffffff"
        lines.append(
            '[data-md-color-primary="custom"] { '
            f"--md-primary-fg-color: {primary}; --md-primary-fg-color--light: {primary}; "
            f"--md-primary-fg-color--dark: {primary}; --md-primary-bg-color: {words}; "
            f"--md-primary-bg-color--light: {words}b3; }}"
        )
    if accent := made.colours.get("accent"):
        lines.append(f"[data-md-color-scheme] {{ --md-accent-fg-color: {accent}; }}")
    return "\n".join(lines) + "\n"


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2); above 0.179 black has the higher contrast."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def confidential_html(made: Settings) -> str:
    """The line at a page's end; on paper it stands on every sheet. Empty where nothing is confidential."""
    if not made.confidential_line:
        return ""
    whom = f"For {text(made.client)}. " if made.client else ""
    return f'<p class="qc-confidential">{whom}{text(made.confidential_line)}</p>'


def numbers_html(made: Settings, page: str) -> str:
    """A whole page that tells scripts in which signs figures are read and written, where these are not English.

    An attribute of its own: the words of a page may be English, and its figures German.
    """
    return page if made.numbers == "en" else page.replace("<html ", f'<html data-numbers="{made.numbers}" ', 1)

"""The file that says what the columns of a plain CSV mean: TOML in, a typed map out, checked before a CSV is read."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from collector.errors import UsageFault
from collector.importers.reading import short

__all__ = ["ColumnMap", "Columns", "MappedMetric", "load", "ready"]

_MOST_BYTES = 1 << 20
_SEE = "see docs/guide/import.md"
Words = Annotated[str, Meta(min_length=1, max_length=400)]
Names = str | list[str]  # one column, or the names that it may have
# Unit -> the largest value that can be meant. A day is the longest time, 10 TiB the largest memory.
UNITS: dict[str, float] = {
    "ns": 8.64e13, "us": 8.64e10, "ms": 8.64e7, "s": 8.64e4, "tok/s": 1e7, "requests/s": 1e6, "samples/s": 1e7,
    "%": 100.0, "MB": 1e7, "MiB": 1e7, "GB": 1e4, "GiB": 1e4, "bytes": 1e13, "tokens": 1e12, "requests": 1e12,
    "W": 1e5, "J": 1e12, "USD": 1e9, "USD/h": 1e5, "score": 1e6,
}  # fmt: skip
_DIMENSIONS = ({"ns", "us", "ms", "s"}, {"MB", "MiB", "GB", "GiB"})
_SUFFIX = re.compile(r"[_ (\[](ns|us|ms|s|mb|mib|gb|gib)[)\]]?$")


class Columns(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which columns say what a row is of. What no column says may stand under `constants`."""

    variant: Names = ""
    workload: Names = ""
    concurrency: Names = ""
    rate: Names = ""  # requests per second that were offered
    load: Names = ""  # in words, where it is neither
    requests: Names = ""
    ok: Names = ""
    failed: Names = ""
    error: Names = ""  # why requests failed, in words
    input_tokens: Names = ""  # a request, on average
    output_tokens: Names = ""


class Constants(Struct, kw_only=True, forbid_unknown_fields=True):
    """What holds for every row."""

    variant: str = ""
    workload: str = ""
    concurrency: Annotated[int, Meta(ge=1, le=10**6)] | None = None
    rate: Annotated[float, Meta(gt=0, le=10**6)] | None = None
    model: str = ""
    method: str = ""
    bits: Annotated[float, Meta(gt=0, le=64)] | None = None
    engine: str = ""
    engine_version: str = ""


class MappedMetric(Struct, kw_only=True, forbid_unknown_fields=True):
    """One column of figures."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
    column: Names
    unit: str
    definition: Words
    statistic: Annotated[str, Meta(pattern=r"^[a-z0-9._]{1,20}$")] = "value"
    required: bool = False
    quantity: Literal["", "throughput", "e2e"] = ""  # for the check of units: tok/s of all, time of one request


class ColumnMap(Struct, kw_only=True, forbid_unknown_fields=True):
    """A whole map."""

    metrics: Annotated[list[MappedMetric], Meta(min_length=1, max_length=200)]
    title: str = ""
    delimiter: Literal[",", ";", "\t", "|"] = ","
    file_name: str = ""  # how files are called, with {workload} and {variant} where these stand
    columns: Columns = field(default_factory=Columns)
    constants: Constants = field(default_factory=Constants)

    def of_name(self, name: str) -> dict[str, str]:
        """What a file's name says: `workload`, `variant` and whatever else the pattern names.

        Raises:
            UsageFault: the name does not follow `file_name`.
        """
        if not self.file_name:
            return {}
        parts = re.split(r"\{([a-z_]+)\}", self.file_name)
        # Fields hold no underscore, so that a name can be taken apart in one way only.
        pattern = "".join(f"(?P<{p}>[^_/]{{1,80}})" if i % 2 else re.escape(p) for i, p in enumerate(parts))
        found = re.fullmatch(pattern, name[:500])
        if found is None:
            raise UsageFault(
                f"{short(name)} is not called as the map says ({self.file_name})", fix="rename it, or drop file_name"
            )
        return found.groupdict()


def ready() -> dict[str, Path]:
    """The maps that come with the package."""
    folder = Path(str(resources.files("collector.importers")))
    return {p.stem: p for p in sorted(folder.glob("*.toml"))}


def load(name_or_path: str) -> ColumnMap:
    """Read and check a map: a ready one by its name, or a TOML file.

    Raises:
        UsageFault: none was named, there is none, or it is not such a map: file and key.
    """
    if not name_or_path:
        raise UsageFault("a plain CSV needs a map of its columns", fix=f"--columns FILE.toml; {_SEE}")
    path = ready().get(name_or_path, Path(name_or_path))
    where = short(path.name)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageFault(f"{where} is larger than {_MOST_BYTES >> 20} MiB", fix="it maps columns, it holds no data")
        found = msgspec.convert(tomllib.loads(path.read_bytes().decode("utf-8")), ColumnMap)
    except OSError as e:
        raise UsageFault(
            f"{short(name_or_path)} cannot be read: {e.strerror or e}", fix=f"a file, or one of {', '.join(ready())}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise UsageFault(f"{where} is not valid TOML: {short(e, 120)}", fix="mend that line") from None
    except msgspec.ValidationError as e:
        text, _, key = str(e).partition(" - at `$")
        at = key.rstrip("`").lstrip(".")
        raise UsageFault(f"{where}{f': key `{at}`' if at else ''}: {text[0].lower()}{text[1:]}", fix=_SEE) from None
    _consistent(found, where)
    return found


def _consistent(found: ColumnMap, where: str) -> None:
    seen = set()
    fields = re.findall(r"\{([a-z_]+)\}", found.file_name)
    if len(set(fields)) < len(fields):
        raise UsageFault(f"{where}: key `file_name` names a field twice", fix=_SEE)
    if re.search(r"\}\{", found.file_name):
        raise UsageFault(f"{where}: key `file_name`: two fields touch", fix="put an underscore between them")
    for i, m in enumerate(found.metrics):
        at = f"{where}: key `metrics[{i}]`"
        if (m.name, m.statistic) in seen:
            raise UsageFault(f"{at}: {m.name} {m.statistic} stands twice", fix="names and statistics must differ")
        seen.add((m.name, m.statistic))
        if m.unit not in UNITS:
            raise UsageFault(f"{at}.unit: {short(m.unit)!r} is not known", fix=f"units: {', '.join(UNITS)}")
        for column in [m.column] if isinstance(m.column, str) else m.column:
            named = _SUFFIX.search(column.lower())
            for units in _DIMENSIONS:
                by_name = next((u for u in units if named and u.lower() == named[1]), "")
                if by_name and m.unit in units and m.unit != by_name:
                    raise UsageFault(
                        f"{at}: column {short(column)!r} is in {by_name} by its name, the map says {m.unit}",
                        fix="values are kept as they are: name the unit that they are in",
                    )
    if found.constants.concurrency is not None and found.constants.rate is not None:
        raise UsageFault(f"{where}: key `constants` has concurrency and rate", fix="a load is one of the two")

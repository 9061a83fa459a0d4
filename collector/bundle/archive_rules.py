"""What an archive must be before a byte of it is written: rules with names, for `collect unpack` and `collect pull`.

An archive comes from anywhere. Every member's name and kind is judged before anything is unpacked, and what is unpacked
is counted while it comes, because an archive states sizes that it need not keep. docs/guide/carry.md lists the rules.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from collector.errors import QuantcaseError

__all__ = ["RULES", "ArchiveFault", "Limits", "Member", "check_members", "check_path", "shown"]

RULES: Final[dict[str, str]] = {
    "A101": "is no archive that can be read",
    "A102": "a path climbs out of the folder, or has an empty or a dot part",
    "A103": "a path is absolute",
    "A104": "a path starts with a drive letter",
    "A105": "a member is a symbolic link",
    "A106": "a member is a hard link",
    "A107": "a member is a device file",
    "A108": "a member is a fifo or a socket",
    "A109": "a member is neither a file nor a folder",
    "A110": "a name stands twice",
    "A111": "two names differ only by case",
    "A112": "two names differ only by their Unicode form",
    "A113": "a name is reserved on Windows",
    "A114": "a name holds a control character, or one that hides or turns text",
    "A115": "a name ends in a dot or a blank",
    "A116": "a name is not UTF-8",
    "A117": "a name holds a character that other systems forbid",
    "A118": "a path is too deep or too long",
    "A119": "there is not exactly one top folder",
    "A120": "there are too many members",
    "A121": "it unpacks to too much",
    "A122": "it unpacks to far more than its packed size",
    "A123": "a member is encrypted, or packed in a way that is not read here",
    "A124": "its directory is not laid out as a plain archive's",
    "A201": "there is no manifest",
    "A202": "a file is not named by the manifest",
    "A203": "a file that the manifest names is missing",
    "A204": "a file is not what the manifest says",
    "A205": "the bundle has errors",
}
"""A1..: never unpacked. A201, A202: the same. A203 to A205: `collect unpack --force` takes them, and says so."""

_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"
}
_FORBIDDEN = frozenset('<>:"|?*\\')
_KINDS = {"symlink": "A105", "hardlink": "A106", "device": "A107", "fifo": "A108", "other": "A109"}


class ArchiveFault(QuantcaseError):
    """An archive is refused. `rule` is the rule's name, `where` the member as `shown` gives it."""

    def __init__(self, rule: str, where: str = "", *, detail: str = "", fix: str = "") -> None:
        self.rule = rule
        self.where = where
        parts = [RULES[rule], f" ({where})" if where else "", f": {detail}" if detail else ""]
        super().__init__(f"{rule}: {''.join(parts)}", fix=fix or "nothing was written; docs/guide/carry.md says more")


class Limits(Struct, frozen=True):
    """How much a bundle may be. The largest real bundles hold 100 files and 50 MiB."""

    members: int = 10_000
    total_bytes: int = 4 * 1024**3
    ratio: int = 200  # unpacked over packed; telemetry of an idle GPU, the best case for deflate, reaches 40
    ratio_from_bytes: int = 8 * 1024**2  # below this a ratio harms nobody
    depth: int = 8
    path_bytes: int = 240
    name_bytes: int = 200


class Member(Struct, frozen=True):
    """One entry of an archive, before it is unpacked."""

    path: str
    kind: str  # file, folder, symlink, hardlink, device, fifo, other
    size: int = 0


def shown(name: str) -> str:
    """A name as ASCII, at most 80 characters: safe on a terminal and in a log."""
    plain = name.encode("unicode_escape", "backslashreplace").decode("ascii")
    return plain if len(plain) <= 80 else f"{plain[:77]}..."


def check_path(path: str, limits: Limits | None = None) -> tuple[str, ...]:
    """The parts of a relative POSIX path that is safe on Linux, macOS and Windows.

    Raises:
        ArchiveFault: it is not; the rule says why.
    """
    limits = limits or Limits()
    where = shown(path)
    try:
        length = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        raise ArchiveFault("A116", where) from None
    if not path.isprintable():  # controls, invisible and turning characters, blanks other than the common one
        raise ArchiveFault("A114", where)
    if path.startswith(("/", "\\")):
        raise ArchiveFault("A103", where)
    if len(path) >= 2 and path[1] == ":" and path[0].isalpha():
        raise ArchiveFault("A104", where)
    parts = tuple(path.split("/"))
    if any(part in ("", ".", "..") for part in parts) or ".." in path.split("\\"):
        raise ArchiveFault("A102", where)
    if (
        length > limits.path_bytes
        or len(parts) > limits.depth
        or any(len(p.encode()) > limits.name_bytes for p in parts)
    ):
        raise ArchiveFault("A118", where)
    for part in parts:
        if part.endswith((".", " ")) or part.startswith(" "):
            raise ArchiveFault("A115", where)
        if _FORBIDDEN & set(part):
            raise ArchiveFault("A117", where)
        if part.split(".")[0].rstrip().casefold() in _RESERVED:
            raise ArchiveFault("A113", where)
    return parts


def check_members(members: Iterable[Member], limits: Limits | None = None) -> str:
    """Judge all members of an archive; returns the name of its one top folder.

    Raises:
        ArchiveFault: the first rule that is broken.
    """
    limits = limits or Limits()
    seen: dict[str, tuple[str, str]] = {}  # as a case-blind file system sees it: the path as written, and its kind
    tops: set[str] = set()
    total = 0
    top_is_folder = True
    for count, member in enumerate(members, 1):
        if count > limits.members:
            raise ArchiveFault("A120", detail=f"more than {limits.members}")
        path = member.path[:-1] if member.kind == "folder" and member.path.endswith("/") else member.path
        parts = check_path(path, limits)
        if member.kind in _KINDS:
            raise ArchiveFault(_KINDS[member.kind], shown(path))
        total += max(0, member.size)
        if member.size < 0 or total > limits.total_bytes:
            raise ArchiveFault("A121", shown(path), detail=f"more than {limits.total_bytes >> 20} MiB")
        tops.add(parts[0])
        top_is_folder = top_is_folder and (len(parts) > 1 or member.kind == "folder")
        _remember(seen, parts, member.kind)
    if len(tops) != 1 or not top_is_folder:
        raise ArchiveFault("A119", detail=f"{len(tops)} at the top" if len(tops) != 1 else "a file lies at the top")
    return next(iter(tops))


def _remember(seen: dict[str, tuple[str, str]], parts: tuple[str, ...], kind: str) -> None:
    """Note a path and the folders above it; a clash with what is noted breaks a rule."""
    for n in range(1, len(parts) + 1):
        path, last = "/".join(parts[:n]), n == len(parts)
        as_kind = kind if last else "folder"
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())
        known = seen.get(key)
        if known is None:
            seen[key] = (path, as_kind)
        elif known[0] != path:
            raise ArchiveFault(_clash(known[0], path), shown(path))
        elif known[1] != as_kind or (last and kind == "file"):
            raise ArchiveFault("A110", shown(path))


def _clash(one: str, other: str) -> str:
    """Which rule two different paths break that a forgiving file system takes for one."""
    same_form = unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other)
    return "A112" if same_form else "A111"

"""The key to an endpoint: from `QUANTCASE_API_KEY` or a file, never from the command line, which every user of the
machine can read (`ps`), and which shells keep in their history.
"""

from __future__ import annotations

import os
from pathlib import Path

from collector.errors import UsageFault

__all__ = ["VARIABLE", "from_file", "given"]

VARIABLE = "QUANTCASE_API_KEY"
_MOST_BYTES = 16 << 10


def given() -> str | None:
    """The key of the environment; None where there is none. Keys of other services are not looked for: they would be
    sent to a server that they do not belong to.

    Raises:
        UsageFault: it holds blanks or line breaks.
    """
    return _checked(os.environ.get(VARIABLE, ""), VARIABLE) or None


def from_file(path: Path | None) -> str | None:
    """The key in a file, which then stands in the environment of this process, too; without a file `given()`.

    Raises:
        UsageFault: the file cannot be read, is empty, or holds more than a key.
    """
    if path is None:
        return given()
    try:
        with path.open("rb") as f:
            raw = f.read(_MOST_BYTES + 1)
        text = raw.decode("ascii").strip()
    except OSError as e:
        raise UsageFault(
            f"--api-key-file {path.name}: {e.strerror or e}", fix="a file with the key and no more"
        ) from None
    except UnicodeDecodeError:
        raise UsageFault(f"--api-key-file {path.name} is no text", fix="a file with the key and no more") from None
    if not text or len(raw) > _MOST_BYTES:
        raise UsageFault(f"--api-key-file {path.name} holds no key", fix="a file with the key and no more")
    os.environ[VARIABLE] = _checked(text, f"--api-key-file {path.name}")
    return os.environ[VARIABLE]


def _checked(key: str, where: str) -> str:
    key = key.strip()
    if any(not 33 <= ord(c) <= 126 for c in key):  # it goes into a header
        raise UsageFault(f"{where} holds blanks or other characters that no key has", fix="give the key and no more")
    return key

"""Whether what is installed may be used: the licence of every installed package against a list of allowed ones.

`python -m tools.licences [LOCK]` looks at the packages that LOCK pins (requirements.lock) and that are installed here.
It reads their own metadata: `License-Expression` (PEP 639), else the classifiers (`License ::`), else the first line of
`License`. A package that says nothing is a finding: look it up, and write it into `LOOKED_UP` with its source.

Exit codes: 0 all allowed; 1 one line per finding.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path

__all__ = ["ALLOWED", "LOOKED_UP", "allowed", "findings", "licence", "pinned"]

# SPDX ids that an Apache-2.0 project may depend on. Weak copyleft of a package that is installed beside, not copied,
# asks nothing of us; GPL and AGPL would of whoever passes the whole on.
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Artistic-1.0-Perl", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "EPL-2.0", "HPND", "ISC", "LGPL-2.1-or-later", "LGPL-3.0-or-later",
    "LGPL-3.0-only", "MIT", "MIT-0", "MIT-CMU", "MPL-1.1", "MPL-2.0", "NCSA", "PSF-2.0", "Python-2.0", "Unlicense",
    "Zlib", "ZPL-2.1",
}  # fmt: skip

# What older metadata says, as SPDX: classifiers by their last part, and free words.
_WORDS = {
    "academic free license (afl)": "AFL-3.0",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd-3-clause license": "BSD-3-Clause",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.1-or-later",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0-or-later",
    "historical permission notice and disclaimer (hpnd)": "HPND",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "the mit license": "MIT",
    "mit no attribution license (mit-0)": "MIT-0",
    "mozilla public license 1.1 (mpl 1.1)": "MPL-1.1",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "new bsd license": "BSD-3-Clause",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "zope public license": "ZPL-2.1",
}

# Packages whose metadata names no licence, or not all of one: what their own repository says.
LOOKED_UP = {
    # Its classifiers name three without saying that one may choose; README: "GPL 2.0+/LGPL 2.1+/MPL 1.1 tri-license".
    "pyphen": "GPL-2.0-or-later OR LGPL-2.1-or-later OR MPL-1.1",
    # Of frictionless, in the tests alone. README: "under the terms of either" the Artistic License or the GPL.
    "text-unidecode": "Artistic-1.0-Perl OR GPL-1.0-or-later",
}
_NO_LICENCE = {"OSI Approved", "DFSG approved"}  # classifiers that praise a licence instead of naming it

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==")


def pinned(lock: str) -> list[str]:
    """Names of the packages that a lock file pins, with hashes or without."""
    return [m[1] for line in lock.splitlines() if (m := _PIN.match(line))]


def licence(metadata: PackageMetadata) -> str:
    """The licence as an SPDX expression where it can be read as one, else as the package words it; empty for none."""
    name = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()
    if name in LOOKED_UP:
        return LOOKED_UP[name]
    if "License-Expression" in metadata:
        return metadata["License-Expression"].strip()
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    last = [words for c in classifiers if (words := c.rpartition("::")[2].strip()) not in _NO_LICENCE]
    if last:
        # Several classifiers may mean a choice or a sum: all of them have to be allowed.
        return " AND ".join(dict.fromkeys(_spdx(words) for words in last))
    stated = metadata["License"].strip() if "License" in metadata else ""
    return _spdx(stated.splitlines()[0].strip()) if stated else ""


def _spdx(words: str) -> str:
    return _WORDS.get(words.casefold(), words)


def allowed(expression: str) -> bool:
    """Whether an SPDX expression lets us: of `OR` one side, of `AND` and `;` all."""
    expression = expression.strip()
    while expression.startswith("(") and expression.endswith(")") and _closes_last(expression):
        expression = expression[1:-1].strip()
    for word, enough in ((r"OR", any), (r"AND", all)):
        parts = _split(expression, word)
        if len(parts) > 1:
            return enough(allowed(p) for p in parts)
    if "WITH" in expression.split():
        return expression in ALLOWED
    return _spdx(expression) in ALLOWED


def _closes_last(expression: str) -> bool:
    """Whether the first bracket is closed by the last."""
    depth = 0
    for at, c in enumerate(expression):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return at == len(expression) - 1
    return False


def _split(expression: str, word: str) -> list[str]:
    """The parts of an expression between a word that stands outside brackets."""
    parts: list[list[str]] = [[]]
    depth = 0
    for piece in re.findall(r"[()]|[^\s()]+", expression):
        depth += (piece == "(") - (piece == ")")
        if depth == 0 and piece.upper() == word:
            parts.append([])
        else:
            parts[-1].append(piece)
    return [" ".join(p).replace("( ", "(").replace(" )", ")") for p in parts]


def findings(names: Iterable[str]) -> list[str]:
    """One line for each installed package whose licence is not allowed or not stated. What is not installed here (other
    systems, other Pythons) is passed over.
    """
    found = []
    for name in names:
        try:
            metadata = distribution(name).metadata
        except PackageNotFoundError:
            continue
        said = licence(metadata)
        if not said:
            found.append(f"{name} {metadata['Version']}: states no licence; look it up and write it into LOOKED_UP")
        elif not allowed(said):
            found.append(f"{name} {metadata['Version']}: {said[:80]} is not on the list of allowed licences")
    return found


def main(argv: list[str]) -> int:
    """Prints the findings; returns the exit code."""
    lock = Path(argv[0] if argv else "requirements.lock")
    names = pinned(lock.read_text("utf-8"))
    found = findings(names)
    for line in found:
        sys.stdout.write(f"{line}\n")
    if not found:
        sys.stdout.write(f"licences of {len(names)} pinned packages: allowed where installed\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The licence check: expressions are read as SPDX means them, and what says nothing is a finding."""

from __future__ import annotations

from email.message import Message
from importlib.metadata import PackageMetadata
from pathlib import Path
from typing import cast

import pytest

from tools.licences import allowed, findings, licence, pinned


@pytest.mark.parametrize(
    ("expression", "may"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("Apache-2.0 AND GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND BSD-3-Clause", True),
        ("(MIT AND GPL-2.0-only) OR AGPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only WITH GCC-exception-3.1", False),
        ("BSD License", True),
        ("Proprietary", False),
    ],
)
def test_an_expression_is_read_as_spdx_means_it(expression: str, may: bool) -> None:
    assert allowed(expression) is may


def stated(**headers: str) -> str:
    made = Message()
    made["Name"] = "x"
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    return licence(cast(PackageMetadata, made))


def test_metadata_old_and_new() -> None:
    assert stated(License_Expression="MIT", License="other") == "MIT"
    assert stated(Classifier="License :: OSI Approved :: Apache Software License") == "Apache-2.0"
    assert stated(License="BSD 3-Clause\n\nCopyright ...") == "BSD-3-Clause"
    assert stated(Classifier="License :: OSI Approved") == ""


def test_the_packages_of_the_lock_are_read_with_hashes_or_without() -> None:
    assert pinned("a==1\nb-c==2 \\\n    --hash=sha256:00\n# d==3\n") == ["a", "b-c"]


def test_what_is_installed_may_be_used() -> None:
    assert findings(pinned(Path("requirements.lock").read_text())) == []

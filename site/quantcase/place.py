"""A place of bundles that fsspec can read: its URL, judged and told without secrets, and the way there.

Keys come from where each file system looks for them by itself: AWS's environment and ~/.aws, ~/.ssh and the agent,
fsspec's own configuration. A URL that holds one is refused, and no message repeats it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from collector.bundle.archive_rules import shown
from collector.bundle.arriving import one_line
from collector.bundle.read import QuantcaseError

__all__ = ["Place", "connect"]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}")
_QUERY = re.compile(r"(?<=\S)\?[^\s\"']*")
_SSH, _S3 = ("sftp", "ssh"), ("s3", "s3a")
_SECONDS = 20  # for a connection
_FORMS = "write s3://bucket/folder, sftp://host/folder or another URL that fsspec reads"
_KEYS = {
    "s3": "leave it out; keys come from AWS_PROFILE, ~/.aws or the machine's role",
    "sftp": "write sftp://user@host/folder; keys come from ~/.ssh or the agent",
}
_NO_KEY = "leave it out; keys come from the environment and from fsspec's configuration"


class Place(Struct, frozen=True):
    """A folder on a server; nothing secret in it."""

    scheme: str
    rest: str  # of the URL, with a user for SFTP

    @classmethod
    def of(cls, url: str) -> Place:
        """Read a URL.

        Raises:
            QuantcaseError: it cannot be read, chains file systems, or may hold a password, key or signature.
        """
        scheme, _, rest = url.partition("://")
        scheme, rest = scheme.lower(), rest.rstrip("/")
        if not _SCHEME.fullmatch(scheme) or not url.isprintable() or "::" in url:
            raise QuantcaseError("results: this URL cannot be read", fix=_FORMS)
        ssh = scheme in _SSH
        user, _, _ = rest.partition("@")
        if "@" in rest and not (ssh and rest.count("@") == 1 and re.fullmatch(r"[\w.-]+", user)):
            right = _KEYS["sftp"] if ssh else _KEYS["s3"] if scheme in _S3 else _NO_KEY
            raise QuantcaseError("results: a URL must not hold a password or a key", fix=right)
        if "?" in rest or "#" in rest:
            raise QuantcaseError("results: a URL must not hold ? or #", fix="a signed link is a secret too")
        try:
            parts = urlsplit(f"{scheme}://{rest}")
            port = parts.port
        except ValueError:
            raise QuantcaseError("results: this URL cannot be read", fix=_FORMS) from None
        if ".." in parts.path.split("/"):
            raise QuantcaseError("results: a URL must not climb with ..", fix="name the folder itself")
        here = scheme in ("file", "local")
        wrong = bool(parts.netloc) if here else scheme in _S3 and port is not None
        if not rest or wrong or (here and not parts.path) or (ssh and not (parts.hostname and parts.path)):
            raise QuantcaseError(f"results: {shown(scheme)}:// with these parts is no folder", fix=_FORMS)
        return cls(scheme, rest)

    def __str__(self) -> str:
        """The place as messages name it."""
        return f"{self.scheme}://{shown(self.rest.rpartition('@')[2])}"

    @contextmanager
    def told(self) -> Iterator[None]:
        """What goes wrong on the way in one line without secrets; a file that is missing is left to the caller."""
        try:
            yield
        except (QuantcaseError, FileNotFoundError):
            raise
        except Exception as e:  # noqa: BLE001 - every file system has errors of its own
            said = _QUERY.sub("", one_line(e))
            fix = "what has arrived stays, and the next build goes on"
            if "HostKey" in type(e).__name__ or "host key" in said.lower():
                fix = "connect once with `ssh` and compare the key that it shows"
            elif "Permission" in type(e).__name__ or "redential" in said:
                fix = "docs/guide/publish.md says where keys come from"
            raise QuantcaseError(f"{self}: {said}", fix=fix) from None


def connect(where: Place) -> tuple[Any, str]:
    """The file system of a place, and the path of its folder there.

    Raises:
        QuantcaseError: the extra is not installed, fsspec knows no such place, or nobody answers.
    """
    s3, ssh = where.scheme in _S3, where.scheme in _SSH
    options: dict[str, Any] = {"skip_instance_cache": True}
    if s3:
        options["use_listings_cache"] = False
    elif ssh:  # sshfs's own default is to trust any host
        options |= {"known_hosts": (), "connect_timeout": _SECONDS}
    try:
        import fsspec

        if s3 or ssh:  # without sshfs, fsspec would take a client that trusts any host
            importlib.import_module("s3fs" if s3 else "sshfs")
        fsspec.get_filesystem_class(where.scheme)
    except ImportError as e:
        extra = "carry-s3" if s3 else "carry"
        what = f"{where}: reading results there needs {e.name}" if e.name else f"{where}: {one_line(e)}"
        raise QuantcaseError(what, fix=f"pip install 'quantcase[{extra}]'") from None
    except ValueError:
        raise QuantcaseError(f"{where}: fsspec knows no {where.scheme}://", fix=_FORMS) from None
    with where.told():
        files, root = fsspec.url_to_fs(f"{where.scheme}://{where.rest}", **options)
    return files, str(root)

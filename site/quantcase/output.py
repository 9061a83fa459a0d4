"""One file of the site, as the generator hands it to whoever writes sites."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from collector.bundle.read import QuantcaseError

__all__ = ["Output", "Slice"]


@dataclass(frozen=True)
class Slice:
    """Where a made file lies in an entry of the cache. `owner` keeps a temporary cache alive while it is needed."""

    path: Path
    offset: int
    length: int
    text: bool
    seal: bytes  # hash of the whole entry
    owner: object = None

    def read(self) -> str | bytes:
        """The content.

        Raises:
            QuantcaseError: somebody removed or changed the entry after it was found whole.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = zlib.decompress(file.read(self.length))
        except (OSError, zlib.error) as e:
            raise QuantcaseError(f"{self.path} was changed during the build: {e}", fix="build again") from None
        return data.decode("utf-8") if self.text else data


@dataclass(frozen=True)
class Output:
    """One file of the site: `content` is text or bytes, `source` names a file to be copied, `kept` a place on disk."""

    uri: str
    content: str | bytes | None = None
    source: Path | None = None
    title: str = ""  # of a page that belongs into the navigation
    kept: Slice | None = None

    def made_from(self) -> object:
        """What tells a changed file from the same one again, without reading it."""
        if self.kept is not None:
            return self.kept.seal, self.kept.offset  # not its path: two entries that do not last share one
        if self.source is not None:
            found = self.source.stat()
            return found.st_size, found.st_mtime_ns
        return self.content

    def data(self) -> str | bytes:
        """The content, read from the disk when it is not held."""
        if self.content is not None:
            return self.content
        if self.kept is not None:
            return self.kept.read()
        if self.source is None:
            raise ValueError(f"{self.uri} has neither content nor source")
        return self.source.read_bytes()

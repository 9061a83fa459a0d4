"""Where a bundle's figures come from, grade by grade: how they were taken, how the files came here, how to do it again.

Everything is read from the bundle: its grade, imported.json with the tool and its version, the files of format 0 that a
migration kept, redacted.json. What none of them states is said to be missing.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from collector.bundle.imported import ImportedDocument, ImportedSource, read_document
from collector.bundle.read import Bundle
from collector.bundle.redaction import read_redacted
from quantcase.catalog import Case
from quantcase.text import counted, text

__all__ = ["Origin", "again", "commands", "method", "of"]

_FORMAT_0 = "format-0/"  # where a migration keeps the old files
_COMMANDS = ("command", "command_line", "cli_command", "argv")  # facts of a tool's file that are its own command
_PLAIN_OPTIONS = {
    "gpu": "--gpu", "base_model": "--base-model", "study": "--study", "title": "--title", "workload": "--workload",
    "engine": "--engine", "engine_version": "--engine-version", "weights": "--weights",
}  # fmt: skip

Way = Literal["measured", "simulated", "imported", "migrated", "published"]


@dataclass(frozen=True)
class Origin:
    """How the figures of a case came to be; `document` is that of an imported or migrated one."""

    way: Way
    document: ImportedDocument | None

    @property
    def ours(self) -> bool:
        """Whether this collector sent the requests."""
        return self.way in ("measured", "simulated")


def of(case: Case) -> Origin:
    """The way by which the figures of this bundle came here."""
    grade = case.bundle.info.grade
    document = read_document(case.bundle.folder) if grade == "imported" else None
    if grade == "imported":
        old = any(r.path.startswith(_FORMAT_0) for r in case.bundle.manifest.resources)
        return Origin("migrated" if old else "imported", document)
    return Origin("published" if grade == "published" else "simulated" if grade == "simulated" else "measured", None)


def method(case: Case) -> str:
    """How the requests were made, in safe text without markup: what this collector did, or that it did nothing."""
    found, info = of(case), case.bundle.info
    collector = f"collector {text(info.collector_version)}"
    if found.way == "published":
        return (
            "These figures were published by their source, named in the bundle&#39;s notes; nothing was measured by "
            "this collector."
        )
    if found.way in ("imported", "migrated"):
        how = (
            f"Brought forward from files of format 0 by {collector}"
            if found.way == "migrated"
            else f"Read by {collector} from files of {_tools(found)}"
        )
        return (
            f"{how}, which sent no request itself. Which prompts were sent, in which order, after what warm-up and "
            "with which arguments of the server is as those files say, and otherwise not known."
        )
    variants = [v.name for v in case.study.variants]
    words = "Same harness, same prompts, same shared arguments for every variant; " if len(variants) > 1 else ""
    repeats = f"{counted(case.study.repeats, 'repeat')} of each load point"
    starts = f" and server start, over {counted(case.study.starts, 'start')} a variant" if case.study.starts > 1 else ""
    said = f"{words}{repeats}{starts} after a warm-up with other prompts."
    said = said[0].upper() + said[1:]
    if found.way == "simulated":
        return f"{said} The server was a replay of recorded timings: nothing was measured."
    return said


def commands(case: Case) -> list[str]:
    """Command lines that lead to this bundle again, as plain text; none where no command of ours made it."""
    found, home, info = of(case), f"results/{case.id}", case.bundle.info
    gpu = shlex.quote(info.gpu)
    made: list[str] = []
    if found.ours and info.status == "interrupted":
        made = [f"collect run --resume {home}"]
    elif found.ours:
        made = [f"collect run {home}/study.toml --gpu {gpu}"]
    elif found.way == "migrated":
        baseline = shlex.quote(case.baseline)
        made = [f"collect migrate {home}/format-0 --out migrated --gpu {gpu} --baseline {baseline}"]
    elif found.document is not None:
        made = [_import(case, tool, found.document) for tool in dict.fromkeys(s.tool for s in found.document.sources)]
    return [*made, f"collect check {home}"]


def again(case: Case) -> str:
    """The end of the data page, as HTML: how the files came here, and how to have the same again."""
    found = of(case)
    lines = ["<pre>" + "\n".join(text(line) for line in [*commands(case), "mkdocs build"]) + "</pre>"]
    if found.ours and case.bundle.info.status == "interrupted":
        lines.insert(0, "<p>The run is not finished. These lines finish it on the same kind of machine:</p>")
    elif found.way == "measured":
        lines.insert(
            0,
            "<p>The study as it was run lies in the bundle. These lines run and check it again (options that are no "
            "keys of a study, such as --stress or --side-by-side, are not in it):</p>",
        )
    elif found.way == "simulated":
        lines.insert(0, "<p>A replay of recorded timings. These lines replay and check it again:</p>")
    elif found.way == "published":
        lines.insert(
            0,
            "<p>No command of this collector made these figures: somebody published them, and notes.md names the "
            "source. The files were written from that text. What can be done here is to check them:</p>",
        )
    else:
        lines = [_came(found, case.bundle), *lines, *_measured_by(found)]
    if (taken := read_redacted(case.bundle.folder)) is not None:
        lines.append(
            f"<p>This bundle is a copy, from which was taken out: {text('; '.join(taken.taken))}. Who has the whole "
            f"bundle finds it by its manifest&#39;s sha256, {text(taken.source_manifest_sha256)}.</p>"
        )
    return "\n".join(lines)


def _came(found: Origin, bundle: Bundle) -> str:
    collector = text(bundle.info.collector_version)
    sources = found.document.sources if found.document else []
    names = list(dict.fromkeys(f.name for s in sources for f in s.files))
    files = f"{text(', '.join(names[:8]))}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
    if found.way == "migrated":
        words = (
            f"These figures are older than the bundle. Collector {collector} brought {files} forward from format 0; "
            "the old files lie unchanged, but for secrets, in format-0/ of the bundle. To bring them forward again:"
        )
    else:
        words = (
            f"Another tool measured this: {_tools(found)}. Collector {collector} read {files}; where each file and "
            "its sha256 stand is above. With those files at hand, these lines read and check them again (options "
            "for one tool alone, such as --columns or --first-chunk, are not recorded):"
        )
    return f"<p>{words}</p>"


def _measured_by(found: Origin) -> list[str]:
    """The other tool's own command, where its files hold it."""
    lines = []
    for source in found.document.sources if found.document else []:
        known = next((source.facts[k] for k in _COMMANDS if source.facts.get(k)), "")
        who = f"{text(source.tool)} for {text(', '.join(source.variants))}"
        if known:
            lines.append(f"<p>The command of {who}, as its file states it:</p><pre>{text(known)}</pre>")
        else:
            lines.append(f"<p>The command that ran {who} does not stand in its files.</p>")
    return lines


def _tools(found: Origin) -> str:
    sources = found.document.sources if found.document else []
    return " and ".join(dict.fromkeys(map(_named, sources))) or "another tool"


def _named(source: ImportedSource) -> str:
    return f"{text(source.tool)} ({text(source.tool_version) if source.tool_version else 'version not stated'})"


def _import(case: Case, tool: str, document: ImportedDocument) -> str:
    """`collect import` as the bundle lets one write it."""
    words = ["collect", "import", tool]
    for source in (s for s in document.sources if s.tool == tool):
        owner = case.baseline if case.baseline in source.variants else "".join(source.variants[:1])
        files = [f.name for f in source.files]
        words += files if owner == case.baseline else [w for f in files for w in ("--variant", f"{owner}={f}")]
    words += ["--baseline", case.baseline]
    for key, option in _PLAIN_OPTIONS.items():
        value = document.said.get(key, "")
        if value and (key, value) not in (("weights", "real"), ("workload", "imported"), ("study", "imported")):
            words += [option, value]
    given = {"models": "model", "methods": "method", "bits": "bits", "kv_dtypes": "kv_dtype"}
    for key, column in given.items():
        if key in document.said:
            option = f"--{column.replace('_', '-')}"
            each = [(v.name, getattr(v, column)) for v in case.study.variants]
            words += [w for name, value in each if value is not None for w in (option, f"{name}={value}")]
    return " ".join(map(shlex.quote, words))

"""`collect import`: what a person says on the command line, and one line about what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from collector import gpus
from collector.bundle.imported import ImportedDocument, read_document
from collector.errors import UsageFault
from collector.importers.base import IMPORTERS, Hints, get
from collector.importers.form import Said
from collector.importers.store import Read, failures, unpaired, write_bundle

__all__ = ["import_results"]

_folder = click.Path(file_okay=False, path_type=Path)
_file = click.Path(exists=True, path_type=Path)


@click.command("import")
@click.argument("tool", metavar="TOOL", type=click.Choice(list(IMPORTERS)))
@click.argument("files", nargs=-1, type=_file, metavar="[FILE]...")
@click.option("--variant", "named", multiple=True, metavar="NAME=FILE", help="A file of this variant; may be repeated.")
@click.option("--baseline", required=True, metavar="NAME", help="The variant others are compared with; owns FILE...")
@click.option("--gpu", required=True, help="GPU profile that it ran on; see `collect gpus`.")
@click.option("--base-model", default="", help="The model that was quantized; default: as the baseline's file says.")
@click.option("--model", "models", multiple=True, metavar="NAME=MODEL", help="A variant's checkpoint.")
@click.option("--method", "methods", multiple=True, metavar="NAME=METHOD", help="Its quantization: fp8, awq, ...")
@click.option("--bits", multiple=True, metavar="NAME=BITS", help="Its bits per weight.")
@click.option("--kv-dtype", "kv_dtypes", multiple=True, metavar="NAME=TYPE", help="Its KV cache data type.")
@click.option("--engine", default="", help="Engine that served: vllm, llamacpp, ...")
@click.option("--engine-version", default="", help="Its version.")
@click.option("--weights", type=click.Choice(["real", "dummy"]), default="real", show_default=True, help="Weights.")
@click.option("--workload", default="imported", show_default=True, help="Name of the workload that was run.")
@click.option("--study", default="imported", show_default=True, help="Name of the study, in the bundle's name.")
@click.option("--title", default="", help="Title of the case.")
@click.option("--load", default="", metavar="LOAD", help="Load point where the files do not say: c16 or r2.5.")
@click.option(
    "--first-chunk",
    type=click.Choice(["auto", "content", "role"]),
    default="auto",
    show_default=True,
    help="vllm-bench, chat: what the server's first chunk holds.",
)
@click.option("--columns", default="", metavar="TOML", help="csv: a file that says what the columns mean.")
@click.option("--out", type=_folder, default=Path("results"), show_default=True, help="Folder for bundles.")
def import_results(
    tool: str,
    files: Sequence[Path],
    named: Sequence[str],
    baseline: str,
    gpu: str,
    base_model: str,
    models: Sequence[str],
    methods: Sequence[str],
    bits: Sequence[str],
    kv_dtypes: Sequence[str],
    engine: str,
    engine_version: str,
    weights: str,
    workload: str,
    study: str,
    title: str,
    load: str,
    first_chunk: str,
    columns: str,
    out: Path,
) -> None:
    """Other tools' result files as a bundle of grade `imported`.

    TOOL is one of vllm-bench, guidellm, aiperf, llama-bench, locust, lm-eval,
    csv. What the files do not say (the GPU, the quantization) you say here.
    """
    by_variant: dict[str, list[Path]] = {}
    if files:
        by_variant[""] = list(files)
    for option in named:
        name, path = _pair(option, "--variant", "NAME=FILE")
        if not Path(path).exists():
            raise UsageFault(f"--variant {name}: {path} is not there", fix="name the tool's result file")
        by_variant.setdefault(name, []).append(Path(path))
    if not by_variant:
        raise UsageFault("no file is named", fix="collect import TOOL FILE --baseline NAME --gpu NAME")
    if "" in by_variant and baseline in by_variant:
        raise UsageFault(f"files without a name belong to the baseline, {baseline}, which has files", fix="name all")
    importer, hints = get(tool), Hints(first_chunk=first_chunk, load=load, columns=columns)
    reads = [Read(variant=v, imported=importer.read(paths, hints)) for v, paths in by_variant.items()]
    first = next((r for r in reads if r.variant in ("", baseline)), reads[0])
    labelled = first.imported.models.get(baseline.removeprefix(f"{first.variant}-"))
    if not (base_model := base_model or first.imported.model or (labelled.name if labelled else "")):
        raise UsageFault("the files do not name the model", fix="say it: --base-model")
    said = Said(
        gpu=gpus.get(gpu).name,
        baseline=baseline,
        base_model=base_model,
        study=study,
        title=title,
        workload=workload,
        engine=engine,
        engine_version=engine_version,
        weights="dummy" if weights == "dummy" else "real",
        models=dict(_pair(o, "--model", "NAME=MODEL") for o in models),
        methods=dict(_pair(o, "--method", "NAME=METHOD") for o in methods),
        bits={name: _number(value, name) for name, value in (_pair(o, "--bits", "NAME=4.5") for o in bits)},
        kv_dtypes=dict(_pair(o, "--kv-dtype", "NAME=fp8") for o in kv_dtypes),
    )
    folder = write_bundle(reads, out, said)
    document = read_document(folder)
    for line in unpaired(reads, said).values():
        click.echo(f"warning: {line}", err=True)
    if document is not None:
        _tell(document)
    click.echo(f"wrote {folder}")


def _tell(document: ImportedDocument) -> None:
    """Failed requests first, then what is missing and what was done."""
    for line in failures(document):
        click.echo(f"warning: {line}", err=True)
    for source in document.sources:
        click.echo(f"{', '.join(source.variants)}: {source.tool} {source.tool_version or '(version not stated)'}")
        for word, sentences in (("missing", source.missing), ("note", source.notes)):
            for sentence in sentences:
                click.echo(f"  {word}: {sentence}")


def _pair(option: str, name: str, form: str) -> tuple[str, str]:
    left, equals, right = option.partition("=")
    if not (left and equals and right):
        raise UsageFault(f"{name} {option[:80]} is not of the form {form}", fix=f"{name} {form}")
    return left, right


def _number(value: str, name: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = 0.0
    if not 0 < found <= 64:
        raise UsageFault(f"--bits {name}={value[:20]} is no number of bits", fix=f"--bits {name}=4.5")
    return found

"""FLEET.toml: which studies are measured on which boxes. TOML in, typed objects out, as strict as a study."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from collector import cards, gpus
from collector import study as studies
from collector.bundle.door import clean_study
from collector.errors import UsageFault
from collector.gpus import GpuProfile
from collector.prepare import priced, share
from collector.probes.redact import REMOVED
from collector.strict_toml import strict
from collector.study import EngineSpec, Price, Slug, Study, Variant

__all__ = ["Asked", "Fleet", "FleetRun", "asked", "load", "loads", "with_secrets"]

_HELP = "docs/guide/fleet.md"


class FleetRun(Struct, kw_only=True, forbid_unknown_fields=True):
    """One study on one type of GPU."""

    gpu: str  # a GPU profile, as of `collect gpus`
    study: str = ""  # a ready study, or a path beside FLEET.toml; empty: the profile's own
    boxes: Annotated[int, Meta(ge=1, le=64)] = 1  # machines that measure the whole study, each into its own bundle
    ray_type: str = ""  # only boxes with this accelerator_type (or this custom resource) of Ray
    price: Price | None = None  # instead of the study's and the profile's: an hour of one GPU of that box
    until_precise: str = ""  # extra rounds until every ratio to the baseline is known to this share: "3%"
    side_by_side: bool = False  # several variants at once on GPUs of their own, where a trial allows it
    stress: bool = False  # last of all push each variant until it breaks

    @property
    def precision(self) -> float | None:
        """`until_precise` as a share. Raises UsageFault for one that is none."""
        return share(self.until_precise) if self.until_precise else None


class Fleet(Struct, kw_only=True, forbid_unknown_fields=True):
    """Field names are the keys of the file."""

    id: Slug
    title: str
    runs: Annotated[list[FleetRun], Meta(min_length=1, max_length=64)]


class Asked(Struct, frozen=True):
    """A run with what its names stand for."""

    run: FleetRun
    profile: GpuProfile
    study: Study  # on that profile, with its price


def load(path: Path) -> tuple[Fleet, list[Asked]]:
    """Read and check a fleet's file and the studies that it names.

    Raises:
        UsageFault: no such file, not TOML, an unknown key, GPU or study, or a contradiction.
    """
    if not path.is_file():
        raise UsageFault(f"no fleet file {path}", fix=f"see {_HELP}")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise UsageFault(f"{path.name} is not UTF-8 text", fix="save it as UTF-8") from None
    fleet = loads(text, path.name)
    return fleet, asked(fleet, path.name, path.parent)


def loads(text: str, where: str = "fleet") -> Fleet:
    """Check the TOML text alone. `where` names it in errors."""
    return strict(text, Fleet, where, see=_HELP)


def asked(fleet: Fleet, where: str, beside: Path) -> list[Asked]:
    """Profiles and studies behind the names. A study's path is looked for beside the fleet's file.

    Raises:
        UsageFault: a name stands for nothing, or a study that no fleet can measure.
    """
    found: list[Asked] = []
    for number, run in enumerate(fleet.runs):
        at = f"{where}: runs[{number}]"
        profile = gpus.get(run.gpu)
        name = run.study or profile.study
        local = beside / name
        study = studies.load(str(local) if name not in studies.ready_studies() and local.is_file() else name)
        if study.engine.name == "endpoint":
            raise UsageFault(f"{at}: study {study.id} measures an endpoint, which is on no box", fix="`collect run`")
        _no_secret_arguments(study, at)
        cards.check_parallel(study)
        _possible(run, profile, study, at)
        study = priced(study, profile)
        if run.price is not None:
            study = msgspec.structs.replace(study, price=run.price)
        for earlier in found:
            if (earlier.profile.name, earlier.study.id) == (profile.name, study.id):
                raise UsageFault(f"{at}: {profile.name} measures {study.id} already", fix="raise its `boxes` instead")
        found.append(Asked(run, profile, study))
    return found


def with_secrets(study: Study, where: str) -> Study:
    """A study that was written down without its secrets, with those of this environment.

    Raises:
        UsageFault: one is not in the environment.
    """
    parts: list[tuple[EngineSpec | Variant, str]] = [(study.engine, "engine")]
    for part, name in [*parts, *((v, f"variant {v.name}") for v in study.variants)]:
        for key in [k for k, value in part.env.items() if REMOVED in value]:
            if key not in os.environ:
                raise UsageFault(
                    f"{where}: {key} of {name} was taken out as a secret", fix=f"set {key} in the environment"
                )
            part.env[key] = os.environ[key]
    return study


def _possible(run: FleetRun, profile: GpuProfile, study: Study, at: str) -> None:
    """What is asked for beyond the study can be had."""
    try:
        _ = run.precision
    except UsageFault:
        raise UsageFault(
            f'{at}: until_precise = "{run.until_precise}" is no share', fix='for example until_precise = "3%"'
        ) from None
    if run.until_precise and len(study.variants) < 2:
        raise UsageFault(f"{at}: study {study.id} has the baseline alone: no ratio", fix="leave out until_precise")
    if not run.side_by_side:
        return
    if profile.kind == "cpu":
        raise UsageFault(f"{at}: side_by_side needs GPUs, {profile.name} has none", fix="leave it out")
    for key, values in _secrets(study).items():
        if len(values) > 1:
            raise UsageFault(
                f"{at}: variants that stand side by side have different values of the secret {key}",
                fix="one value for all, or leave out side_by_side",
            )


def _secrets(study: Study) -> dict[str, set[str]]:
    """Secret environment variables with all values that variants of the study have."""
    clean = clean_study(study)
    written = [clean.engine.env, *(v.env for v in clean.variants)]
    names = {key for env in written for key, value in env.items() if REMOVED in value}
    servers = [{**study.engine.env, **v.env} for v in study.variants]
    return {name: {env[name] for env in servers if name in env} for name in sorted(names)}


def _no_secret_arguments(study: Study, at: str) -> None:
    """A bundle is gone on with from what stands in it, where a secret argument does not."""
    clean = clean_study(study)
    before, after = ([s.engine.args, *(v.args for v in s.variants)] for s in (study, clean))
    for given, left in zip(before, after, strict=True):
        if given != left and any(REMOVED in a for a in left):
            fix = "give such things through the environment (VLLM_API_KEY, HF_TOKEN)"
            raise UsageFault(f"{at}: an argument in study {study.id} looks like a secret", fix=fix)

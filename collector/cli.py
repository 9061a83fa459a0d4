"""The `collect` command: thin, one function a command."""

from __future__ import annotations

import asyncio
import signal
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from collector import __version__
from collector.api_key import from_file
from collector.bundle.door import restored, warnings
from collector.bundle.read import open_bundle
from collector.bundle.seal import seal as seal_bundle
from collector.errors import QuantcaseError, UsageFault
from collector.study import EngineSpec, Study
from collector.study import load as load_study

__all__ = ["cli", "main"]

_out = Console(soft_wrap=False)


# Commands beside the run, loaded when they are asked for: a run on a rented box need not wait for them.
_BESIDE = {
    "fleet": "collector.fleet.command:fleet",
    "import": "collector.importers.command:import_results",
    "migrate": "collector.migrate_command:migrate",
    "pack": "collector.carry.commands:pack",
    "pull": "collector.carry.commands:pull",
    "push": "collector.carry.commands:push",
    "redact": "collector.redact_command:redact",
    "unpack": "collector.carry.commands:unpack",
}


class _Group(click.Group):
    """Commands of this package and those that other packages add (`collect.commands` entry points)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        added = (e.name for e in entry_points(group="collect.commands"))
        return sorted({*super().list_commands(ctx), *_BESIDE, *added})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        if cmd_name in _BESIDE:
            module, _, name = _BESIDE[cmd_name].partition(":")
            found: click.Command = getattr(import_module(module), name)
            return found
        for entry in entry_points(group="collect.commands"):
            if entry.name == cmd_name:
                try:
                    command = entry.load()
                except (
                    ImportError
                ) as e:  # the collector alone is installed: the command is listed, and says what it needs
                    return _missing(cmd_name, e.name or "a package")
                return command if isinstance(command, click.Command) else None
        return None


def _missing(name: str, package: str) -> click.Command:
    """Stands for a command whose packages are not installed."""

    def complain(**_: object) -> None:
        raise QuantcaseError(
            f"`collect {name}` needs the site's packages ({package} is missing)", fix="pip install 'quantcase[site]'"
        )

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=complain, context_settings=settings, short_help="Needs the extra `site`.")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="quantcase")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def cli(debug: bool) -> None:
    """Measure quantized against BF16 serving and write one result bundle."""


_gpu_option = click.option("--gpu", default="auto", show_default=True, help="GPU profile; see `collect gpus`.")
_folder = click.Path(file_okay=False, path_type=Path)


def _profile_and_study(gpu: str, study: str | None) -> tuple[Any, Study]:
    from collector import gpus

    if gpu == "auto":
        from collector.probes.nvml import Gpus

        with Gpus.open() as found:
            profiles = [p for card in found.cards if (p := gpus.recognise(card.name, card.vram_mib))]
            names = ", ".join(card.name for card in found.cards)
        if not profiles:
            raise QuantcaseError(
                f"--gpu auto knows no profile for {names}"
                if names
                else "--gpu auto found no NVIDIA GPU on this machine",
                fix="name a profile (`collect gpus`), or try `--gpu cpu`, which needs no GPU",
            )
        profile = profiles[0]
    else:
        profile = gpus.get(gpu)
    return profile, load_study(study or profile.study)


@cli.command()
@click.argument("study", required=False)
@_gpu_option
@click.option("--out", type=_folder, default=Path("results"), show_default=True, help="Folder for bundles.")
@click.option("--endpoint", metavar="URL", help="Measure a running OpenAI-compatible server.")
@click.option("--variant", "variants", multiple=True, metavar="V", help="Only this variant; may be given again.")
@click.option("--quick", is_flag=True, help="One short repeat a cell, to try things out.")
@click.option("--resume", type=_folder, metavar="BUNDLE", help="Finish an interrupted bundle.")
@click.option("--api-key-file", type=click.Path(dir_okay=False, path_type=Path), help="File with the endpoint's key.")
@click.option("--allow-other-gpu", is_flag=True, help="Measure on another GPU than the one named; both are recorded.")
@click.option("--gpus", metavar="0,1,...", help="GPUs of the box that may be used; all of the named kind otherwise.")
@click.option("--side-by-side", is_flag=True, help="Variants at once on GPUs of their own, if a trial allows it.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the engine; 0 takes a free one.")
@click.option("--repeats", type=click.IntRange(1), help="Repeats per server start, instead of the study's.")
@click.option("--starts", type=click.IntRange(1), help="Server starts per variant, instead of the study's.")
@click.option("--control", is_flag=True, help="Measure the baseline twice, as A and A: what differs is noise.")
@click.option("--until-precise", metavar="PCT", help="Go on until every ratio is known to this, e.g. 3%.")
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Stop cleanly, resumable, by then.")
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="The same, by the price per hour.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Processes that send, when one is the limit.")
@click.option("--stress", is_flag=True, help="Last of all push each variant until it breaks; write down how.")
@click.option("--quality-items", type=click.IntRange(1), help="Items of each suite that makes or cuts its own.")
@click.option("--no-quality", is_flag=True, help="Speed only: leave the study's quality suites out.")
@click.option("--predict", is_flag=True, help="Ask for your predictions first; the notes page judges them.")
def run(
    study: str | None,
    gpu: str,
    out: Path,
    endpoint: str | None,
    variants: tuple[str, ...],
    quick: bool,
    resume: Path | None,
    api_key_file: Path | None,
    allow_other_gpu: bool,
    gpus: str | None,
    side_by_side: bool,
    port: int,
    repeats: int | None,
    starts: int | None,
    control: bool,
    until_precise: str | None,
    max_minutes: float | None,
    max_usd: float | None,
    workers: int,
    stress: bool,
    quality_items: int | None,
    no_quality: bool,
    predict: bool,
) -> None:
    """Measure STUDY (default: the GPU's ready study) and write a bundle."""
    from collector import cards, prepare
    from collector import run as runs

    precise = prepare.share(until_precise) if until_precise else None
    if resume is not None:
        bundle = open_bundle(resume)
        if bundle.info.status == "complete":
            _out.print(f"{bundle.id} is complete already: nothing to do", markup=False)
            return
        from collector import gpus as profiles

        profile, wanted = profiles.get(bundle.info.gpu), restored(bundle.study(), f"{bundle.id}/study.toml")
    else:
        profile, wanted = _profile_and_study(gpu, study)
    prepare.check_names(wanted, variants)
    if endpoint:
        wanted = msgspec.structs.replace(wanted, engine=EngineSpec(name="endpoint", url=endpoint))
        if len(wanted.variants) > 1 and len(variants) != 1:
            known = ", ".join(v.name for v in wanted.variants)
            raise UsageFault(
                "--endpoint serves one variant, the study has several", fix=f"add --variant (one of {known})"
            )
    elif variants and resume is None:
        wanted = prepare.narrowed(wanted, variants)
    if resume is None:
        wanted = prepare.designed(wanted, quick=quick, repeats=repeats, starts=starts, control=control)
        wanted = prepare.asked(wanted, items=quality_items, none=no_quality)
    elif quick or control or repeats or starts or quality_items or no_quality or predict:
        raise UsageFault("a resumed bundle keeps its design", fix="leave out options that change what is measured")
    if side_by_side and (port or endpoint):
        raise UsageFault("--side-by-side starts several servers of its own", fix="leave out --port and --endpoint")
    if predict:
        from collector.predictions import ask

        answers = ask(lambda question: click.prompt(question, default="", show_default=False), wanted)
        wanted = msgspec.structs.replace(wanted, predictions=answers if answers.given else wanted.predictions)
    work = runs.Run(
        wanted,
        profile,
        out=out,
        resume=resume,
        only=variants if endpoint or resume else (),  # a new bundle was narrowed to them already
        port=port,
        max_minutes=max_minutes,
        max_usd=max_usd,
        until_precise=precise,
        workers=workers,
        stress=stress,
        allow_other_gpu=allow_other_gpu,
        gpus=cards.indices(gpus),
        side_by_side=side_by_side,
        api_key=from_file(api_key_file),
    )
    outcome = _run_until_stopped(work)
    for line in outcome.log_tail:
        click.echo(f"  log: {line}", err=True)
    problems = "; ".join(f"{name}: {why}" for name, why in outcome.failed.items())
    again = f"go on with: collect run --resume {outcome.folder}"
    if outcome.status == "complete":
        _out.print(f"\nbundle complete: {outcome.folder}", markup=False, soft_wrap=True)
        _out.print(f"ended because {outcome.ended_by}", markup=False, soft_wrap=True)
        if problems:
            _out.print(f"not measured, and recorded as such: {problems}", markup=False, soft_wrap=True)
        _out.print(f"next: collect show {outcome.folder}; mkdocs build", markup=False, soft_wrap=True)
    elif problems:
        raise QuantcaseError(f"failed: {problems}", fix=again)
    else:
        raise QuantcaseError("not finished", fix=again)


def _run_until_stopped(work: Any) -> Any:
    """Run it; Ctrl-C and TERM end the engine, close the bundle, and say how to go on."""

    import uvloop  # about a third of the client's CPU time less, and stamps that are less late: benchmarks/

    async def guarded() -> Any:
        task = asyncio.ensure_future(work.execute(_out))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(guarded())
    except (asyncio.CancelledError, KeyboardInterrupt):
        folder = work.folder
        tail = f"go on with: collect run --resume {folder}" if folder else "nothing was measured"
        raise QuantcaseError("interrupted", fix=tail) from None


@cli.command()
@click.argument("study", required=False)
@_gpu_option
@click.option("--stress", is_flag=True, help="Count the time of `collect run --stress`, too.")
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write the plan as FILE.md or FILE.html.")
@click.option("--force", is_flag=True, help="Write over the page when it is there.")
def plan(study: str | None, gpu: str, stress: bool, page: Path | None, force: bool) -> None:
    """What would run, what fits in VRAM, how long, at what cost."""
    from collector import plan as plans
    from collector import plan_page
    from collector.plan_table import plan_table

    if page is not None:
        plan_page.check(page, force=force)
    profile, wanted = _profile_and_study(gpu, study)
    wanted = plans.for_profile(wanted, profile)
    made = plans.plan(wanted, profile, stress=stress)
    _out.print(plan_table(made))
    if page is not None:
        plan_page.write(page, wanted, profile, made)
        _out.print(f"\npage: {page}", markup=False, soft_wrap=True)


@cli.command()
def gpus() -> None:
    """List the GPU profiles."""
    from collector.tables import gpu_table

    _out.print(gpu_table())


@cli.command()
def studies() -> None:
    """List the ready studies."""
    from collector.tables import study_table

    _out.print(study_table())


@cli.command()
@click.argument("study", required=False)
@_gpu_option
def doctor(study: str | None, gpu: str) -> None:
    """What on this machine would spoil a run, and the mend."""
    from collector import doctor as doctors

    try:
        profile, wanted = _profile_and_study(gpu, study)
    except UsageFault:
        raise
    except QuantcaseError:
        profile, wanted = None, None
    findings = doctors.diagnose(profile, wanted)
    _out.print(doctors.doctor_table(findings))
    if any(f.level == "error" for f in findings):
        raise QuantcaseError("this machine is not ready", fix="mend what is marked error above")


@cli.command()
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--baseline", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Log of the baseline.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def facts(log: Path, baseline: Path | None, as_json: bool) -> None:
    """What can be read off an engine's LOG, each fact with its line."""
    from collector.engines import facts as readings
    from collector.tables import facts_table

    found = readings.read_log(log.read_text("utf-8", "replace"))
    if baseline is not None:
        found = readings.judge(found, readings.read_log(baseline.read_text("utf-8", "replace")))
    if as_json:
        click.echo(readings.facts_json(found))
    else:
        _out.print(facts_table(readings.facts_lines(found)))


@cli.command()
@click.argument("bundle", type=_folder)
def show(bundle: Path) -> None:
    """The tables of BUNDLE in the terminal."""
    from collector.tables import bundle_view

    _out.print(bundle_view(open_bundle(bundle)))


@cli.command()
@click.argument("bundles", nargs=-1, type=_folder)
@click.option("--strict", is_flag=True, help="Warnings fail, too.")
@click.option("--allow-interrupted", "unfinished", is_flag=True, help="Unfinished runs do not fail.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.option("--rules", "list_rules", is_flag=True, help="List every rule; check nothing.")
def check(bundles: tuple[Path, ...], strict: bool, unfinished: bool, as_json: bool, list_rules: bool) -> None:
    """Hold BUNDLES against the rule book; exit 1 where one has errors or is not finished."""
    from collector.bundle import check_view
    from collector.bundle.check import outcome

    width = min(_out.width, 80) if _out.is_terminal else None
    if list_rules:
        click.echo(check_view.rules_json() if as_json else check_view.rules_text(width or 80))
        return
    if not bundles:
        raise click.UsageError("Missing argument 'BUNDLES...'.", ctx=click.get_current_context())
    found = [(folder, outcome(folder)) for folder in bundles]
    if as_json:
        click.echo(check_view.found_json(found, strict=strict, allow_interrupted=unfinished))
    else:
        click.echo("\n\n".join(check_view.found_text(folder, said, width) for folder, said in found))
    if not all(check_view.passes(said, strict=strict, allow_interrupted=unfinished) for _, said in found):
        sys.exit(1)


@cli.command()
@click.argument("bundle", type=_folder)
def seal(bundle: Path) -> None:
    """Take your own words (notes.md) into the manifest after you edited them."""
    changed = seal_bundle(bundle)
    click.echo(f"sealed: {', '.join(changed)}" if changed else "nothing had changed")
    for line in warnings(bundle):
        click.echo(f"WARNING {line}")


def main(argv: list[str] | None = None) -> None:
    """Entry point: prints an error in one line and exits with its code; a traceback only with --debug."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        cli.main(args=arguments, prog_name="collect", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(1)
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except click.UsageError as e:
        if type(e).__name__ == "NoArgsIsHelpError":  # a bare `collect`, in click from 8.2 on: the help is no error
            click.echo(e.format_message(), err=True)
            sys.exit(2)
        where = e.ctx.command_path if e.ctx else "collect"
        _fail(f"{e.format_message()} See `{where} --help`", 2)
    except click.ClickException as e:
        _fail(e.format_message(), 2)
    except QuantcaseError as e:
        if "--debug" in arguments:
            raise
        Console(stderr=True).print(
            f"[red]error:[/red] {escape(' '.join(str(e).split()))}", highlight=False, soft_wrap=True
        )
        sys.exit(e.exit_code)
    except OSError as e:
        if "--debug" in arguments:
            raise
        _fail(f"{e.strerror or e}: {e.filename or ''}".rstrip(": "), 1)


def _fail(problem: str, code: int) -> NoReturn:
    """One line on stderr, whatever the problem's text holds."""
    line = " ".join(problem.split())
    Console(stderr=True).print(f"[red]error:[/red] {escape(line)}", highlight=False, soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""`collect publish-cards`: the model cards of a bundle to the Hugging Face Hub. Nothing leaves without `--upload`.

A card goes into a repository that exists and holds the weights: none is made here, because a card without its model
helps nobody. The token is read from the environment alone, and never printed.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import click

from collector.bundle.check import check_bundle
from collector.bundle.read import QuantcaseError, open_bundle
from quantcase.analysis.card import Card, card, front_matter, hub_id
from quantcase.catalog import Case
from quantcase.pages import cards
from quantcase.pages.view import CaseView, Options

__all__ = ["TOKEN", "publish_cards", "refusal", "repository"]

TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name, as the Hub's own tools have it
_PLACE = "ORG/NAME"


@click.command("publish-cards")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--variant", "chosen", multiple=True, help="Only this variant; may be given again.")
@click.option("--repo-prefix", default="", help="ORG/NAME: the card of variant V goes to the repository ORG/NAME-V.")
@click.option("--upload", is_flag=True, help="Upload. Without it, only what would go where is shown.")
def publish_cards(bundle: Path, chosen: tuple[str, ...], repo_prefix: str, upload: bool) -> None:
    """Show the model cards of BUNDLE as they would go to the Hugging Face Hub, or upload them."""
    if upload and not repo_prefix:
        raise click.UsageError("--upload needs --repo-prefix ORG/NAME.")
    if repo_prefix and hub_id(repo_prefix) is None:
        raise click.UsageError(f"--repo-prefix {repo_prefix!r} is not of the form ORG/NAME.")
    opened = open_bundle(bundle)
    view = CaseView(Case(opened, opened.study(), check_bundle(opened)), Options())
    made = [(c, cards.readme(view, c.variant.name)) for c in _chosen(view, chosen)]
    places = [repository(repo_prefix or _PLACE, c.variant.name) for c, _ in made]
    refused = refusal(view.case)
    if not upload:
        for place, (found, words) in zip(places, made, strict=True):
            _show(place, found, words)
        click.echo(_last_line(refused, repo_prefix))
        return
    if refused:
        raise QuantcaseError(f"nothing is uploaded: {refused}", fix="publish the card of a real measurement")
    hub, token = _hub()
    for place, (found, words) in zip(places, made, strict=True):
        click.echo(f"uploaded: {_upload(hub, token, place, found, words)}")


def repository(prefix: str, variant: str) -> str:
    """The repository of a variant's card.

    Raises:
        QuantcaseError: the Hub takes no such name.
    """
    place = f"{prefix}-{variant}"
    if hub_id(place) is None:
        raise QuantcaseError(
            f"{place} is no name that the Hub takes", fix="at most 96 letters, digits, . _ -, and neither -- nor .."
        )
    return place


def refusal(case: Case) -> str:
    """Why the cards of a case are not uploaded; empty where nothing speaks against it."""
    info = case.bundle.info
    if not case.sound:
        return "the bundle has faults, see `collect check`"
    if info.grade == "simulated":
        return "these are replayed timings, nothing was measured"
    if info.grade == "published":
        return "these are somebody else's figures"
    if info.weights == "dummy":
        return "dummy weights are no model"
    return ""


def _chosen(view: CaseView, names: tuple[str, ...]) -> list[Card]:
    """The cards asked for; without a choice those of variants whose weights are quantized.

    Raises:
        QuantcaseError: a name has no card, or there is none at all.
    """
    known = cards.variants(view)
    for name in names:
        if name not in known:
            raise QuantcaseError(
                f"no card of {name}: it is no variant that served", fix=f"known: {', '.join(known) or 'none'}"
            )
    made = [card(view.case, n, view.quality, view.trust.limited) for n in known if not names or n in names]
    kept = [c for c in made if names or c.quantized]
    if not kept:
        raise QuantcaseError("no quantized variant served, so there is no card", fix="name one with --variant")
    return kept


def _show(place: str, found: Card, words: str) -> None:
    click.echo(f"would upload README.md ({len(words.encode()):,} bytes) of {found.variant.name} to {_url(place)}")
    click.echo("\n".join(f"    {line}" for line in front_matter(found).splitlines()))


def _last_line(refused: str, prefix: str) -> str:
    if refused:
        return f"nothing was uploaded, and --upload would refuse: {refused}"
    return "nothing was uploaded: add --upload" + ("" if prefix else f" and --repo-prefix {_PLACE}")


def _url(place: str) -> str:
    return f"https://huggingface.co/{place}"


def _hub() -> tuple[Any, str]:
    """The Hub's library and the token.

    Raises:
        QuantcaseError: either is missing.
    """
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise QuantcaseError("huggingface_hub is not installed", fix="pip install 'quantcase[cards]'") from None
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise QuantcaseError(f"no token in the environment variable {TOKEN}", fix=f"export {TOKEN}=hf_...")
    return hub, token


def _upload(hub: Any, token: str, place: str, found: Card, words: str) -> str:
    """Upload one card; the address of what came of it."""
    errors = importlib.import_module("huggingface_hub.errors")
    # A connection that fails is an error of the HTTP library beneath, which changed between versions: its base is
    # taken from the Hub's own error.
    failures = tuple(e for e in errors.HfHubHTTPError.__mro__ if e.__name__ in ("HTTPError", "RequestException"))
    try:
        done = hub.HfApi(token=token).upload_file(
            path_or_fileobj=words.encode(), path_in_repo="README.md", repo_id=place, repo_type="model",
            commit_message=f"Model card of {found.variant.name} from the bundle {found.case.bundle.id}",
        )  # fmt: skip
    except errors.RepositoryNotFoundError:
        raise QuantcaseError(
            f"{_url(place)} does not exist, or the token may not write to it", fix=f"hf repo create {place}"
        ) from None
    except (OSError, ValueError, *failures) as e:
        said = " ".join(str(e).replace(token, "***").split())
        raise QuantcaseError(f"{_url(place)}: the upload failed: {said}", fix="nothing else was changed") from None
    return str(getattr(done, "commit_url", "") or _url(place))

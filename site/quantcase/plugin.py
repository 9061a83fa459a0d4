"""The MkDocs plugin: hands the generator's files to MkDocs, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config import config_options as c
from mkdocs.config.base import Config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.livereload import LiveReloadServer
from mkdocs.plugins import BasePlugin, get_plugin_logger
from mkdocs.structure.files import File, Files, InclusionLevel

from quantcase.build import generate
from quantcase.pages.view import Options

log = get_plugin_logger(__name__)


class QuantcaseConfig(Config):  # type: ignore[no-untyped-call]
    """The options under `plugins: - quantcase:` in mkdocs.yml; see docs/guide/publish.md."""

    results = c.Type(str, default="results")
    cases = c.ListOfItems(c.Type(str), default=[])
    client = c.Type(str, default="")
    currency = c.Choice(("USD",), default="USD")
    prices = c.Type(dict, default={})
    show_simulated = c.Type(bool, default=True)
    show_published = c.Type(bool, default=True)
    confidential = c.Type(bool, default=False)


class QuantcasePlugin(BasePlugin[QuantcaseConfig]):  # type: ignore[no-untyped-call]
    """Hooks in the order in which MkDocs calls them."""

    def _results(self, config: MkDocsConfig) -> Path:
        return (Path(config.config_file_path).parent / self.config.results).resolve()

    def _options(self) -> Options:
        prices = []
        for gpu, price in self.config.prices.items():
            if not isinstance(price, int | float) or price <= 0:
                raise PluginError(f"quantcase: prices.{gpu} must be USD per hour, a number above 0")
            prices.append((str(gpu), float(price)))
        return Options(
            client=self.config.client,
            currency=self.config.currency,
            prices=tuple(prices),
            show_simulated=self.config.show_simulated,
            show_published=self.config.show_published,
            confidential=self.config.confidential,
        )

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        """Bundles are watched by `mkdocs serve`, and must be somewhere."""
        results = self._results(config)
        if not results.is_dir():
            raise PluginError(f"quantcase: no results folder at {results}; run `collect run` first, or set `results:`")
        config.watch.append(str(results))
        return config

    def on_files(self, files: Files, *, config: MkDocsConfig) -> Files:
        """Add every generated page and asset."""
        only = tuple(self.config.cases)
        catalog, outputs = generate(self._results(config), self._options(), only=only)
        for name, why in catalog.unreadable:
            log.info("bundle %s left out: %s", name, why)
        missing = set(only) - {case.id for case in catalog.cases}
        if missing:
            raise PluginError(f"quantcase: no readable case named {sorted(missing)[0]} below {self.config.results}")
        cases: list[Any] = []
        for output in outputs:
            if files.get_file_from_path(output.uri) is not None and output.title == "":
                continue  # a page written by hand stands in for the generated one
            # Pages below a case are reached from it: they stand in no menu.
            inclusion = InclusionLevel.NOT_IN_NAV if output.uri.count("/") > 2 else InclusionLevel.UNDEFINED
            files.append(File.generated(config, output.uri, content=output.data(), inclusion=inclusion))
            if output.title:
                cases.append({output.title: output.uri})
        _add_to_nav(config, cases)
        return files

    def on_serve(self, server: LiveReloadServer, /, *, config: MkDocsConfig, builder: Any) -> LiveReloadServer:
        """The generator's own code is watched too, for those who work on it."""
        server.watch(str(Path(__file__).parent))
        return server


def _add_to_nav(config: MkDocsConfig, cases: list[Any]) -> None:
    """Put the cases under the navigation entry that holds cases/index.md."""
    for entry in config.nav or []:
        if isinstance(entry, dict):
            for title, target in entry.items():
                if target == "cases/index.md" or (isinstance(target, list) and "cases/index.md" in target):
                    entry[title] = ["cases/index.md", *cases]

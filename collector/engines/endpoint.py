"""Attach to a running OpenAI-compatible server. Nothing is started, nothing is stopped."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import aiohttp

from collector.api_key import given
from collector.bundle.schema import Grade
from collector.engines.base import EngineFacts, Evidence, ServeRequest, Timeline
from collector.engines.facts import with_metrics
from collector.errors import QuantcaseError
from collector.probes.redact import REMOVED, redact
from collector.study import Study

__all__ = ["Endpoint", "EndpointServer"]

_TIMEOUT = aiohttp.ClientTimeout(total=20)


class Endpoint:
    """Engine protocol: see base.Engine."""

    name = "endpoint"
    grade: Grade = "measured"

    def check(self, study: Study) -> None:
        """Raises QuantcaseError when the URL is none, or carries credentials."""
        _clean(study.engine.url)

    async def start(self, request: ServeRequest) -> EndpointServer:
        """Ask the server for its models.

        Raises:
            QuantcaseError: it cannot be reached, refuses, or does not answer as such a server does.
        """
        url = _clean(request.spec.url)
        key = given()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers, trust_env=True) as session:
            names = await _models(session, url)
            metrics = await _text(session, url + "/metrics")
            version = await _text(session, url + "/version")
        wanted = request.variant.model
        model = wanted if wanted in names else names[0]
        return EndpointServer(url, model, metrics, version)


def _clean(url: str) -> str:
    """The base URL: no trailing slash, no /v1. Raises QuantcaseError for what is no such address."""
    if REMOVED in url:  # the study comes out of a bundle, which does not say where somebody's server stands
        raise QuantcaseError("the endpoint's address is not in the bundle", fix="give it again with --endpoint URL")
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")  # what cannot be asked of any name server
        _ = parts.port
    except ValueError:
        raise QuantcaseError("--endpoint is no http(s) address", fix="give http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise QuantcaseError(f"--endpoint {url or '(empty)'} is no http(s) address", fix="give http://HOST:PORT")
    if parts.username or parts.password:
        raise QuantcaseError("--endpoint must not carry credentials", fix="set QUANTCASE_API_KEY, or --api-key-file")
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


async def _models(session: aiohttp.ClientSession, url: str) -> list[str]:
    try:
        async with session.get(url + "/v1/models") as response:
            status, text = response.status, await response.text(errors="replace")
            data: Any = await response.json(content_type=None) if status == 200 else None
    except aiohttp.ClientConnectorCertificateError as e:
        why = getattr(e.certificate_error, "verify_message", "") or str(e.certificate_error)
        fix = "renew it, or name the authority that signed it: SSL_CERT_FILE=/path/to/ca.pem"
        raise QuantcaseError(f"{url}: its certificate is not accepted: {why}", fix=fix) from None
    except (ValueError, RecursionError):
        raise QuantcaseError(
            f"{url}/v1/models answers with no JSON", fix="is it an OpenAI-compatible server?"
        ) from None
    except TimeoutError:
        raise QuantcaseError(f"{url} does not answer within 20 s", fix="check address and port") from None
    except aiohttp.ClientError as e:
        raise QuantcaseError(f"{url} cannot be reached: {e}", fix="check address and port") from None
    if status in (401, 403):
        raise QuantcaseError(f"{url} refuses with HTTP {status}", fix="set QUANTCASE_API_KEY, or give --api-key-file")
    if status != 200:
        words = redact(" ".join(text.split()))[:160]
        raise QuantcaseError(f"{url}/v1/models answers HTTP {status}: {words}", fix="look at the server's log")
    try:
        names = [str(entry["id"]) for entry in data["data"]]
    except (TypeError, KeyError):
        names = []
    if not names:
        raise QuantcaseError(f"{url}/v1/models names no model", fix="is it an OpenAI-compatible server?")
    return names


async def _text(session: aiohttp.ClientSession, url: str) -> str | None:
    """The text of an optional page; None where the server has none."""
    try:
        async with session.get(url) as response:
            return await response.text(errors="replace") if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return None


class EndpointServer:
    """Server protocol: see base.Server. There is no log, so only /metrics and /version speak."""

    def __init__(self, url: str, model: str, metrics: str | None, version: str | None) -> None:
        self.base_url = url
        self.model = model
        self.argv: list[str] = []
        self.pids: list[int] = []
        self.timeline = Timeline()
        self.metrics_path: str | None = "/metrics" if metrics else None
        self._metrics = metrics or ""
        self._version = version

    def facts(self) -> EngineFacts:
        facts = EngineFacts()
        if "vllm:" in self._metrics:
            facts.engine = "vllm"
            facts.evidence["engine"] = Evidence(0, "/metrics holds vllm: series")
        elif "llamacpp:" in self._metrics:
            facts.engine = "llama.cpp"
            facts.evidence["engine"] = Evidence(0, "/metrics holds llamacpp: series")
        if self._version and (found := self._version.strip().removeprefix('{"version":').strip(' "}')):
            facts.version = found[:40]
            facts.evidence["version"] = Evidence(0, f"/version: {self._version[:200]}")
        return with_metrics(facts, self._metrics)

    def model_facts(self) -> dict[str, object]:
        return {}

    def alive(self) -> bool:
        return True

    async def stop(self) -> None:
        """Nothing of it is ours to stop."""

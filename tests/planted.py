"""A bundle into which secrets of every kind were put, wherever text comes in. What it holds was made by a seed."""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from collector.bundle import metrics
from collector.bundle.answers import LikelihoodRow, QualityItem, QualityRow
from collector.bundle.schema import EngineMetricRow, Environment, Session
from collector.bundle.write import BundleWriter
from collector.engines.base import StartFailed
from collector.engines.process import EngineProcess, free_port
from collector.load.measure import Client
from collector.quality.ask import Asker
from collector.study import Study, loads
from quantcase.build import generate
from quantcase.pages.view import Options
from tests.makers import repeat_rows, variant_row
from tests.quality.test_ask import server

# {} is where the secret is planted: each place has its own, so that a leak names its place.
KINDS = {
    "hugging face": "hf_{}AbCdEfGhIjKlMnOpQr",
    "openai": "sk-proj-{}0123456789abcdefABCD",
    "anthropic": "sk-ant-api03-{}0123456789abcdef",
    "aws": "AKIA{}ABCDEFGH",
    "aws secret": "AWS_SECRET_ACCESS_KEY={}/wJalrXUtnFEMI/K7MDENG",
    "github": "ghp_{}abcdefghijklmnopqrstuv",
    "runpod": "rpa_{}ABCDEFGHIJKLMNOPQRST",
    "lambda": "secret_my-key_0123456789abcdef.{}ABCDEFGH",
    "bearer": "bearer {}.abc-def",
    "header": "Authorization: Token {}",
    "url": "https://user:{}@example.org/x",
    "signed url": "https://cdn.example.org/x?X-Amz-Signature={}",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\n{}abcdefghijklmnop\n-----END RSA PRIVATE KEY-----",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.{}eyJzdWIi.c2lnbmF0dXJl",
    "home": "/home/{}/models",
    "host": "ip-10-0-12-3.{}.internal",
    "e-mail": "{}@example.org",
    "cloud": "arn:aws:iam::123456789012:role/{}",
}
ADDRESSES = ("203.0.113.77", "2001:db8::77", "02:42:ac:11:00:77", "169.254.169.254", "i-0123456789abcdef7")
PLACES = ("LOG", "ARGV", "ENV", "BODY", "STUDY", "METRIC", "STRESS", "HOST", "NOTES")

STUDY = """
id = "secrets"
title = "BF16 against FP8, asked by {title}"
gpu = "h200"
base_model = "org/model-8B"
baseline = "bf16"
next_steps = ["ask {next}"]
[engine]
name = "vllm"
args = {args}
[engine.env]
HF_TOKEN = "{env}plain"
VLLM_USE_V1 = "1"
CACHE = "/home/{env}/cache"
[[variants]]
name = "bf16"
model = "org/model-8B"
[[variants]]
name = "fp8"
model = "org/model-8B-FP8"
method = "fp8"
bits = 8
env = {{ PROXY = "http://me:{env}@10.0.0.7:3128" }}
[[workloads]]
name = "chat"
input_tokens = 64
output_tokens = 16
concurrency = [1, 4]
requests_per_stream = 6
min_requests = 24
[[quality]]
kind = "labels"
file = "labels.csv"
[[quality]]
kind = "likelihood"
"""


def needle(place: str, kind: str) -> str:
    return f"ZQ{place}{list(KINDS).index(kind):02d}"


def each(place: str) -> list[str]:
    """One of each kind."""
    return [form.format(needle(place, kind)) for kind, form in KINDS.items()] + list(ADDRESSES)


def planted(place: str) -> str:
    """One of each kind, on lines of their own."""
    return "\n".join(each(place))


def asked() -> Study:
    lines = json.dumps(["--api-key", needle("STUDY", "bearer"), *each("STUDY")])
    return loads(
        STUDY.format(title=f"{needle('STUDY', 'e-mail')}@example.org", next=ADDRESSES[0], args=lines, env="ZQENV")
    )


def everything(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file of a folder as text, packed ones unpacked."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        raw = path.read_bytes()
        yield path.name, (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")


def pages(results: Path) -> Iterator[tuple[str, str]]:
    """Every text of the site that is built of a folder of bundles; `text()` writes signs as entities."""
    for output in generate(results, Options())[1]:
        data = output.data()
        raw = data if isinstance(data, bytes) else data.encode()
        said = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8", "replace")
        yield output.uri, said.replace("&#46;", ".").replace("&#58;", ":").replace("&#45;", "-")


def leaks(texts: Iterator[tuple[str, str]]) -> list[str]:
    found = []
    for name, said in texts:
        known = {m: list(KINDS)[int(m[-2:])] for m in re.findall(r"ZQ[A-Z]+\d\d", said)}
        found += [f"{name}: {m} {kind}" for m, kind in sorted(known.items())]
        found += [f"{name}: ZQ{p}" for p in PLACES if re.search(rf"ZQ{p}(?!\d)", said)]
        found += [f"{name}: {a}" for a in ADDRESSES if a in said]
    return found


async def write(out: Path) -> Path:
    """A whole bundle through the real writer, with what a real process and real sockets gave."""

    async def refuses(_: web.Request) -> web.StreamResponse:
        line = " ".join(planted("BODY").split("\n"))
        return web.json_response({"error": {"message": refuses.said or line}}, status=400)  # type: ignore[attr-defined]

    r, s = random.Random(1), asked()
    session = Session(
        session=1, started="2026-11-21T01:00:00+00:00", wall_unix_s=1.0, monotonic_s=1.0,
        gpus=[{"index": 0, "name": "NVIDIA H200", "vram_mib": 143771}],
        host={"cpu": f"made by {needle('HOST', 'e-mail')}@example.org"},
        software={"vllm": "0.26.0", "cudnn": "9.10.2.21", "plugin": f"/home/{needle('HOST', 'home')}/x"},
    )  # fmt: skip
    w = BundleWriter.create(
        out / "2026-11-21-h200-secrets", s, grade="measured", gpu="h200", cells_planned=4,
        environment=Environment(gpu_asked="h200", sessions=[session]),
    )  # fmt: skip
    log = out.parent / "engine.log"
    process = EngineProcess([sys.executable, "-c", f"print({planted('LOG')!r})"], env={}, log_path=log)
    with pytest.raises(StartFailed) as failed:
        await process.wait_healthy("http://127.0.0.1:9/", free_port(), 30)
    assert "ZQLOG" in log.read_text()
    assert not leaks(iter([("log tail", "\n".join(failed.value.log_tail[-4:]))]))
    said = []
    async with server(refuses) as url:
        for kind in KINDS:
            refuses.said = KINDS[kind].format(needle("BODY", kind))  # type: ignore[attr-defined]
            said.append((await Client(url, "m").ask("chat", "hello", 4)).error or "")
    assert all("ZQBODY" in words for words in said)
    t = 0.0
    for v in s.variants:
        row = variant_row(v)
        row.argv = json.dumps(["vllm", "serve", "--api-key", needle("ARGV", "bearer"), *each("ARGV")])
        row.evidence = row.error = " ".join(planted("LOG").split("\n"))
        w.set_variant(row)
        w.add_log(v.name, 1, log.read_text())
        for workload, load in s.cells():
            rows = repeat_rows(v.name, workload, load, 1, r, t)
            t = max(x.started_s + (x.e2e_ms or 0) / 1000 for x in rows) + 0.5
            for i, words in enumerate(said):
                rows[i].error = words
            w.add_repeat(rows, [], metrics.cell(rows, load, workload))
        w.add_engine_metrics(
            EngineMetricRow(t_s=1.0, variant=v.name, start=1, series=f'a{{b="{planted("METRIC")}"}}', value=1.0)
        )
    refuses.said = ""  # type: ignore[attr-defined]
    async with server(refuses) as url, Asker(url, "m") as asker:
        reply = await asker.answer("chat", "hello", 4, timeout_s=5)
    add_answers(w, reply.error or "")
    w.close("complete")
    return w.folder


LABELS = ("Late delivery", "refund-wish", "praise")


def add_answers(w: BundleWriter, error: str) -> None:
    """Labels that the second variant gets wrong now and then, and texts of made-up tokens."""
    r = random.Random(2)
    items = [
        QualityItem(
            suite="labels", task="labels", prompt_id=f"labels/{i}", prompt_sha256=f"{i:064d}", scorer="label",
            prompt=f"ZqPROMPT number {i}", reference=LABELS[i % 3], choices=list(LABELS),
        )
        for i in range(60)
    ]  # fmt: skip
    texts = [
        QualityItem(
            suite="likelihood", task="prose", prompt_id=f"likelihood/{i}", prompt_sha256=f"{i:064d}",
            prompt=f"ZqPROMPT text {i}", token_ids=[r.randrange(5) for _ in range(9)], scorer="likelihood",
        )
        for i in range(8)
    ]  # fmt: skip
    w.answers.add_items("labels", items)
    w.answers.add_items("likelihood", texts)
    for name, number in (("bf16", 1), ("bf16", 2), ("fp8", 1)):
        for i, item in enumerate(items):
            said = LABELS[(i + (name == "fp8" and i % 7 == 0)) % 3]
            tokens = ["ZqANSWER", " it", " is ", said]
            w.answers.add(
                QualityRow(
                    variant=name, start=number, repeat=number, suite="labels", task="labels", prompt_id=item.prompt_id,
                    prompt_sha256=item.prompt_sha256, output="".join(tokens), tokens=tokens,
                    parsed="_".join(said.casefold().replace("-", " ").split()), score=float(said == item.reference),
                    top=[[t, "other"] for t in tokens], output_tokens=4, error=error if i == 59 else None,
                )
            )  # fmt: skip
        for text in texts:
            top = [[(t, -0.4 - 0.1 * (name == "fp8")), ((t + 1) % 5, -1.5)] for t in (text.token_ids or [])[1:]]
            w.answers.add_likelihood(
                LikelihoodRow(
                    variant=name, start=number, repeat=number, suite="likelihood", task="prose",
                    prompt_id=text.prompt_id, prompt_sha256=text.prompt_sha256, top=top,
                    logprobs=[at[0][1] for at in top],
                )
            )  # fmt: skip

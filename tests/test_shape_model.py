import hashlib
import json
from pathlib import Path

import pytest

from collector import shapes
from collector.errors import UsageFault
from collector.shape_model import FORMATS, main, write


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {f.name: f for f in write(tmp_path_factory.mktemp("models"))}


def test_one_folder_a_format_each_with_its_three_files(folders: dict[str, Path]) -> None:
    assert list(folders) == list(FORMATS)
    for folder in folders.values():
        assert sorted(f.name for f in folder.iterdir()) == ["config.json", "tokenizer.json", "tokenizer_config.json"]


def test_the_shape_is_llama_8bs(folders: dict[str, Path]) -> None:
    found, known = shapes.find(str(folders["bf16"])), shapes.find("meta-llama/Llama-3.1-8B-Instruct")
    assert found is not None
    assert known is not None
    assert found.parameters == known.parameters


def test_the_70b_fills_more_than_one_card_in_bf16(tmp_path: Path) -> None:
    """70.55 billion parameters, as the published model counts them: 131 GiB in BF16, 140 are on an H200."""
    found = shapes.find(str(write(tmp_path, "llama-3.3-70b")[0]))
    assert found is not None
    assert found.parameters == pytest.approx(70.55e9, rel=1e-3)


def test_each_format_names_its_method(folders: dict[str, Path]) -> None:
    methods = {
        name: json.loads((folder / "config.json").read_text()).get("quantization_config", {}).get("quant_method")
        for name, folder in folders.items()
    }
    assert methods == {
        "bf16": None,
        "awq": "awq",
        "gptq": "gptq",
        "w8a8-int8": "compressed-tensors",
        "w8a8-fp8": "compressed-tensors",
    }


def test_gptq_names_its_layers_else_vllm_serves_it_unquantized(folders: dict[str, Path]) -> None:
    config = json.loads((folders["gptq"] / "config.json").read_text())
    assert sum(map(len, config["quantization_config"]["modules_in_block_to_quantize"])) == 7


def test_the_tokenizer_has_one_word_an_id(folders: dict[str, Path]) -> None:
    vocabulary = json.loads((folders["bf16"] / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocabulary) == 128256
    assert vocabulary["w17"] == 17


def test_the_tokenizer_is_what_the_tokenizers_library_writes(folders: dict[str, Path]) -> None:
    """The digest is of the file that tokenizers 0.23 saved for the same model, pre-tokenizer and decoder."""
    digest = hashlib.sha256((folders["bf16"] / "tokenizer.json").read_bytes()).hexdigest()
    assert digest == "a902e9ee90820f3e37c865e2ad321c3bccf010c25b0f3f6eebcbdccdc7dd34e3"


def test_an_unknown_shape_names_the_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageFault, match=r"llama-3\.1-8b"):
        write(tmp_path, "llama-9")
    assert main([str(tmp_path), "llama-9"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([]) == 2

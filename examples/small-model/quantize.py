"""Quantizes a folder that `train.py` wrote: `python quantize.py MODEL OUT`. Round to nearest, no calibration data.

Writes OUT/{fp8,w8a8-int8,w4a16-g128,2bit-channel} in the compressed-tensors format that vLLM reads. Methods that look
at data (GPTQ, AWQ, SmoothQuant) do better than this at four bits; what is shown here is the plain loss of the format.
The two-bit values lie in the four-bit container, which has kernels.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

DYNAMIC_INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
DYNAMIC_FP8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token", "dynamic": True}


def scheme(bits: int, kind: str, strategy: str, group: int | None = None) -> dict[str, object]:
    """The weights' part of a quantization scheme."""
    base = {"num_bits": bits, "type": kind, "symmetric": True, "strategy": strategy, "dynamic": False}
    return base | ({"group_size": group} if group else {})


FORMATS = {
    "fp8": ("float-quantized", scheme(8, "float", "channel"), DYNAMIC_FP8),
    "w8a8-int8": ("int-quantized", scheme(8, "int", "channel"), DYNAMIC_INT8),
    "w4a16-g128": ("pack-quantized", scheme(4, "int", "group", 128), None),
    "2bit-channel": ("pack-quantized", scheme(4, "int", "channel"), None),
}


def quantized(weight: Tensor, name: str) -> dict[str, Tensor]:
    """The tensors that stand for one matrix (rows, columns) in that format, by the end of their names."""
    w = weight.float()
    rows, columns = w.shape
    if name == "fp8":
        scale = w.abs().amax(1, keepdim=True).clamp(min=1e-8) / 448.0
        return {"weight": (w / scale).clamp(-448, 448).to(torch.float8_e4m3fn), "weight_scale": scale}
    if name == "w8a8-int8":
        scale = w.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127.0
        return {"weight": (w / scale).round().clamp(-128, 127).to(torch.int8), "weight_scale": scale}
    group = 128 if name.endswith("g128") else columns
    top = 2 if name.startswith("2bit") else 8
    blocks = w.view(rows, columns // group, group)
    scale = blocks.abs().amax(2, keepdim=True).clamp(min=1e-8) / (top - 0.5)
    scale = scale.to(torch.bfloat16).float()
    values = ((blocks / scale).round().clamp(-top, top - 1) + 8).to(torch.int64).view(rows, columns // 8, 8)
    packed = sum(values[:, :, i] << (4 * i) for i in range(8))
    packed = torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)
    return {
        "weight_packed": packed,
        "weight_scale": scale.view(rows, -1).to(torch.bfloat16),
        "weight_shape": torch.tensor([rows, columns], dtype=torch.int64),
    }


def main(source: Path, out: Path) -> None:
    weights = load_file(source / "model.safetensors")
    for name, (form, weight_scheme, inputs) in FORMATS.items():
        folder = out / name
        shutil.copytree(source, folder, dirs_exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for key, w in weights.items():
            if key.endswith("_proj.weight"):
                made = quantized(w, name)
                tensors |= {f"{key.removesuffix('weight')}{part}": t.contiguous() for part, t in made.items()}
            else:
                tensors[key] = w
        save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
        config = json.loads((source / "config.json").read_text())
        config["quantization_config"] = {
            "quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
            "ignore": ["lm_head"],
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"], "weights": weight_scheme, "input_activations": inputs,
                    "output_activations": None,
                }
            },
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

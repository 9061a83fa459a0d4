"""Trains the small or the medium model: `python train.py small OUT [--steps N] [--batch N] [--tokens N]`.

On a GPU minutes; on two CPU cores hours, for the small one. Prints the loss; writes OUT as a Hugging Face folder.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from corpus import tokenizer, tokens
from model import SIZES, Llama, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64, help="sequences a step")
    parser.add_argument("--tokens", type=int, default=24_000_000, help="corpus; it is read again when it ends")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    args = parser.parse_args()
    size = SIZES[args.size]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    began = time.monotonic()
    data = torch.from_numpy(tokens(args.tokens, args.seed, (size.context - 120) // 2).astype("int64"))
    rows = (len(data) - 1) // size.context
    data = data[: rows * size.context + 1].to(device)
    print(f"{len(data):,} tokens in {time.monotonic() - began:.0f} s on {device}", flush=True)
    model = Llama(size, tokenizer().get_vocab_size()).to(device)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights", flush=True)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.95), fused=device == "cuda")
    generator = torch.Generator().manual_seed(args.seed)
    order = torch.cat([torch.randperm(rows, generator=generator) for _ in range(args.steps * args.batch // rows + 1)])
    reach = torch.arange(size.context, device=device)
    began = time.monotonic()
    for step in range(args.steps):
        warm, left = min(1.0, (step + 1) / 50), 1 - step / args.steps
        for group in optimizer.param_groups:
            group["lr"] = args.rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (1 - left))))
        starts = order[step * args.batch : (step + 1) * args.batch].to(device) * size.context
        ids = data[starts[:, None] + reach]
        wanted = data[starts[:, None] + reach + 1]
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = model(ids)
        loss = F.cross_entropy(logits.float().view(-1, logits.shape[-1]), wanted.view(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == args.steps - 1:
            print(f"step {step} loss {loss.item():.4f} after {time.monotonic() - began:.0f} s", flush=True)
            if device == "cpu":
                save(model, args.out, getattr(torch, args.dtype))  # hours are not to be lost
    save(model, args.out, getattr(torch, args.dtype))


if __name__ == "__main__":
    main()

"""Cluster attention as PyTorch users write it: gather keys and values, multiply, softmax. The shapes of
`crates/aff-ops/benches/operators.rs`.

    python -m venv venv && venv/bin/pip install torch && venv/bin/python benches/peers/attention.py --threads 2
"""

import argparse
import time

import torch

STAGES = [
    ("224/stage1", 3136, 64, 2),
    ("224/stage2", 784, 128, 4),
    ("224/stage3", 196, 256, 8),
    ("512/stage1", 16384, 64, 2),
    ("512/stage2", 4096, 128, 4),
    ("512/stage3", 1024, 256, 8),
]
SLOTS = 48


def attention(query, key_value, indices, features, weight, bias, blank_key, blank_value, heads):
    tokens, channels = query.shape
    width = channels // heads
    query = query.view(tokens, heads, width) * width**-0.5
    key, value = key_value.view(tokens, heads, 2, width).unbind(2)
    key, value = key[indices], value[indices]  # [N,M,H,D]
    logits = torch.einsum("nhd,nmhd->nhm", query, key)
    logits = logits + (features @ weight.T + bias).permute(0, 2, 1)
    blank = (query * blank_key.view(heads, width)).sum(-1, keepdim=True)
    shares = torch.cat([logits, blank], -1).softmax(-1)
    out = torch.einsum("nhm,nmhd->nhd", shares[..., :-1], value)
    out = out + shares[..., -1:] * blank_value.view(heads, width)
    return out.reshape(tokens, channels)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, tokens, channels, heads in STAGES:
        inputs = [
            torch.randn(tokens, channels),
            torch.randn(tokens, 2 * channels),
            # Neighbours lie near each other, as in clusters.
            (torch.arange(tokens)[:, None] + torch.arange(SLOTS)[None]) % tokens,
            torch.randn(tokens, SLOTS, 5),
            torch.randn(heads, 5),
            torch.randn(heads),
            torch.randn(channels),
            torch.randn(channels),
        ]
        with torch.inference_mode():
            attention(*inputs, heads)
            times = []
            for _ in range(10):
                start = time.perf_counter()
                attention(*inputs, heads)
                times.append(time.perf_counter() - start)
        print(f"{name}: median {sorted(times)[5] * 1e3:.2f} ms")


if __name__ == "__main__":
    main()

"""Makes resize.json beside it: checksums of 200 pictures that Pillow has resized, at random sizes.

    python -m venv venv && venv/bin/pip install numpy pillow && venv/bin/python crates/aff-vision/tests/data/make_resize_golden.py

The pictures are noise that the test makes again by the same formula; every second one is black and white, so that bicubic sums leave
the range of a byte.
"""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

EDGES = [(1, 4), (1, 40), (5, 200), (100, 700)]


def noise(case, width, height):
    x = np.arange(width, dtype=np.uint32)[None, :]
    y = np.arange(height, dtype=np.uint32)[:, None]
    hashed = ((x + np.uint32(case)) * np.uint32(0x9E3779B1) ^ y * np.uint32(0x85EBCA77)) * np.uint32(0xC2B2AE3D)
    pixels = np.stack([hashed >> 24, hashed >> 16, hashed >> 8], axis=-1).astype(np.uint8)
    return np.where(pixels < 128, 0, 255).astype(np.uint8) if case % 2 else pixels


def main():
    generator = random.Random(0)
    cases = []
    for case in range(200):
        width, height, to_width, to_height = (generator.randint(*generator.choice(EDGES)) for _ in range(4))
        if case % 20 == 0:
            to_height = height
        if case % 20 == 10:
            to_width = width
        for name, resample in [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)]:
            if name == ("bicubic" if case % 4 < 2 else "bilinear"):
                continue
            resized = Image.fromarray(noise(case, width, height)).resize((to_width, to_height), resample)
            digest = hashlib.sha256(resized.tobytes()).hexdigest()[:16]
            cases.append([case, width, height, to_width, to_height, name, digest])
    lines = ",\n".join(json.dumps(case) for case in cases)
    (Path(__file__).parent / "resize.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()

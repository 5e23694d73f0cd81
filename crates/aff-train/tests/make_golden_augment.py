"""Writes tests/data/rand_augment.json: two pixels of a picture after operations of RandAugment, by Pillow.

    python make_golden_augment.py        (needs pillow)
"""

import json
import pathlib

from PIL import Image, ImageEnhance, ImageOps

image = Image.new("RGB", (16, 8))
image.putdata([(16 * x, 30 * y, 10 + x * y) for y in range(8) for x in range(16)])
results = [
    ImageEnhance.Color(image).enhance(1.5),
    ImageEnhance.Contrast(image).enhance(0.5),
    ImageEnhance.Brightness(image).enhance(0.7),
    ImageEnhance.Sharpness(image).enhance(1.8),
    ImageOps.autocontrast(image),
    ImageOps.equalize(image),
    ImageOps.posterize(image, 2),
    ImageOps.solarize(image, 256 - int(256 * 0.6)),
    image.point([min(255, v + 55) if v < 128 else v for v in range(256)] * 3),
]
path = pathlib.Path(__file__).parent / "data" / "rand_augment.json"
path.write_text(json.dumps([[result.getpixel((5, 3)), result.getpixel((12, 6))] for result in results]) + "\n")

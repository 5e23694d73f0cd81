"""Makes the golden files beside it: what Pillow and pycocotools do with small pictures and masks.

    python -m venv venv && venv/bin/pip install pillow pycocotools && venv/bin/python crates/aff-vision/tests/data/make_golden.py
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from pycocotools import mask as coco

HERE = Path(__file__).parent
PHOTO = Image.open(HERE / "../../../../assets/tower.jpg").convert("RGB")


def save_expected(name):
    """What `open` must return for a file."""
    image = Image.open(HERE / name)
    if image.mode.startswith("I;16"):
        grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = grey
    ImageOps.exif_transpose(image).convert("RGB").save(HERE / (name + ".expected.png"))


def main():
    crop = PHOTO.crop((60, 40, 160, 110))
    crop.save(HERE / "crop.png")
    for name, size, filter in [
        ("bilinear_down", (37, 26), Image.BILINEAR),
        ("bilinear_up", (213, 149), Image.BILINEAR),
        ("bicubic_down", (41, 29), Image.BICUBIC),
        ("bicubic_up", (160, 112), Image.BICUBIC),
        ("bilinear_narrow", (9, 70), Image.BILINEAR),
    ]:
        crop.resize(size, filter).save(HERE / f"resize_{name}.png")

    small = crop.resize((24, 17))
    small.save(HERE / "plain.bmp")
    small.save(HERE / "plain.tiff")
    small.save(HERE / "lossless.webp", lossless=True)
    small.save(HERE / "animated.webp", lossless=True, save_all=True, append_images=[ImageOps.invert(small)], duration=100)
    small.save(HERE / "plain.jpg", quality=95, subsampling=0)
    small.quantize(16).save(HERE / "palette.png")
    small.convert("L").save(HERE / "grey.png")
    alpha = small.convert("RGBA")
    alpha.putalpha(small.convert("L"))
    alpha.save(HERE / "alpha.png")
    Image.fromarray((np.arange(35).reshape(5, 7) * 1800).astype(np.uint16)).save(HERE / "grey16.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    small.save(HERE / "rotated.jpg", quality=95, subsampling=0, exif=exif)
    small.convert("CMYK").save(HERE / "cmyk.jpg")
    for name in ["plain.bmp", "plain.tiff", "lossless.webp", "animated.webp", "plain.jpg", "palette.png", "grey.png", "alpha.png", "grey16.png", "rotated.jpg"]:
        save_expected(name)

    generator = np.random.default_rng(0)
    masks = []
    for height, width, density in [(1, 1, 1), (7, 5, 0.5), (40, 60, 0.02), (33, 90, 0.97), (200, 100, 0.5), (64, 64, 0)]:
        bitmap = (generator.random((height, width)) < density).astype(np.uint8)
        if height == 200:
            bitmap[20:180, 10:90] = 1
            bitmap[50:100, 30:60] = 0
        rle = coco.encode(np.asfortranarray(bitmap))
        masks.append(
            {
                "size": rle["size"],
                "counts": rle["counts"].decode(),
                "area": int(coco.area(rle)),
                "bbox": [int(x) for x in coco.toBbox(rle)],
                "bits": "".join(map(str, bitmap.flatten())),
            }
        )
    (HERE / "masks.json").write_text(json.dumps(masks))


if __name__ == "__main__":
    main()

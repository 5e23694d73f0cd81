"""Reads what the project writes with the data sets' own tools: pycocotools, and the panoptic API where it is installed.

    python -m venv venv && venv/bin/pip install numpy pillow pycocotools
    mkdir -p output/coco
    cargo run --release --example coco -- models/aff-pico-camvid assets/street.jpg output/coco
    venv/bin/python scripts/check_formats.py output/coco

The panoptic API (https://github.com/cocodataset/panopticapi) is not on PyPI. Without it its rule is applied here: id = R + 256 G + 65536 B, and
every segment's area and box are compared with the picture.
"""

import json
import pathlib
import sys

import numpy as np
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

folder = pathlib.Path(sys.argv[1])

# Instances: pycocotools decodes every mask to the area and box that we state, and against themselves they score 1.
found = json.loads((folder / "instances.json").read_text())
assert found, "no instances were found; lower the threshold"
for entry in found:
    bitmap = masks.decode(entry["segmentation"])
    x, y, width, height = entry["bbox"]
    assert bitmap.sum() == masks.area(entry["segmentation"])
    assert [x, y, width, height] == [int(value) for value in masks.toBbox(entry["segmentation"])]
truth = COCO()
truth.dataset = {
    "info": {},
    "images": [{"id": 1, "height": found[0]["segmentation"]["size"][0], "width": found[0]["segmentation"]["size"][1]}],
    "categories": [{"id": category} for category in sorted({entry["category_id"] for entry in found})],
    "annotations": [
        {**entry, "id": number, "iscrowd": 0, "area": int(masks.area(entry["segmentation"]))} for number, entry in enumerate(found, 1)
    ],
}
truth.createIndex()
evaluation = COCOeval(truth, truth.loadRes(found), "segm")
evaluation.evaluate()
evaluation.accumulate()
evaluation.summarize()
assert evaluation.stats[0] > 0.999, evaluation.stats
print(f"{len(found)} instances")

# Panoptic: the picture has the segments that the annotations say, and no others.
[entry] = json.loads((folder / "panoptic.json").read_text())
picture = np.asarray(Image.open(folder / entry["file_name"]), dtype=np.uint32)
assert picture.ndim == 3
try:
    from panopticapi.utils import rgb2id

    ids = rgb2id(picture)
    print("with the panoptic API")
except ImportError:
    ids = picture[..., 0] + 256 * picture[..., 1] + 65536 * picture[..., 2]
    print("by the panoptic API's rule")
assert {int(value) for value in np.unique(ids)} - {0} == {segment["id"] for segment in entry["segments_info"]}
for segment in entry["segments_info"]:
    own = ids == segment["id"]
    rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    assert own.sum() == segment["area"] and box == segment["bbox"] and segment["iscrowd"] == 0, segment
print(f"{len(entry['segments_info'])} panoptic segments")

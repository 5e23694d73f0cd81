"""Writes the cases and figures that the metrics of `aff-train` are compared with, each by the official tool of its data set.

    python3.11 -m venv venv
    venv/bin/pip install numpy==2.2.6 pillow==11.3.0 scipy==1.15.3 pycocotools==2.0.11 cityscapesScripts==2.3.0 \
        numba==0.61.2 scikit-image==0.25.2 csbdeep==0.8.2 stardist==0.9.2
    venv/bin/python scripts/metric_goldens.py fixtures/metrics [SEED]

Every case is small and random, or made to be awkward: nothing there, crowds, equal scores, overlaps that equal a threshold, void, areas of a
pixel, more objects than count. `panopticapi` is not on PyPI; the scripts of Cityscapes have the same function, with the categories as an
argument, and it is that one that is called. ADE20K's own tool is MATLAB; its rule is the few lines of `ade20k_mean_iou`.
"""

import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile
import warnings

import numpy as np
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as city_instances
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as city_panoptic
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as city_pixels
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from stardist.matching import matching_dataset

folder = pathlib.Path(sys.argv[1])
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 17
temporary = pathlib.Path(tempfile.mkdtemp())
# Its script leaves a file where it runs.
os.chdir(temporary)


def write(name, cases):
    assert len(cases) >= 30, f"{name}: {len(cases)} cases"
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (folder / name).write_text(f"[\n{text}\n]\n")
    print(f"{name}: {len(cases)} cases, {(folder / name).stat().st_size} bytes")


folder = folder if folder.is_absolute() else pathlib.Path(os.environ["PWD"]) / folder
folder.mkdir(parents=True, exist_ok=True)


def number(value):
    """A figure, or None where there is none: pycocotools says -1, the others NaN."""
    value = float(value)
    return None if np.isnan(value) or value == -1 else value


def blob(random, size, least=2, most=14):
    """A rectangle or an ellipse."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    h, w = random.integers(least, most + 1, 2)
    y, x = random.integers(0, max(1, height - h)), random.integers(0, max(1, width - w))
    if random.random() < 0.5:
        return (rows >= y) & (rows < y + h) & (columns >= x) & (columns < x + w)
    return ((rows - y - h / 2) / (h / 2)) ** 2 + ((columns - x - w / 2) / (w / 2)) ** 2 <= 1


def near(random, mask, reach=2):
    """The mask moved a little, sometimes with a piece missing."""
    moved = np.roll(mask, tuple(random.integers(-reach, reach + 1, 2)), (0, 1))
    if random.random() < 0.3:
        moved[: random.integers(0, mask.shape[0])] = False
    return moved


def encode(mask):
    return masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def runs(ids):
    """Values of a map in raster order as [value, count, ...]."""
    flat = ids.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    counts = np.diff(np.concatenate([starts, [flat.size]]))
    return np.stack([flat[starts], counts], 1).ravel().tolist()


# COCO ------------------------------------------------------------------------------------------------------------------------------

CATEGORIES = [1, 3, 7, 90]


def coco_case(random, name, kind, images, max_detections=100):
    """`images` is a list of (id, size, truths, found); truths are (category, shape, area, iscrowd), found are (category, shape, score)."""
    dataset = {"info": {}, "images": [], "categories": [{"id": category} for category in CATEGORIES], "annotations": []}
    results = []

    def shape(value, size):
        return {"segmentation": {"size": list(size), "counts": value}} if kind == "segm" else {"bbox": value}

    for image_id, size, truths, found in images:
        dataset["images"].append({"id": image_id, "height": size[0], "width": size[1]})
        for category, value, area, iscrowd in truths:
            dataset["annotations"].append(
                {"id": len(dataset["annotations"]) + 1, "image_id": image_id, "category_id": category, "area": area, "iscrowd": iscrowd, **shape(value, size)}
            )
        for category, value, score in found:
            results.append({"image_id": image_id, "category_id": category, "score": score, **shape(value, size)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        if results:
            predicted = truth.loadRes(json.loads(json.dumps(results)))
        else:
            predicted = COCO()
            predicted.dataset = {**dataset, "annotations": []}
            predicted.createIndex()
        evaluation = COCOeval(truth, predicted, kind)
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, labels = evaluation.eval["precision"], evaluation.params.areaRngLbl

    def figure(area="all", step=slice(None)):
        values = precision[step, :, :, labels.index(area), 0]
        values = values[values > -1]
        return number(values.mean()) if values.size else None

    expected = {"ap": figure(), "ap_50": figure(step=0), "ap_75": figure(step=5)}
    expected |= {f"ap_{area}": figure(area) for area in ["small", "medium", "large"]}
    expected["by_category"] = [
        number(values[values > -1].mean()) if (values := precision[:, :, index, 0, 0]).max(initial=-1) > -1 else None for index in range(len(CATEGORIES))
    ]
    return {"name": name, "max_detections": max_detections, "categories": CATEGORIES, "images": images, "expected": expected}


def coco_image(random, image_id, kind, size=(24, 30), objects=6, extra=4, score_step=0.001, crowd=0.15, area=None, most=14):
    truths, found = [], []

    def shape(mask):
        if kind == "segm":
            return encode(mask)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not rows.size:
            return [0.0, 0.0, 0.0, 0.0]
        jitter = random.integers(-4, 5, 4) / 8
        left, top = columns[0] + jitter[0], rows[0] + jitter[1]
        return [float(left), float(top), float(columns[-1] + 1 - left + jitter[2]), float(rows[-1] + 1 - top + jitter[3])]

    def score():
        return round(float(np.round(random.random() / score_step) * score_step), 6)

    for _ in range(objects):
        mask = blob(random, size, most=most)
        category = int(random.choice(CATEGORIES[:3]))
        truths.append((category, shape(mask), float(mask.sum()) if area is None else area(mask), int(random.random() < crowd)))
        for _ in range(random.integers(0, 3)):
            found.append((category if random.random() < 0.85 else int(random.choice(CATEGORIES)), shape(near(random, mask)), score()))
    for _ in range(extra):
        found.append((int(random.choice(CATEGORIES)), shape(blob(random, size, most=most)), score()))
    order = random.permutation(len(found))
    return image_id, size, truths, [found[index] for index in order]


def coco_cases(kind):
    random = np.random.default_rng(seed)
    make = lambda name, *images, **options: coco_case(random, name, kind, list(images), **options)  # noqa: E731
    image = lambda number, **options: coco_image(random, number, kind, **options)  # noqa: E731
    box = lambda x, y, w, h, size=(24, 30): (  # noqa: E731
        encode(np.pad(np.ones((h, w), bool), ((y, size[0] - y - h), (x, size[1] - x - w)))) if kind == "segm" else [float(x), float(y), float(w), float(h)]
    )
    cases = [make(f"random {index}", *(image(number) for number in random.choice(500, random.integers(1, 4), replace=False).tolist())) for index in range(12)]
    size = (24, 30)
    cases += [
        make("nothing at all", (1, size, [], [])),
        make("nothing found", image(1, extra=0)[:3] + ([],)),
        make("nothing there", (1, size, [], image(1)[3])),
        make("all crowds", image(1, crowd=1.0), image(2, crowd=1.0)),
        make("crowds and objects of one category", image(4, crowd=0.5, objects=12, extra=10), image(2, crowd=0.5, objects=12)),
        make("all scores equal", image(9, score_step=1e9), image(3, score_step=1e9), image(5, score_step=1e9)),
        make("scores in steps of a quarter", image(12, score_step=0.25, objects=9), image(11, score_step=0.25, objects=9), image(10, score_step=0.25)),
        make("images without truth or prediction between", (8, size, [], []), image(6), (7, size, [], image(7)[3]), image(5)[:3] + ([],)),
        make("more than 100 found", image(1, size=(16, 16), objects=3, extra=330, most=4)),
        make("at most 5 found", image(1, objects=10, extra=8), image(2, objects=10, extra=8), max_detections=5),
        make("at most 300 found", image(1, size=(16, 16), objects=3, extra=430, most=4), max_detections=300),
        make("areas of a pixel", image(1, objects=10, most=2), image(2, objects=10, most=2)),
        make("stated areas of all ranges", *(image(number, objects=8, area=lambda _: float(random.choice([10, 1024, 1025, 5000, 9216, 9217, 20000]))) for number in [1, 2, 3])),
        make("stated areas of 0", image(1, area=lambda _: 0.0)),
        make("overlap of exactly a half", (1, size, [(1, box(0, 0, 4, 3), 12.0, 0), (1, box(0, 8, 4, 4), 16.0, 0)], [(1, box(0, 0, 4, 6), 0.9), (1, box(0, 8, 3, 4), 0.8)])),
        make("overlaps that equal thresholds", *((n, size, [(3, box(0, 0, 20, 1), 20.0, 0)], [(3, box(0, 0, n, 1), 0.5)]) for n in range(9, 21))),
        make("one object, found twice", (1, size, [(7, box(2, 2, 6, 6), 36.0, 0)], [(7, box(2, 2, 6, 6), 0.4), (7, box(2, 2, 6, 6), 0.4), (7, box(2, 3, 6, 6), 0.9)])),
        make("two equal objects", (1, size, [(7, box(2, 2, 6, 6), 36.0, 0), (7, box(2, 2, 6, 6), 36.0, 0)], [(7, box(2, 2, 6, 6), 0.4), (7, box(2, 3, 6, 6), 0.3)])),
        make("object inside a crowd", (1, size, [(7, box(0, 0, 20, 20), 400.0, 1), (7, box(2, 2, 6, 6), 36.0, 0)], [(7, box(2, 2, 6, 5), 0.9), (7, box(9, 9, 4, 4), 0.95), (7, box(10, 10, 12, 12), 0.99)])),
        make("scores below 0 and above 1", (1, size, image(1)[2], [(c, s, round(10 * score - 5, 4)) for c, s, score in image(1)[3]])),
        make("empty shapes", (1, size, [(1, box(0, 0, 0, 0), 0.0, 0), (1, box(0, 0, 3, 3), 9.0, 0)], [(1, box(0, 0, 0, 0), 0.9), (1, box(0, 0, 3, 3), 0.8)])),
        make("a category nobody has", (1, size, [(1, box(0, 0, 5, 5), 25.0, 0)], [(90, box(0, 0, 5, 5), 0.9)])),
        make("large", image(1, size=(130, 130), objects=4, extra=2, most=125), image(2, size=(130, 130), objects=4, extra=2, most=125)),
        make("perfect", (1, size, [(1, box(0, 0, 5, 5), 25.0, 0), (3, box(6, 6, 5, 5), 25.0, 0)], [(1, box(0, 0, 5, 5), 0.2), (3, box(6, 6, 5, 5), 0.1)])),
    ]
    return cases


write("coco_masks.json", coco_cases("segm"))
write("coco_boxes.json", coco_cases("bbox"))


# Polygons ---------------------------------------------------------------------------------------------------------------------------


def polygon_case(name, size, polygons):
    coded = masks.merge(masks.frPyObjects(polygons, *size))
    return {"name": name, "size": size, "polygons": polygons, "counts": coded["counts"].decode()}


def polygon_cases():
    random = np.random.default_rng(seed + 6)
    cases = []
    for index in range(40):
        size = [int(random.integers(1, 40)), int(random.integers(1, 40))]
        digits = int(random.integers(0, 3))
        polygons = []
        for _ in range(random.integers(1, 4)):
            corners = random.integers(3, 9)
            low, high = (-0.5, 1.5) if random.random() < 0.3 else (0, 1)
            points = random.uniform(low, high, (corners, 2)) * [size[1], size[0]]
            polygons.append([float(value) for value in np.round(points, digits).ravel()])
        cases.append(polygon_case(f"random {index}", size, polygons))
    cases += [
        polygon_case("pixel corners", [8, 8], [[1, 1, 5, 1, 5, 4, 1, 4]]),
        polygon_case("halves", [8, 8], [[0.5, 0.5, 5.5, 0.5, 5.5, 4.5, 0.5, 4.5]]),
        polygon_case("corners twice", [8, 8], [[1, 1, 1, 1, 6, 1, 6, 6, 6, 6, 6, 6]]),
        polygon_case("a point", [8, 8], [[3, 3, 3, 3, 3, 3]]),
        polygon_case("a line", [8, 8], [[1, 1, 6, 6, 1, 1]]),
        polygon_case("all of it", [8, 8], [[0, 0, 8, 0, 8, 8, 0, 8]]),
        polygon_case("all of it and more", [8, 8], [[-3, -3, 11, -3, 11, 11, -3, 11]]),
        polygon_case("outside", [8, 8], [[-5, -5, -1, -5, -1, -1, -5, -1]]),
        polygon_case("crosses itself", [16, 16], [[1, 1, 14, 14, 14, 1, 1, 14]]),
        polygon_case("one inside another", [16, 16], [[1, 1, 14, 1, 14, 14, 1, 14], [4, 4, 9, 4, 9, 9, 4, 9]]),
        polygon_case("clockwise and not", [16, 16], [[1, 1, 14, 1, 14, 5], [1, 8, 14, 14, 14, 8]]),
        polygon_case("thin", [16, 16], [[1, 1, 14, 1.2, 14, 1.4, 1, 1.3]]),
    ]
    return cases


write("polygons.json", polygon_cases())


# Panoptic --------------------------------------------------------------------------------------------------------------------------

PANOPTIC_CATEGORIES = {2: 1, 5: 1, 17: 0, 200: 0}


def ids_to_png(ids, path):
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    Image.fromarray(rgb).save(path)


def panoptic_case(name, images):
    """`images` is a list of (size, true ids, [[id, category, area, iscrowd]], predicted ids, [[id, category]])."""
    categories = {number: {"id": number, "isthing": isthing} for number, isthing in PANOPTIC_CATEGORIES.items()}
    pairs = []
    for index, (_, truth, true_segments, predicted, segments) in enumerate(images):
        ids_to_png(truth, temporary / f"truth{index}.png")
        ids_to_png(predicted, temporary / f"predicted{index}.png")
        pairs.append(
            (
                {"image_id": index, "file_name": f"truth{index}.png", "segments_info": [dict(zip(["id", "category_id", "area", "iscrowd"], s)) for s in true_segments]},
                {"image_id": index, "file_name": f"predicted{index}.png", "segments_info": [dict(zip(["id", "category_id"], s)) for s in segments]},
            )
        )
    with contextlib.redirect_stdout(io.StringIO()):
        counts = city_panoptic.pq_compute_single_core(0, pairs, str(temporary), str(temporary), categories)

    def averages(isthing):
        try:
            return counts.pq_average(categories, isthing)[0]
        except ZeroDivisionError:
            return {}

    every, things, stuff = averages(None), averages(True), averages(False)
    expected = {key: every.get(key) for key in ["pq", "sq", "rq"]} | {"pq_things": things.get("pq"), "pq_stuff": stuff.get("pq")}
    return {
        "name": name,
        "categories": [[number, bool(isthing)] for number, isthing in PANOPTIC_CATEGORIES.items()],
        "images": [[size, runs(truth), true_segments, runs(predicted), segments] for size, truth, true_segments, predicted, segments in images],
        "expected": expected,
    }


def panoptic_image(random, size=(26, 32), segments=8, extra=1, crowd=0.1, void=0.2, most=16, same=None):
    truth, true_segments = np.zeros(size, np.int64), []
    predicted, found = np.zeros(size, np.int64), []
    numbers = random.choice(70_000, segments, replace=False) + 1
    for place, identity in enumerate(numbers):
        mask = blob(random, size, most=most)
        category = int(same or random.choice(list(PANOPTIC_CATEGORIES)))
        truth[mask] = identity
        true_segments.append([int(identity), category, 0, int(random.random() < crowd)])
        if random.random() < 0.8:
            predicted[near(random, mask, 1)] = place + 1
            found.append([place + 1, category if random.random() < 0.9 else int(random.choice(list(PANOPTIC_CATEGORIES)))])
    for place in range(segments, segments + extra):
        predicted[blob(random, size, most=most)] = place + 1
        found.append([place + 1, int(same or random.choice(list(PANOPTIC_CATEGORIES)))])
    truth[np.random.default_rng(random.integers(1 << 30)).random(size) < void * random.random()] = 0
    for segment in true_segments:
        segment[2] = int((truth == segment[0]).sum())
    return (
        size,
        truth,
        [segment for segment in true_segments if segment[2]],
        predicted,
        [segment for segment in found if (predicted == segment[0]).any()],
    )


def panoptic_cases():
    random = np.random.default_rng(seed + 1)
    image = lambda **options: panoptic_image(random, **options)  # noqa: E731
    size = (4, 8)
    half = np.zeros(size, np.int64)
    half[:, :4] = 7
    one = np.ones(size, np.int64)
    nothing = np.zeros(size, np.int64)
    cases = [panoptic_case(f"random {index}", [image() for _ in range(random.integers(1, 4))]) for index in range(14)]
    cases += [
        panoptic_case("nothing at all", [(size, nothing, [], nothing, [])]),
        panoptic_case("nothing found", [(size, half, [[7, 2, 16, 0]], nothing, [])]),
        panoptic_case("found in void", [(size, nothing, [], one, [[1, 17]])]),
        panoptic_case("half in void: still wrong", [(size, half, [[7, 5, 16, 0]], one, [[1, 17]])]),
        panoptic_case("overlap of exactly a half", [(size, one, [[1, 2, 32, 0]], half, [[7, 2]])]),
        panoptic_case("void does not count in the union", [(size, half, [[7, 2, 16, 0]], one, [[1, 2]])]),
        panoptic_case("crowd of the class", [(size, one, [[1, 2, 32, 1]], half, [[7, 2]])]),
        panoptic_case("crowd of another class", [(size, one, [[1, 5, 32, 1]], half, [[7, 2]])]),
        panoptic_case("two crowds of a class: the last counts", [(size, half + 1, [[1, 2, 16, 1], [8, 2, 16, 1]], one, [[1, 2]])]),
        panoptic_case("all crowds", [image(crowd=1.0), image(crowd=1.0)]),
        panoptic_case("much void", [image(void=1.0), image(void=1.0)]),
        panoptic_case("no void", [image(void=0.0, segments=12, most=20)]),
        panoptic_case("segments of a pixel", [image(most=2, segments=12, extra=6), image(most=2, segments=12)]),
        panoptic_case("many segments", [image(size=(32, 32), segments=150, extra=60, most=6)]),
        panoptic_case("stuff alone", [image(same=17), image(same=17)]),
        panoptic_case("things alone", [image(same=2), image(same=2)]),
        panoptic_case("stated area above that of the pixels", [(size, half, [[7, 2, 40, 0]], half, [[7, 2]])]),
        panoptic_case("wrong class", [(size, half, [[7, 2, 16, 0]], half, [[7, 5]])]),
        panoptic_case("perfect", [(size, half + 1, [[1, 17, 16, 0], [8, 2, 16, 0]], half + 1, [[1, 17], [8, 2]])]),
        panoptic_case("ids of three bytes", [(size, half * 1_000_000, [[7_000_000, 2, 16, 0]], half * 2_000_000, [[14_000_000, 2]])]),
    ]
    return cases


write("panoptic.json", panoptic_cases())


# Cityscapes, instances ---------------------------------------------------------------------------------------------------------------

INSTANCES = [24, 25, 26, 27, 28, 31, 32, 33]


def cityscapes_case(name, images):
    """`images` is a list of (size, instanceIds, [[label, counts, score]])."""
    truths, predictions = [], []
    for index, (size, ids, found) in enumerate(images):
        path = temporary / f"city{index}_gtFine_instanceIds.png"
        Image.fromarray(ids.astype(np.uint16)).save(path)
        lines = []
        for place, (label, counts, score) in enumerate(found):
            mask = masks.decode({"size": list(size), "counts": counts})
            Image.fromarray(mask * 255).save(temporary / f"city{index}_{place}.png")
            lines.append(f"city{index}_{place}.png {label} {score!r}\n")
        (temporary / f"city{index}.txt").write_text("".join(lines))
        truths.append(str(path))
        predictions.append(str(temporary / f"city{index}.txt"))
    args = city_instances.args
    args.quiet, args.JSONOutput = True, False
    args.predictionPath = str(temporary)
    args.gtInstancesFile = str(temporary / "gtInstances.json")
    pathlib.Path(args.gtInstancesFile).unlink(missing_ok=True)
    with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            averages = city_instances.evaluateImgLists(predictions, truths, args)["averages"]
        except IndexError:
            # The script fails where a class has objects and predictions and every prediction is ignored.
            return None
    assert args.instLabels == list(averages["classes"])
    return {
        "name": name,
        "images": [[size, runs(ids), found] for size, ids, found in images],
        "expected": {
            "ap": number(averages["allAp"]),
            "ap_50": number(averages["allAp50%"]),
            "by_class": [number(averages["classes"][label]["ap"]) for label in args.instLabels],
        },
    }


def cityscapes_image(random, size=(36, 48), objects=7, extra=3, score_step=0.001, group=0.2, void=0.2, most=26, least=4, labels=INSTANCES[:4]):
    ids = random.choice([7, 11, 21, 23], size[0]).reshape(-1, 1).repeat(size[1], 1)
    found = []
    score = lambda: round(float(np.round(random.random() / score_step) * score_step), 6)  # noqa: E731
    for place in range(objects):
        mask = blob(random, size, least, most)
        label = int(random.choice(labels))
        if random.random() < void:
            ids[mask] = random.choice([0, 1, 4, 5, 9, 29, 30, 29_001])
        else:
            ids[mask] = label if random.random() < group else 1000 * label + place
        for _ in range(random.integers(0, 3)):
            found.append([label if random.random() < 0.9 else int(random.choice(INSTANCES)), encode(near(random, mask)), score()])
    for _ in range(extra):
        found.append([int(random.choice(labels)), encode(blob(random, size, least, most)), score()])
    return size, ids, found


def cityscapes_cases():
    random = np.random.default_rng(seed + 2)
    image = lambda **options: cityscapes_image(random, **options)  # noqa: E731
    size = (20, 30)

    def ids(*patches, background=7):
        values = np.full(size, background)
        for value, y, x, h, w in patches:
            values[y : y + h, x : x + w] = value
        return values

    def box(y, x, h, w):
        return encode(ids((1, y, x, h, w), background=0) == 1)

    cases = []
    while len(cases) < 14:
        case = cityscapes_case(f"random {len(cases)}", [image() for _ in range(random.integers(1, 4))])
        cases += [case] if case else []
    cases += [
        cityscapes_case("no object and nothing found", [(size, ids(), [])]),
        cityscapes_case("nothing found", [(size, ids((26001, 0, 0, 12, 12)), [])]),
        cityscapes_case("nothing there", [(size, ids(), [[26, box(0, 0, 12, 12), 0.5]])]),
        cityscapes_case("99 and 100 pixels", [(size, ids((26001, 0, 0, 10, 10), (26002, 10, 0, 9, 11), (24001, 0, 15, 10, 10)), [[26, box(0, 0, 10, 10), 0.5], [26, box(10, 0, 9, 11), 0.9], [24, box(0, 15, 10, 9), 0.7]])]),
        cityscapes_case("in a group", [(size, ids((26, 0, 0, 12, 12), (26001, 0, 14, 12, 12)), [[26, box(0, 0, 12, 6), 0.9], [26, box(0, 14, 12, 12), 0.5]])]),
        cityscapes_case("in a group of another class", [(size, ids((24, 0, 0, 12, 12), (26001, 0, 14, 12, 12)), [[26, box(0, 0, 12, 6), 0.9], [26, box(0, 14, 12, 12), 0.5]])]),
        cityscapes_case("small group: counts twice", [(size, ids((26, 0, 0, 6, 6), (26001, 0, 14, 12, 12)), [[26, box(0, 0, 6, 18), 0.9], [26, box(0, 14, 12, 12), 0.5]])]),
        cityscapes_case("half in void", [(size, ids((4, 0, 0, 12, 6), (26001, 0, 14, 12, 12)), [[26, box(0, 0, 12, 12), 0.9], [26, box(0, 14, 12, 12), 0.5]])]),
        cityscapes_case("mostly in void", [(size, ids((5, 0, 0, 12, 8), (26001, 0, 14, 12, 12)), [[26, box(0, 0, 12, 12), 0.9], [26, box(0, 14, 12, 12), 0.5]])]),
        cityscapes_case("found three times", [(size, ids((26001, 0, 0, 12, 12)), [[26, box(0, 0, 12, 12), 0.5], [26, box(0, 0, 12, 12), 0.5], [26, box(0, 0, 12, 11), 0.9]])]),
        cityscapes_case("overlap of exactly a half", [(size, ids((26001, 0, 0, 10, 20)), [[26, box(0, 0, 10, 10), 0.5]])]),
        cityscapes_case("overlaps that equal thresholds", [(size, ids((26001, 0, 0, 10, 20)), [[26, box(0, 0, 10, n), 0.5]]) for n in range(10, 21)]),
        cityscapes_case("all scores equal", [image(score_step=1e9), image(score_step=1e9), image(score_step=1e9)]),
        cityscapes_case("scores in steps of a quarter", [image(score_step=0.25, objects=12, extra=6), image(score_step=0.25, objects=12)]),
        cityscapes_case("all groups but one", [image(group=1.0), (size, ids((25003, 0, 0, 11, 10)), [])]),
        cityscapes_case("small objects", [image(most=13, least=6, objects=16, extra=6), image(most=13, least=6, objects=16)]),
        cityscapes_case("more than 100 found", [image(size=(24, 24), objects=3, extra=130, most=14, labels=[26])]),
        cityscapes_case("all classes", [image(labels=INSTANCES, objects=14, size=(60, 60)), image(labels=INSTANCES, objects=14, size=(60, 60))]),
        cityscapes_case("perfect", [(size, ids((26001, 0, 0, 12, 12), (33001, 0, 14, 12, 12)), [[26, box(0, 0, 12, 12), 0.1], [33, box(0, 14, 12, 12), 0.2]])]),
        cityscapes_case("empty mask", [(size, ids((26001, 0, 0, 12, 12)), [[26, box(0, 0, 0, 0), 0.9]])]),
    ]
    return [case for case in cases if case]


write("cityscapes_instances.json", cityscapes_cases())


# Semantic ------------------------------------------------------------------------------------------------------------------------------

LABEL_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def label_map(random, size, values, patches=8):
    labels = np.full(size, values[0])
    for _ in range(patches):
        labels[blob(random, size)] = random.choice(values)
    return labels


def cityscapes_semantic_case(name, images):
    args = city_pixels.args
    args.evalInstLevelScore, args.evalPixelAccuracy, args.quiet = False, False, True
    args.evalLabels = []
    matrix = city_pixels.generateMatrix(args)
    right = labelled = 0
    for truth, predicted in images:
        Image.fromarray(truth.astype(np.uint8)).save(temporary / "truth.png")
        Image.fromarray(predicted.astype(np.uint8)).save(temporary / "predicted.png")
        city_pixels.evaluatePair(str(temporary / "predicted.png"), str(temporary / "truth.png"), matrix, {}, {}, args)
        counted = np.isin(truth, LABEL_IDS)
        labelled += counted.sum()
        right += (counted & (truth == predicted)).sum()
    scores = {label: city_pixels.getIouScoreForLabel(label, matrix, args) for label in LABEL_IDS}
    return {
        "name": name,
        "tool": "cityscapes",
        "images": [[runs(truth), runs(predicted)] for truth, predicted in images],
        "expected": {
            "mean_iou": number(city_pixels.getScoreAverage(scores, args)),
            "ious": [number(scores[label]) for label in LABEL_IDS],
            "pixel_accuracy": float(right / labelled) if labelled else None,
        },
    }


def ade20k_mean_iou(images, classes):
    """The rule of the scene parsing benchmark: what is predicted where the label is 0 is dropped, class 0 has no score."""
    intersection, union = np.zeros(classes), np.zeros(classes)
    for truth, predicted in images:
        predicted = predicted * (truth > 0)
        both = predicted * (predicted == truth)
        count = lambda values: np.histogram(values, bins=classes, range=(1, classes))[0]  # noqa: E731
        intersection += count(both)
        union += count(predicted) + count(truth) - count(both)
    return [number(value) for value in np.where(union > 0, intersection / np.maximum(union, 1), np.nan)]


def ade20k_case(random, name, images, classes=6):
    scores = ade20k_mean_iou(images, classes)
    labelled = sum((truth > 0).sum() for truth, _ in images)
    right = sum(((truth > 0) & (truth == predicted)).sum() for truth, predicted in images)
    there = [score for score in scores if score is not None]
    return {
        "name": name,
        "tool": "ade20k",
        "classes": classes,
        "images": [[runs(truth), runs(predicted)] for truth, predicted in images],
        "expected": {"mean_iou": float(np.mean(there)) if there else None, "ious": scores, "pixel_accuracy": float(right / labelled) if labelled else None},
    }


def semantic_cases():
    random = np.random.default_rng(seed + 3)
    size = (16, 20)

    def pair(values, predicted_values):
        truth = label_map(random, size, values)
        predicted = np.where(random.random(size) < 0.7, truth, label_map(random, size, predicted_values))
        return truth, predicted

    every = list(range(34))
    cases = [cityscapes_semantic_case(f"random {index}", [pair(every, every) for _ in range(random.integers(1, 4))]) for index in range(14)]
    void, road = np.zeros(size, int), np.full(size, 7)
    cases += [
        cityscapes_semantic_case("void alone", [(void, road)]),
        cityscapes_semantic_case("void is predicted", [(road, void)]),
        cityscapes_semantic_case("perfect", [(road, road)]),
        cityscapes_semantic_case("all wrong", [(road, road + 1)]),
        cityscapes_semantic_case("void in half", [pair([0, 7, 8], [7, 8, 11])]),
        cityscapes_semantic_case("a class in void alone", [(np.where(np.arange(20) < 10, 0, 7) + void, np.where(np.arange(20) < 10, 26, 7) + void)]),
    ]
    cases += [ade20k_case(random, f"ade20k {index}", [pair(range(7), range(1, 7)) for _ in range(random.integers(1, 4))]) for index in range(10)]
    cases += [ade20k_case(random, "ade20k, nothing labelled", [(void, void + 1)]), ade20k_case(random, "ade20k, perfect", [(void + 2, void + 2)])]
    return cases


write("semantic.json", semantic_cases())


# Classification --------------------------------------------------------------------------------------------------------------------------


def top_k_case(name, logits, targets):
    order = np.argsort(-logits, axis=1, kind="stable")
    hits = order == np.asarray(targets)[:, None]
    share = lambda k: float(hits[:, :k].any(1).mean()) if len(targets) else None  # noqa: E731
    return {"name": name, "logits": logits.tolist(), "targets": list(map(int, targets)), "expected": {"top1": share(1), "top5": share(5)}}


def top_k_cases():
    random = np.random.default_rng(seed + 4)
    cases = []
    for index in range(32):
        classes, images = random.integers(2, 12), random.integers(1, 12)
        step = random.choice([0.01, 0.5, 2.0])
        logits = np.round(random.normal(size=(images, classes)) / step) * step + 0.0
        cases.append(top_k_case(f"random {index}, in steps of {step}", logits, random.integers(0, classes, images)))
    cases.append(top_k_case("all equal", np.zeros((8, 8)), range(8)))
    return cases


write("top_k.json", top_k_cases())


# Objects, without scores -----------------------------------------------------------------------------------------------------------------


def object_case(name, images):
    thresholds = [(50 + 5 * step) / 100 for step in range(10)]
    figures = matching_dataset([truth for truth, _ in images], [found for _, found in images], thresh=thresholds, show_progress=False)
    return {
        "name": name,
        "images": [[list(truth.shape), runs(truth), runs(found)] for truth, found in images],
        "expected": [float(figure.accuracy) for figure in figures],
    }


def object_cases():
    random = np.random.default_rng(seed + 5)

    def image(size=(20, 24), objects=8, extra=2, most=12, least=2):
        truth, found = np.zeros(size, np.int32), np.zeros(size, np.int32)
        for place in range(1, objects + 1):
            mask = blob(random, size, least, most)
            truth[mask] = place
            if random.random() < 0.85:
                found[near(random, mask)] = place + 3
        for place in range(extra):
            found[blob(random, size, least, most)] = objects + 10 + place
        return truth, found

    size = (8, 20)
    nothing, whole, half = np.zeros(size, np.int32), np.ones(size, np.int32), np.zeros(size, np.int32)
    half[:4] = 5
    two = half.copy()
    two[4:] = 9
    stripes = [(np.where(np.arange(20) < 20, 1, 0).astype(np.int32)[None], np.where(np.arange(20) < n, 1, 0).astype(np.int32)[None]) for n in range(9, 21)]
    cases = [object_case(f"random {index}", [image() for _ in range(random.integers(1, 4))]) for index in range(20)]
    cases += [
        object_case("nothing at all", [(nothing, nothing)]),
        object_case("nothing found", [(whole, nothing)]),
        object_case("nothing there", [(nothing, whole)]),
        object_case("overlap of exactly a half", [(whole, half)]),
        object_case("two found for one, both by a half", [(whole, two)]),
        object_case("one found for two, both by a half", [(two, whole)]),
        object_case("overlaps that equal thresholds", stripes),
        object_case("perfect", [(two, two), (half, half)]),
        object_case("objects of a pixel", [image(most=2, objects=20), image(most=2, objects=20)]),
        object_case("more than 100 objects", [image(size=(48, 48), objects=160, extra=20, most=6)]),
        object_case("an image without objects between", [image(), (nothing, nothing), image()]),
    ]
    return cases


write("object_accuracy.json", object_cases())

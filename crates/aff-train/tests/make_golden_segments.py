"""Writes tests/data/segments.json: matching and losses of instance and panoptic targets, by PyTorch's own operators.

    python make_golden_segments.py        (needs torch)

A batch of two images of 8 x 12 pixels; five queries with masks of 4 x 6; three classes. The instance targets are masks that
overlap, one of them a crowd; the panoptic ones are a map of ids with pixels that belong to none, and a crowd. Crowds are no
targets. Matching tries every assignment. The points are given, so that nothing is random.
"""

import itertools
import json
import pathlib

import torch
import torch.nn.functional as F

BATCH, QUERIES, CLASSES, HEIGHT, WIDTH, ROWS, COLUMNS = 2, 5, 3, 4, 6, 8, 12
CLASS, MASK, DICE, NO_OBJECT = 2.0, 5.0, 5.0, 0.1

torch.manual_seed(7)
logits = (torch.randn(BATCH, QUERIES, CLASSES + 1, dtype=torch.float64) * 1.5).round(decimals=3)
masks = (torch.randn(BATCH, QUERIES, HEIGHT, WIDTH, dtype=torch.float64) * 2).round(decimals=3)
points = torch.tensor([[((37 * p) % 101) / 101.0, ((53 * p) % 97) / 97.0] for p in range(30)] + [[0.0, 0.0], [0.999, 0.999]], dtype=torch.float64)


def rectangle(top, left, bottom, right):
    mask = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


# Class, crowd, mask.
instances = [
    [(0, False, rectangle(0, 0, 5, 6)), (2, False, rectangle(3, 4, 8, 9)), (1, True, rectangle(0, 8, 3, 12)), (0, False, rectangle(1, 7, 2, 11))],
    [(1, False, rectangle(2, 2, 7, 10))],
]
ids = [rectangle(0, 0, 8, 5).long() + 2 * rectangle(0, 5, 4, 12).long() + 3 * rectangle(4, 8, 8, 12).long() for _ in range(BATCH)]
kinds = [[(2, False), (0, False), (0, True)], [(1, False), (2, False), (0, False)]]
panoptic = [[(label, crowd, ids[b] == place + 1) for place, (label, crowd) in enumerate(kinds[b])] for b in range(BATCH)]


def sample(maps):
    grid = (2 * points - 1).reshape(1, 1, -1, 2)
    return F.grid_sample(maps.unsqueeze(0), grid, align_corners=False, padding_mode="zeros")[0, :, 0]


def pair_losses(x, t):
    p = x.sigmoid()
    return F.binary_cross_entropy_with_logits(x, t), 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def evaluate(images):
    wanted = torch.full((BATCH, QUERIES), CLASSES)
    mask_loss = dice_loss = torch.zeros((), dtype=torch.float64)
    matching, count = [], 0
    for b, segments in enumerate(images):
        segments = [(label, mask) for label, crowd, mask in segments if not crowd]
        count += len(segments)
        x = sample(masks[b])
        t = sample(torch.stack([mask for _, mask in segments]).double())
        cost = torch.zeros(len(segments), QUERIES, dtype=torch.float64)
        for s, (label, _) in enumerate(segments):
            for q in range(QUERIES):
                bce, dice = pair_losses(x[q], t[s])
                cost[s, q] = -CLASS * logits[b, q].softmax(-1)[label] + MASK * bce + DICE * dice
        best = min(itertools.permutations(range(QUERIES), len(segments)), key=lambda qs: sum(cost[s, q] for s, q in enumerate(qs)).item())
        matching.append(list(best))
        for s, q in enumerate(best):
            wanted[b, q] = segments[s][0]
            bce, dice = pair_losses(x[q], t[s])
            mask_loss, dice_loss = mask_loss + bce, dice_loss + dice
    weight = torch.tensor([1.0] * CLASSES + [NO_OBJECT], dtype=torch.float64)
    return {
        "matching": matching,
        "class": CLASS * F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weight=weight).item(),
        "mask": MASK * mask_loss.item() / count,
        "dice": DICE * dice_loss.item() / count,
    }


golden = {
    "class_logits": logits.flatten().tolist(),
    "mask_logits": masks.flatten().tolist(),
    "points": points.tolist(),
    "instance": {
        "images": [[{"class": c, "crowd": crowd, "bitmap": mask.flatten().long().tolist()} for c, crowd, mask in image] for image in instances],
        **evaluate(instances),
    },
    "panoptic": {
        "images": [[{"class": c, "crowd": crowd, "bitmap": mask.flatten().long().tolist()} for c, crowd, mask in image] for image in panoptic],
        **evaluate(panoptic),
    },
}
path = pathlib.Path(__file__).parent / "data" / "segments.json"
path.write_text(json.dumps(golden) + "\n")
print({task: {key: golden[task][key] for key in ("matching", "class", "mask", "dice")} for task in ("instance", "panoptic")})

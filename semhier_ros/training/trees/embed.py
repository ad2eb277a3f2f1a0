"""Text embeddings of class names by open_clip: prompt ensembles, any model, weights from a local file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROMPTS = (
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of the large {}.",
    "a photo of the small {}.",
    "itap of a {}.",
    "art of the {}.",
    "a {} in a video game.",
)


def embed(
    names: Sequence[str], model: str, checkpoint: str, prompts: Sequence[str] = PROMPTS, device: str = "cpu"
) -> NDArray[np.float32]:
    """Unit rows (names, d): each name's mean over prompts (templates with one `{}`) of unit text embeddings.

    model: open_clip's name, `ViT-B-32` say; checkpoint: a local weights file, or a tag that open_clip can fetch.
    Raises ModuleNotFoundError without open_clip, ValueError for prompts without a place for the name.
    """
    for prompt in prompts:
        if prompt.count("{}") != 1:
            raise ValueError(f"prompt {prompt!r}: exactly one {{}} is needed")
    if not prompts:
        raise ValueError("prompts: at least one is needed")
    import open_clip
    import torch

    network: Any = open_clip.create_model(model, pretrained=checkpoint, device=device)
    network.eval()
    tokenize = open_clip.get_tokenizer(model)
    rows = []
    with torch.inference_mode():
        for name in names:
            texts = tokenize([prompt.format(name) for prompt in prompts]).to(device)
            encoded = network.encode_text(texts).float()
            mean = (encoded / encoded.norm(dim=-1, keepdim=True)).mean(dim=0)
            rows.append((mean / mean.norm()).cpu().numpy())
    result: NDArray[np.float32] = np.stack(rows).astype(np.float32)
    return result

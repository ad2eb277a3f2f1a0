"""The picture codec (`training.picture`) on photos, told what semantic blocks say (`imagenet_crops`)."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semhier_ros.training import picture
from semhier_ros.training.errors import MissingFile
from semhier_ros.training.imagenet_crops import whole_image_crops
from semhier_ros.training.packed import last_packed
from semhier_ros.training.picture_form import PAINTED, load_picture
from semhier_ros.training.picture_samples import WHOLE_IMAGES, CropSource, PictureSamples
from semhier_ros.training.settings import Option


def stored_squares(out: Path, count: int) -> NDArray[np.uint8]:
    """`count` of the squares that `photos.cache_pixels` stored under `out`, evenly taken (count,192,192,3).

    Raises:
        MissingFile: nothing is stored there.
    """
    stored = last_packed(out, "pixels")
    if stored is None:
        raise MissingFile(f"{out}: no pixels.json; run `semhier train imagenet picture` first")
    pixels, notes = stored
    return pixels[np.linspace(0, len(notes["rows"]) - 1, count).astype(int)]


def check(options: argparse.Namespace) -> None:
    """Raises TrainingError or MissingFile for what `train` cannot run with."""
    if options.take is None:
        picture.check_form(options)
    elif not options.take.is_file():
        raise MissingFile(f"take: {options.take} is missing; a checkpoint of a picture codec wanted")


def train(options: argparse.Namespace) -> Path:
    """Train a picture codec on whole images alone, or take one that `semhier train road picture --whole-images` trained
    for both kinds of model."""
    if options.take is not None:
        load_picture(options.take, WHOLE_IMAGES)
        return Path(shutil.copy(options.take, options.out / PAINTED))
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    sources: dict[CropSource, float] = {whole_image_crops(options.data, options.out, options.taxonomy): 1.0}
    return picture.optimise(options, PictureSamples(sources, options.crop, options.seed))


CHECKS = {"train": check}
OPTIONS = (
    Option("take", Path, None, "checkpoint of a codec that knows whole images: taken as it is"),
    Option("steps", int, 30_000, "of what is sent", least=0),
    Option("minutes", float, 600.0, "anneal to this much time if steps take longer", above=0),
    *picture.FORM,
)

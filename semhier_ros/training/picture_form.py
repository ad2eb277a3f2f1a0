"""From a trained picture codec to what a model folder ships: its transforms for one kind of meaning, integer contexts,
and tables counted on what the codec really sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from semhier_ros.codec.entropy import PRECISION, Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT
from semhier_ros.codec.model_folder import KINDS, read_card
from semhier_ros.codec.picture_blocks import CodedPicture, PictureBlocks
from semhier_ros.codec.picture_walk import PictureGroup, channels_of
from semhier_ros.scene.folder import read_scene_folder
from semhier_ros.torch.picture import GROUPS, MAX_SCALE, MIN_SCALE, Context, PictureModel, centroid_shift
from semhier_ros.training.checkpoint import load_checkpoint
from semhier_ros.training.errors import MissingFile, TrainingError
from semhier_ros.training.integer_form import fill_linear, float_context, float_layers, integer_context, scale_table
from semhier_ros.training.picture_samples import SCENES, WHOLE_IMAGES

MEANING_OF_KIND = dict(zip(KINDS, (SCENES, WHOLE_IMAGES), strict=True))
PAINTED = "painted.pt"  # beside `picture.pt`: the same codec with a synthesis that was trained on
TABLE_ROWS, TABLE_HALF = 64, 127
COUNTED_AS = 300  # symbols that the Gaussian of a row counts as beside those that were seen


class PictureParts(NamedTuple):
    """A picture codec ready to ship: `groups` that it codes, its `model` for the wanted meaning (float), and the
    stream's tables, networks and shifts."""

    groups: tuple[PictureGroup, ...]
    model: PictureModel
    tables: dict[str, Tables]
    networks: dict[str, IntegerNetwork]
    shifts: NDArray[np.uint8]

    def blocks(self) -> PictureBlocks:
        """The coder of these parts."""
        return PictureBlocks.assemble(self.groups, self.tables, self.networks, self.shifts)


def picture_checkpoint(out: Path) -> Path:
    """The last checkpoint that the picture stage left in `out`, painted if it came so far."""
    painted = out / PAINTED
    return painted if painted.exists() else out / "picture.pt"


def load_picture(path: Path, meaning: str, groups: int = len(GROUPS)) -> PictureParts:
    """The first `groups` groups of the codec that the picture stage left at `path`, with the planes of `meaning`.

    Raises:
        FileNotFoundError: no checkpoint lies there. ValueError: it knows nothing of that meaning.
    """
    saved = load_checkpoint(path)
    if saved is None:
        raise MissingFile(f"{path}: missing; train the picture stage first")
    if meaning not in saved["planes"]:
        raise TrainingError(f"{path}: made for {', '.join(saved['planes'])}, not for {meaning}")
    kept = GROUPS[:groups]
    planes = slice(*saved["planes"][meaning])
    model = PictureModel(planes.stop - planes.start, kept)
    model.load_state_dict(narrow(saved["average"], planes, channels_of(GROUPS), kept))
    model.eval().requires_grad_(False)
    for tensor in model.state_dict().values():
        tensor.copy_(tensor.half().float())
    tables, scales = scale_table(MIN_SCALE, MAX_SCALE, TABLE_ROWS, TABLE_HALF)
    networks: dict[str, IntegerNetwork] = {}
    for number, context in enumerate(model.contexts):
        networks |= context_networks(number, context, scales)
    shifts = np.rint(centroid_shift(torch.from_numpy(scales)).numpy() * UNIT).astype(np.uint8)
    return PictureParts(kept, model, {"picture": tables}, networks, shifts)


def shipped_picture(folder: Path, planes: int, groups: int) -> PictureParts:
    """The picture codec of a folder of scenes as it is, tables and all; only the model's contexts are left out, which
    the networks stand for. planes: nodes that its painter must know of; groups: how many picture blocks it must have.

    Raises:
        TrainingError: it has others. ModelError: the folder is none.
    """
    stream = read_scene_folder(folder).stream
    found = 1 + len(stream.layout.parents[0]), tuple(stream.layout.picture_groups)
    if found != (planes, GROUPS[:groups]):
        raise TrainingError(
            f"pictures: {folder} paints {found[0]} planes out of {len(found[1])} picture blocks, not {planes} out of "
            f"{groups}"
        )
    model = PictureModel(planes, GROUPS[:groups])
    weights = load_file(folder / "weights.safetensors")
    for name in ("analysis", "synthesis"):
        prefix = f"picture_{name}.{name}."
        part = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        getattr(model, name).load_state_dict({key: value.float() for key, value in part.items()})
    model.eval().requires_grad_(False)
    own = {name: network for name, network in stream.networks.items() if name.startswith("picture_")}
    return PictureParts(GROUPS[:groups], model, {"picture": stream.tables["picture"]}, own, stream.picture_shifts)


def start_picture(model: PictureModel, planes: Mapping[str, tuple[int, int]], folders: Iterable[Path]) -> None:
    """Begin with the codec that model folders ship: all of it from the one with the most picture blocks, the planes of
    each kind of meaning from a folder of that kind.

    Raises:
        FileNotFoundError: a folder lacks a file. ValueError: none has all blocks, or one is of another form.
    """
    found = {}
    for folder in folders:
        card = read_card(folder)
        found[folder] = card, load_file(folder / "weights.safetensors")
    most = max(found, key=lambda folder: len(found[folder][0]["layout"]["picture_groups"]), default=None)
    if most is None or [tuple(g) for g in found[most][0]["layout"]["picture_groups"]] != [tuple(g) for g in GROUPS]:
        raise TrainingError(f"start: none of {', '.join(map(str, found))} has the picture blocks {GROUPS}")
    weights = {name.partition(".")[2]: v.float() for name, v in found[most][1].items() if name.startswith("picture_")}
    own = model.state_dict()
    channels, start = channels_of(GROUPS), own["synthesis.start.weight"]
    start[:, :channels] = weights["synthesis.start.weight"][:, :channels]
    start[:, -len(GROUPS) :] = weights["synthesis.start.weight"][:, -len(GROUPS) :]
    for card, tensors in found.values():
        meaning = MEANING_OF_KIND[card.get("kind", KINDS[0])]
        if meaning in planes:
            kept = channels_of([PictureGroup(*group) for group in card["layout"]["picture_groups"]])
            place = slice(*(channels + plane for plane in planes[meaning]))
            told = slice(kept, kept + place.stop - place.start)
            start[:, place] = tensors["picture_synthesis.synthesis.start.weight"][:, told].float()
    model.load_state_dict(own | weights | {"synthesis.start.weight": start}, strict=True)
    stream = load_numpy(most / "stream.safetensors")
    scales = scale_table(MIN_SCALE, MAX_SCALE, TABLE_ROWS, TABLE_HALF)[1]
    for number, context in enumerate(model.contexts):
        parts: dict[str, dict[str, Any]] = {"features": {}, "expect": {}}
        for name, value in stream.items():
            for part, arrays in parts.items():
                if name.startswith(f"networks/picture_{number}_{part}/"):
                    arrays[name.rpartition("/")[2]] = value
        ((weight, bias),) = float_layers(IntegerNetwork.from_arrays(parts["features"]))
        fill_linear(context.features, weight, bias)
        layers = (context.hidden, context.second, context.out)
        float_context(IntegerNetwork.from_arrays(parts["expect"]), layers, scales)


def narrow(
    weights: dict[str, torch.Tensor], planes: slice, channels: int, groups: tuple[PictureGroup, ...]
) -> dict[str, torch.Tensor]:
    """Weights of a codec of `channels` and all planes cut to some planes and to what `groups` need."""
    kept = channels_of(groups)
    start = weights["synthesis.start.weight"]
    present = start[:, start.shape[1] - len(GROUPS) :][:, : len(groups)]
    told = start[:, channels + planes.start : channels + planes.stop]
    cut = {name: value for name, value in weights.items() if not name.startswith("contexts.")}
    for number in range(len(groups)):
        own = f"contexts.{number}."
        cut |= {name: value for name, value in weights.items() if name.startswith(own)}
    cut["synthesis.start.weight"] = torch.cat([start[:, :kept], told, present], dim=1)
    cut["synthesis.linear.weight"] = weights["synthesis.linear.weight"][:, :kept]
    for layer in ("analysis.linear", last_layer(weights, "analysis.body"), "synthesis.mend"):
        for part in ("weight", "bias"):
            cut[f"{layer}.{part}"] = weights[f"{layer}.{part}"][:kept]
    return cut


def last_layer(weights: Iterable[str], sequence: str) -> str:
    """The name of the last layer with weights of an `nn.Sequential`."""
    depth = sequence.count(".") + 1
    return f"{sequence}.{max(int(name.split('.')[depth]) for name in weights if name.startswith(sequence + '.'))}"


def context_networks(number: int, context: Context, scales: NDArray[np.float64]) -> dict[str, IntegerNetwork]:
    """The integer form of a group's context."""
    weight = context.features.weight.double().numpy().T
    features = IntegerNetwork.from_float(
        [weight],
        [context.features.bias.double().numpy()],
        input_bits=4,
        input_bound=LATENT_BOUND,
        output_bits=4,
        output_bound=LATENT_BOUND,
        rectified=True,
    )
    layers: list[nn.Module] = [context.hidden, context.second, context.out]
    return {f"picture_{number}_features": features, f"picture_{number}_expect": integer_context(layers, scales)}


def count_tables(parts: PictureParts, pictures: Iterable[NDArray[np.uint8]], total: int) -> PictureParts:
    """The parts with every table row as found in `total` pictures (H,W,3, sides multiples of 16).

    A row's counts are mirrored, for a latent is as likely above its mean as below it; its Gaussian counts as COUNTED_AS
    symbols.
    """
    blocks = parts.blocks()
    counts = np.zeros((TABLE_ROWS, blocks.tables.alphabet))
    for picture in tqdm(pictures, total=total, desc="count tables", unit="picture", mininterval=5):
        coded: list[CodedPicture] = []
        blocks.quantise_all(analyse(parts.model, picture), coded, len(parts.groups))
        for group in coded:
            for symbols, rows in zip(group.symbols, group.rows, strict=True):
                np.add.at(counts, (rows, symbols), 1)
    gaussian = blocks.tables.frequencies / (1 << PRECISION)
    mixed = counts + counts[:, ::-1] + COUNTED_AS * gaussian
    return parts._replace(tables={"picture": Tables.from_counts(mixed, smoothing=2.0**-20)})


@torch.no_grad()
def analyse(model: PictureModel, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Picture latents (channels,h,w) of one picture."""
    image = torch.from_numpy(picture.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    return model.analysis(image)[0].numpy()

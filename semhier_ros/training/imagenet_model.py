"""Last stage of the imagenet model: from checkpoints to a model folder. Counts, calibrates, exports.

The choosing half of the validation photos sets the temperatures; nothing else is fitted to it.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.codec.entropy import Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND, steps_of
from semhier_ros.codec.model_folder import write_heads
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.torch.classifier import SIDE
from semhier_ros.torch.image_semantics import MAX_SCALE, MIN_SCALE, ImageSemantics
from semhier_ros.training.checkpoint import load_checkpoint
from semhier_ros.training.errors import MissingFile
from semhier_ros.training.imagenet_features import read_views
from semhier_ros.training.imagenet_meaning import load_classifier_rows
from semhier_ros.training.imagenet_picture_form import PictureForm, load_picture_form, write_graphs
from semhier_ros.training.imagenet_semantic import (
    SHARP,
    SHARP_SHARE,
    Draw,
    build,
    load_features,
    load_photos,
)
from semhier_ros.training.imagenet_space import Space, fit_space
from semhier_ros.training.integer_form import OUTPUT_BOUND, scale_table
from semhier_ros.training.settings import Option
from semhier_ros.whole_file import replacing_folder
from semhier_ros.whole_image.backend import OpenVinoImageBackend, TrunkOutput
from semhier_ros.whole_image.encoder import code_image, rounded_bits
from semhier_ros.whole_image.folder import read_image_folder, write_image_card, write_image_stream
from semhier_ros.whole_image.reader import ImageReader, softmax
from semhier_ros.whole_image.stream import ImageLayout, ImageStream

LATENT_ROWS, LATENT_HALF = 48, 63
STEP_ROWS = (6, 3, 0, -3, -6)  # how many table rows coarser than the middle one each quality quantises
QUALITY_SHARE = 0.94  # of the middle quality, in block 0's first symbol
# Per block, what a bit must save; set on the choosing half. Blocks 0 and 1 are only rounded: what a search saves there
# (.7 bytes) later blocks pay fourfold, for their means follow from latents as rounding leaves them.
SEARCH_NATS = (0.0, 0.0, 0.0263, 0.0167)
SEARCH_EVEN = (0.0, 0.0, 1.3, 1.3)  # per block, how far pictures are brought to equal bytes
SEARCH_FEATURES = (0.0, 0.0, 16.0, 22.0)  # per block, nats that the features' squared distance is worth
REFERENCE_PLAIN_SHARE = 0.1  # the reference codecs' space is that of the logits, nearly
COUNTED = 250  # made-up and real photos that teach the latents' tables
PRIOR_WEIGHT = 200.0  # symbols that a Gaussian row is worth against those counted


def make_layout(tree: Taxonomy, semantics: ImageSemantics, picture: PictureForm | None) -> ImageLayout:
    ratio = (MAX_SCALE / MIN_SCALE) ** (1 / (LATENT_ROWS - 1))
    blocks = len(semantics.dimensions)
    return ImageLayout(
        side=SIDE,
        nodes=tree.sizes,
        parents=tuple(tuple(int(p) for p in tree.parent(level)) for level in range(1, tree.depth)),
        latents=semantics.dimensions,
        steps=tuple((round(16 * ratio**rows),) * blocks for rows in STEP_ROWS),
        row_shifts=tuple((-rows,) * blocks for rows in STEP_ROWS),
        quality=len(STEP_ROWS) // 2,
        picture_groups=picture.groups if picture else (),
        picture_stride=picture.stride if picture else SIDE,
    )


def make_stream(tree: Taxonomy, semantics: ImageSemantics, picture: PictureForm | None) -> ImageStream:
    """The stream of these parts, its latents still coded with Gaussian tables; without `picture`, the semantic blocks
    alone."""
    layout = make_layout(tree, semantics, picture)
    latents, scales = scale_table(MIN_SCALE, MAX_SCALE, LATENT_ROWS, LATENT_HALF)
    quality = np.full((1, len(STEP_ROWS)), (1 - QUALITY_SHARE) / (len(STEP_ROWS) - 1))
    quality[0, layout.quality] = QUALITY_SHARE
    tables = name_tables(tree) | {"quality": Tables.from_counts(quality * 1e6), "latents": latents}
    networks = {
        f"latents_{block}": latent_network(semantics, block, tree.sizes, scales)
        for block in range(len(semantics.dimensions))
    }
    rows = np.zeros(0, np.uint8)
    if picture is not None:
        tables, networks, rows = tables | picture.tables, networks | picture.networks, picture.shifts
    return ImageStream(layout, tables, networks, rows)


def name_tables(tree: Taxonomy) -> dict[str, Tables]:
    """Tables of the names: every leaf as likely as any other."""
    tables = {}
    for level in range(tree.depth):
        parents = [None] if level == 0 else [(level - 1, node) for node in range(tree.sizes[level - 1])]
        children = [np.arange(tree.sizes[0]) if parent is None else tree.children(parent) for parent in parents]
        leaves = np.bincount(tree.owner(level), minlength=tree.sizes[level]).astype(float)
        counts = np.zeros((len(parents), max(len(own) for own in children)))
        for row, own in enumerate(children):
            counts[row, : len(own)] = leaves[own]
        tables[f"name_{level}"] = Tables.from_counts(counts, smoothing=1e-6)
    return tables


def latent_network(semantics: ImageSemantics, block: int, nodes: tuple[int, ...], scales: NDArray) -> IntegerNetwork:
    """The exact form of one block's means and table rows: a single layer on path and earlier latents."""
    named = min(block, len(nodes) - 1)
    starts = np.concatenate([[0], np.cumsum(nodes)])
    before = semantics.ends[block] - semantics.dimensions[block]
    size = semantics.dimensions[block]
    weight = np.zeros((int(starts[named + 1]) + before, 2 * size))
    weight[starts[named] : starts[named + 1], :size] = semantics.mean[block].detach().numpy()
    near = min(named, 1)
    step = np.log(scales[1] / scales[0])
    weight[starts[near] : starts[near + 1], size:] = semantics.scale_by_node[block].detach().numpy() / step
    if before:
        weight[starts[named + 1] :, :size] = semantics.follow[block].weight.detach().numpy().T
    base = (semantics.scale[block].detach().numpy() - np.log(scales[0])) / step
    bias = np.concatenate([np.zeros(size), base])
    return IntegerNetwork.from_float(
        [weight], [bias], input_bits=4, input_bound=LATENT_BOUND, output_bits=4, output_bound=OUTPUT_BOUND
    )


def head_arrays(semantics: ImageSemantics, space: Space) -> dict[str, NDArray]:
    """The encoder's projection and search, and the reader's weights; temperatures still one."""
    heads: dict[str, NDArray] = {
        "feature_mean": space.mean,
        "enter": space.enter,
        "space": space.leave,
        "rows": space.rows,
        "row_bias": space.bias,
        "project_evidence": semantics.evidence.detach().numpy(),
        "project": semantics.analyse.detach().numpy(),
        "sharpness": semantics.sharpness.detach().numpy(),
        "search_nats": np.array(SEARCH_NATS),
        "search_features": np.array(SEARCH_FEATURES),
        "search_even": np.array(SEARCH_EVEN),
        "search_usual": np.ones((len(STEP_ROWS), len(semantics.dimensions))),
        "search_shares": np.array([SHARP, SHARP_SHARE]),
        "temperature": np.ones((len(STEP_ROWS), len(semantics.dimensions), 3)),
    }
    for k, size in enumerate(semantics.dimensions):
        lift = semantics.lift[k].weight.detach().numpy()
        heads[f"known_{k}"] = semantics.known[k].detach().numpy()
        heads[f"lift_{k}"] = lift
        if SEARCH_NATS[k] > 0:
            heads[f"lift_square_{k}"] = lift[:, -size:].T @ lift[:, -size:]
            heads[f"move_{k}"] = space.rows @ lift[:, -size:]
        heads[f"sharpen_{k}"] = semantics.sharpen[k].detach().numpy()
        heads[f"hidden_{k}.weight"] = semantics.hidden[k].weight.detach().numpy()
        heads[f"hidden_{k}.bias"] = semantics.hidden[k].bias.detach().numpy()
        heads[f"hidden_{k}.told"] = semantics.told[k].detach().numpy()
        heads[f"answer_{k}.weight"] = semantics.answer[k].weight.detach().numpy()
        heads[f"answer_{k}.bias"] = semantics.answer[k].bias.detach().numpy()
    return {key: np.ascontiguousarray(value, np.float32) for key, value in heads.items()}


def reference_arrays(features: NDArray, weight: NDArray, bias: NDArray, seed: int) -> dict[str, NDArray]:
    """What the untrained reference codecs of `evaluation.vector_codecs` need for a classifier of rows `weight` C,F and
    `bias` C: a space of the logits, and in it the principal directions of all that the photos say (`projection`) and
    of what their class's centre leaves of it (`name_first`)."""
    leaves = (features @ weight.T + bias).argmax(1)
    space = fit_space(features, leaves, weight, bias, seed, plain_share=REFERENCE_PLAIN_SHARE)
    points = (features - space.mean).astype(np.float64) @ space.enter.T
    rows = space.rows - space.rows.mean(0)
    values, vectors = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    root, inverse = ((vectors * np.maximum(values, 1e-9) ** power) @ vectors.T for power in (0.5, -0.5))
    named = ("mean", "space_enter", "space_leave", "rows", "bias", "centres")
    arrays = dict(zip(named, space, strict=True))
    for name, deviations in (("projection", points), ("name_first", points - space.centres[leaves])):
        spread, directions = np.linalg.eigh(root @ np.cov(deviations.T) @ root)
        best = directions[:, ::-1]
        arrays[f"{name}_enter"] = best.T @ root
        arrays[f"{name}_leave"] = inverse @ best
        arrays[f"{name}_spread"] = np.sqrt(np.maximum(spread[::-1], 0))
    return {key: np.ascontiguousarray(value, np.float32) for key, value in arrays.items()}


def halved(heads: dict[str, NDArray]) -> dict[str, NDArray]:
    """As they are stored: half precision but for what is small."""
    return {key: value.astype(np.float16 if value.size > 4096 else np.float32) for key, value in heads.items()}


def counted_latents(reader: ImageReader, seen: list[TrunkOutput]) -> Tables:
    """Tables of the latents from the symbols that the encoder's own search chooses, on top of the Gaussians."""
    stream, quality = reader.stream, reader.stream.layout.quality
    old = stream.tables["latents"]
    counts = np.zeros((old.rows, old.alphabet))
    for one in tqdm(seen, desc="count latents", mininterval=5):
        code = code_image(reader, one, quality, stream.semantic_blocks)
        for block in range(stream.semantic_blocks):
            means, rows = stream.latent_parameters(block, code)
            step = stream.layout.steps[quality][block]
            np.add.at(counts, (rows, steps_of(code.latents[block], means, old, step)), 1)
    share = old.frequencies / old.frequencies.sum(1, keepdims=True)
    counts = counts + counts[:, ::-1]
    return Tables.from_counts(counts + PRIOR_WEIGHT * share, smoothing=1e-6)


def best_temperature(logits: NDArray, truth: NDArray, tree: Taxonomy, level: int) -> float:
    """The temperature with the least negative log-likelihood of the true nodes of `level`."""
    nodes = tree.owner(level)[truth]
    tried = np.geomspace(0.3, 2.5, 40)
    scaled = logits - logits.max(1, keepdims=True)
    losses = []
    for temperature in tried:
        chances = np.exp(scaled.astype(np.float64) / temperature)
        chances = tree.lift(chances / chances.sum(1, keepdims=True), level)
        losses.append(-np.log(chances[np.arange(len(nodes)), nodes] + 1e-12).mean())
    return float(tried[int(np.argmin(losses))])


def matching_loudness(reader: ImageReader, seen: list[TrunkOutput]) -> NDArray[np.float64]:
    """Per prefix, the factor on the read logits that brings the posterior at its level nearest to the trunk's own."""
    stream, tree = reader.stream, reader.tree
    codes = [code_image(reader, one, stream.layout.quality, stream.semantic_blocks) for one in tqdm(seen, desc="match")]
    tried = np.geomspace(0.6, 1.6, 21)
    best = []
    for prefix in range(stream.semantic_blocks):
        level = min(prefix, tree.depth - 1)
        logits = np.stack([reader.linear_and_hidden(code, prefix)[0] for code in codes])
        true = tree.lift(softmax(np.stack([one.logits for one in seen])), level)
        read = [tree.lift(softmax(logits, 1 / factor), level) for factor in tried]
        best.append(tried[int(np.argmin([-(true * np.log(own + 1e-12)).sum(1).mean() for own in read]))])
    return np.array(best)


def louder(heads: dict[str, NDArray], factors: NDArray) -> dict[str, NDArray]:
    """The readers' arrays with every prefix's logits multiplied by its factor."""
    changed = {"sharpness": (heads["sharpness"] * factors).astype(np.float32)}
    for prefix, factor in enumerate(factors):
        for part in ("weight", "bias"):
            changed[f"answer_{prefix}.{part}"] = (heads[f"answer_{prefix}.{part}"] * factor).astype(np.float32)
    return changed


def calibrate(reader: ImageReader, seen: list[TrunkOutput], truth: NDArray) -> NDArray[np.float32]:
    """Temperatures (qualities, prefixes, levels) from the choosing half, at the model's own quality for all."""
    stream = reader.stream
    result = np.ones((len(stream.layout.steps), stream.semantic_blocks, reader.tree.depth), np.float32)
    codes = [
        code_image(reader, one, stream.layout.quality, stream.semantic_blocks) for one in tqdm(seen, desc="calibrate")
    ]
    for prefix in range(stream.semantic_blocks):
        logits = np.stack([reader.logits(code, prefix) for code in codes])
        for level in range(reader.tree.depth):
            result[:, prefix, level] = best_temperature(logits, truth, reader.tree, level)
    return result


def usual_bits(reader: ImageReader, seen: list[TrunkOutput]) -> NDArray[np.float32]:
    """Bits (qualities, blocks) that a picture's latents take when they are rounded only; a mean."""
    stream = reader.stream
    blocks, qualities = stream.semantic_blocks, len(stream.layout.steps)
    return np.array([np.mean([rounded_bits(reader, one, q, blocks) for one in seen], axis=0) for q in range(qualities)])


def teach_tables(stream: ImageStream, tree: Taxonomy, heads: dict[str, NDArray], draw: Draw, space: Space) -> None:
    """Give the stream tables counted on drawn pictures as the search codes them, and the heads what is usual there."""
    points, logits = draw.batch(COUNTED)
    features = points.numpy() @ space.leave + space.mean
    seen = [TrunkOutput(f.astype(np.float32), z) for f, z in zip(features, logits.numpy(), strict=True)]
    stored = {key: value.astype(np.float32) for key, value in halved(heads).items()}
    reader = ImageReader(stream, tree, stored | {"search_even": np.zeros(stream.semantic_blocks, np.float32)})
    stream.tables = dict(stream.tables) | {"latents": counted_latents(reader, seen)}
    heads["search_usual"] = usual_bits(reader, seen)


def read_truth(options: argparse.Namespace) -> tuple[list[str], NDArray]:
    """File names and labels of the choosing half."""
    chosen = set((options.splits / "choose.txt").read_text().split())
    with (options.validation / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"] in chosen]
    return [row["file"] for row in rows], np.array([int(row["label"]) for row in rows])


def make(options: argparse.Namespace) -> Path:
    """Put the model folder together, in the place of one that is there (`road_model.make`); returns it.

    Raises:
        MissingFile: features, a checkpoint or the validation photos are missing.
    """
    from safetensors.numpy import save_file

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    out: Path = options.out
    names, truth = read_truth(options)
    tree = Taxonomy.load(options.taxonomy)
    space, photos = load_photos(options.data, out, options.seed)
    semantics = build(space, tree)
    if (semantic := load_checkpoint(out / "semantic.pt")) is None:
        raise MissingFile(f"{out}: no semantic.pt; run `semhier train imagenet semantic` first")
    semantics.load_state_dict(semantic["network"])
    picture, graphs = load_picture_form(out)
    stream = make_stream(tree, semantics, picture)
    heads = head_arrays(semantics, space) | {k: np.asarray(v, np.float32) for k, v in picture.heads.items()}
    if options.without == "search":
        heads["search_nats"] = np.zeros_like(heads["search_nats"])
    teach_tables(stream, tree, heads, Draw(photos, space), space)
    rows = load_classifier_rows(out)
    reference = reference_arrays(load_features(options.data, out), *rows, options.seed)
    with replacing_folder(options.model) as folder:
        shutil.copy(options.taxonomy, folder / "taxonomy.yaml")
        write_graphs(graphs, picture.groups, folder)
        write_image_stream(folder, stream)
        write_heads(folder, halved(heads))
        save_file(halved(reference), folder / "reference.safetensors")
        write_image_card(folder, options.name, stream.layout)
        calibrate_folder(options, folder, tree, heads, names, truth)
    return Path(options.model)


def calibrate_folder(
    options: argparse.Namespace,
    folder: Path,
    tree: Taxonomy,
    heads: dict[str, NDArray],
    names: list[str],
    truth: NDArray,
) -> None:
    """Give a whole folder readers as loud as the trunk and temperatures, by the choosing photos `names` of the leaves
    `truth`."""
    loaded = read_image_folder(folder)
    backend = OpenVinoImageBackend(folder, threads=options.threads)
    seen = [backend.classify(view) for view in read_views(options.validation, names)]
    reader = ImageReader(loaded.stream, tree, loaded.heads)
    # The search hears the readers, so once is not enough; block 0 got no nearer (choosing half: .06 once, .09 twice).
    for turn in range(2):
        factors = matching_loudness(reader, seen)
        factors[0] = factors[0] if turn == 0 else 1.0
        heads |= louder(heads, factors)
        stored = {key: value.astype(np.float32) for key, value in halved(heads).items()}
        reader = ImageReader(loaded.stream, tree, stored)
    heads["temperature"] = calibrate(reader, seen, truth)
    raw = np.stack([one.logits for one in seen])
    trunk = [best_temperature(raw, truth, tree, level) for level in range(tree.depth)]
    heads["trunk_temperature"] = np.array(trunk, np.float32)
    write_heads(folder, halved(heads))
    write_image_card(folder, options.name, loaded.stream.layout)


OPTIONS = (
    Option("model", Path, Path("models/imagenet"), "folder to write"),
    Option("name", str, "imagenet", "of the model"),
    Option(
        "without", str, "", "`search`: latents are rounded, to see what the search is worth", choices=("", "search")
    ),
    Option("splits", Path, Path("config/splits/imagenet-validation"), "folder with choose.txt"),
)

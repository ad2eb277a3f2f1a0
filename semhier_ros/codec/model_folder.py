"""A model folder: what a codec is made of, checked and known by two hashes. One reader and one writer for all kinds.

`model.json` (kind, layout, settings, hashes), `stream.safetensors` (integer tables and networks), `heads.safetensors`
(projections, readers, calibration), `taxonomy.yaml`, one ONNX graph per network, `weights.safetensors` (the same
networks in half precision for CUDA) and `README.md` (the model card). Loading needs nothing outside the folder.

The *stream hash* covers what turns bytes into latents: the layout and `stream.safetensors`. The *model hash* adds
everything else that shapes a reading. Both are the first 16 hex digits of a SHA-256.

The tree of classes stands in `taxonomy.yaml`, which names it, as `parents` in the layout, which the entropy coder goes
by, and in the shape of the tables `name_<level>`, which code a node among the children of the one above. Loading
refuses a folder in which they differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semhier_ros.codec.entropy import Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import middle
from semhier_ros.codec.stream_info import check_name
from semhier_ros.taxonomy import Taxonomy, TaxonomyError
from semhier_ros.whole_file import write_whole

FORMAT = 1
KINDS = ("scene", "whole-image")
HASHED = ("heads.safetensors", "taxonomy.yaml")
"""What the model hash covers beside the stream and the graphs."""
MIRRORED = ("latents", "picture")
"""Tables whose symbols lie around a mean, as many on either side."""
SHAPING = ("looks", "agreement", "certainty")  # settings of the card that a reading depends on as it does on a file
OWN_FIELDS = ("format", "kind", "name", "layout", "stream_hash", "model_hash")


class ModelError(ValueError):
    """A model folder that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class StreamParts:
    """What `stream.safetensors` holds: entropy tables, integer networks, and arrays of the kind's own."""

    tables: dict[str, Tables]
    networks: dict[str, IntegerNetwork]
    arrays: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ModelFolder:
    """A model folder as it was read. `layout` and `settings` are those of `model.json`; `heads` are float32."""

    path: Path
    kind: str
    name: str
    layout: Mapping[str, Any]
    settings: Mapping[str, Any]
    stream: StreamParts
    heads: Mapping[str, NDArray[np.float32]]
    taxonomy: Taxonomy
    stream_hash: str
    model_hash: str


def read_kind(folder: Path) -> str:
    """What kind of model lies in `folder`: `scene` or `whole-image`.

    Raises:
        ModelError: there is no readable model.json, or it names another kind.
    """
    kind = read_card(folder).get("kind", KINDS[0])
    if kind not in KINDS:
        raise ModelError(f"{folder}/model.json: kind {kind!r}, this release knows {', '.join(KINDS)}")
    return str(kind)


def read_card(folder: Path) -> dict[str, Any]:
    """`model.json` as it stands.

    Raises:
        ModelError: it is missing, or not a JSON object.
    """
    try:
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: model.json is missing; is this a model folder?") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder}/model.json: {error}") from error
    if not isinstance(card, dict):
        raise ModelError(f"{folder}/model.json: {type(card).__name__}, expected an object")
    return card


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turns what goes wrong while a folder is read into a ModelError that names the file."""
    try:
        yield
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: {Path(str(error.filename)).name} is missing; is this a model folder?") from error
    except TaxonomyError as error:
        raise ModelError(f"{folder}/taxonomy.yaml: {error}") from error
    except SafetensorError as error:
        raise ModelError(f"{folder}: a .safetensors file is damaged: {error}") from error
    except OSError as error:
        raise ModelError(f"{error.filename or folder}: {error.strerror or error}") from error
    except (AttributeError, LookupError, TypeError) as error:
        raise ModelError(f"{folder}/model.json: {type(error).__name__}: {error}") from error
    except ValueError as error:  # of a table, a network, a layout: each names itself
        raise ModelError(f"{folder}: {error}") from error


def read_folder(folder: Path, graphs: Sequence[str], others: Sequence[str] = ()) -> ModelFolder:
    """Read and check a model folder of any kind; `graphs` are the names of its kind's ONNX graphs, `others` the names
    of further files that shape a reading.

    Raises:
        ModelError: a file is missing, unreadable, or not the one that the hashes in `model.json` name, or the tree of
            `taxonomy.yaml` is not that of layout and tables.
    """
    with reading(folder):
        card = read_card(folder)
        if card["format"] != FORMAT:
            raise ModelError(f"{folder}/model.json: format {card['format']}, this release reads format {FORMAT}")
        found = stream_hash(folder, card["layout"])
        for field, value in (("stream_hash", found), ("model_hash", model_hash(folder, found, card, graphs, others))):
            if card[field] != value:
                raise ModelError(f"{folder}: {field} is {value}, model.json says {card[field]}: a file was changed")
        taxonomy = Taxonomy.load(folder / "taxonomy.yaml")
        check_tree(folder, taxonomy, card["layout"]["parents"])
        stream = read_stream_parts(load_file(folder / "stream.safetensors"))
        check_names(folder, taxonomy, stream.tables)
        for name in MIRRORED:
            if name in stream.tables:
                middle(stream.tables[name], name)
        heads = {key: value.astype(np.float32) for key, value in load_file(folder / "heads.safetensors").items()}
        return ModelFolder(
            path=folder,
            kind=str(card.get("kind", KINDS[0])),
            name=str(card["name"]),
            layout=card["layout"],
            settings={key: value for key, value in card.items() if key not in OWN_FIELDS},
            stream=stream,
            heads=heads,
            taxonomy=taxonomy,
            stream_hash=found,
            model_hash=card["model_hash"],
        )


def check_tree(folder: Path, taxonomy: Taxonomy, parents: Sequence[Sequence[int]]) -> None:
    """Compares the tree that names a stream's nodes with the one that its entropy coder goes by.

    Raises:
        ModelError: they differ; the message names the first level that does.
    """
    if taxonomy.depth != len(parents) + 1:
        raise ModelError(
            f"{folder}: taxonomy.yaml has {taxonomy.depth} levels, the layout of model.json has {len(parents) + 1}"
        )
    for level, own in enumerate(parents, start=1):
        named = [int(parent) for parent in taxonomy.parent(level)]
        if named != [int(parent) for parent in own]:
            raise ModelError(
                f"{folder}: level {level} of taxonomy.yaml has {len(named)} nodes below other parents than the"
                f" {len(own)} of model.json's layout"
            )


def check_names(folder: Path, taxonomy: Taxonomy, tables: Mapping[str, Tables]) -> None:
    """Compares a tree with the tables that code its names: a symbol for every child of any node, and as many rows for
    every parent. The coarsest level has a table unless it has one node only.

    Raises:
        ModelError: a table is missing or of another shape; the message names it and what the tree asks for.
    """
    for level, size in enumerate(taxonomy.sizes):
        if level == 0 and size == 1:
            continue
        table = tables.get(f"name_{level}")
        if table is None:
            raise ModelError(f"{folder}/stream.safetensors: no table name_{level}, but level {level} has {size} nodes")
        parents = 1 if level == 0 else taxonomy.sizes[level - 1]
        most = max(2, size if level == 0 else int(np.bincount(taxonomy.parent(level)).max()))  # a table has two
        if table.alphabet != most or table.rows % parents:
            raise ModelError(
                f"{folder}/stream.safetensors: table name_{level} has {table.rows} rows of {table.alphabet} symbols,"
                f" taxonomy.yaml asks for rows of {most} for each of {parents} parents"
            )


def stream_hash(folder: Path, layout: Mapping[str, Any]) -> str:
    """Of a layout and the folder's `stream.safetensors`."""
    digest = hashlib.sha256(json.dumps(layout, sort_keys=True, separators=(",", ":")).encode())
    digest.update((folder / "stream.safetensors").read_bytes())
    return digest.hexdigest()[:16]


def derived_hash(known: str, difference: str) -> str:
    """The stream or model hash of what differs from that of hash `known` in what `difference` names."""
    return hashlib.sha256(f"{known}\n{difference}".encode()).hexdigest()[:16]


def model_hash(
    folder: Path, stream: str, settings: Mapping[str, Any], graphs: Sequence[str], others: Sequence[str] = ()
) -> str:
    """Of a stream hash, the settings of SHAPING that the card names, and the folder's files that shape a reading."""
    digest = hashlib.sha256(stream.encode())
    for name in (*HASHED, *(f"{graph}.onnx" for graph in graphs), *others):
        digest.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    if shaping := {name: settings[name] for name in SHAPING if name in settings}:
        digest.update(json.dumps(shaping, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def read_stream_parts(arrays: Mapping[str, NDArray[Any]]) -> StreamParts:
    """The parts of `stream.safetensors`, every table and network checked as it is built."""
    tables: dict[str, Tables] = {}
    networks: dict[str, dict[str, NDArray[Any]]] = {}
    others: dict[str, NDArray[Any]] = {}
    for key, value in arrays.items():
        if key.startswith("tables/"):
            tables[key.removeprefix("tables/")] = Tables(value)
        elif key.startswith("networks/"):
            _, name, part = key.split("/")
            networks.setdefault(name, {})[part] = value
        else:
            others[key] = value
    return StreamParts(tables, {name: IntegerNetwork.from_arrays(parts) for name, parts in networks.items()}, others)


def write_stream_parts(folder: Path, parts: StreamParts) -> None:
    """The way back from `read_stream_parts`, to the folder's `stream.safetensors`."""
    arrays: dict[str, NDArray[Any]] = {f"tables/{name}": table.frequencies for name, table in parts.tables.items()}
    for name, network in parts.networks.items():
        arrays |= {f"networks/{name}/{part}": value for part, value in network.to_arrays().items()}
    arrays |= parts.arrays
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, folder / "stream.safetensors")


def write_heads(folder: Path, heads: Mapping[str, NDArray[Any]]) -> None:
    """Write the folder's `heads.safetensors`; the hashes of `write_card` have to follow."""
    save_file({key: np.ascontiguousarray(value) for key, value in heads.items()}, folder / "heads.safetensors")


def write_card(
    folder: Path,
    kind: str,
    name: str,
    layout: Mapping[str, Any],
    settings: Mapping[str, Any],
    graphs: Sequence[str],
    others: Sequence[str] = (),
) -> None:
    """Write `model.json` with the hashes of what lies in the folder. `settings`: the kind's own fields; graphs, others:
    as `read_folder` has them.

    Raises:
        ModelError: the folder's tree is not the layout's. ValueError: no stream can carry the name.
    """
    check_name(name, "name")
    values = json.loads(json.dumps(layout))
    check_tree(folder, Taxonomy.load(folder / "taxonomy.yaml"), values["parents"])
    known = stream_hash(folder, values)
    card = {
        "format": FORMAT,
        "kind": kind,
        "name": name,
        **settings,
        "layout": values,
        "stream_hash": known,
        "model_hash": model_hash(folder, known, settings, graphs, others),
    }
    write_whole(folder / "model.json", json.dumps(card, indent=1) + "\n")

"""Grouping and naming on made-up embeddings: limits, determinism, names; comparing and plotting."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.command import CommandError
from semhier_ros.taxonomy import Taxonomy, TaxonomyError
from semhier_ros.training.trees import cli
from semhier_ros.training.trees.agreement import agree, cohesion, separation, within
from semhier_ros.training.trees.cluster import Limits, nest
from semhier_ros.training.trees.features import Vocabulary, grid_points, join_points
from semhier_ros.training.trees.plot import plot
from semhier_ros.training.trees.recipe import ClassList, Corrections, build
from semhier_ros.training.trees.wordnet import WordNet


def blobs(groups: int, each: int, spread: float = 0.3, seed: int = 0) -> np.ndarray:
    """Rows around `groups` random centres, group by group."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, 1, 32))
    return (centres + spread * rng.normal(size=(groups, each, 32))).reshape(groups * each, 32)


def test_clear_groups_are_found() -> None:
    (parents,) = nest(grid_points(blobs(6, 5)), [6])
    assert all(len(set(parents[5 * g : 5 * g + 5].tolist())) == 1 for g in range(6))
    assert len(set(parents.tolist())) == 6


@given(st.integers(0, 1000), st.sampled_from([(3,), (2, 6), (1, 4), (2, 5, 11)]), st.sampled_from([0.0, 0.4, 1.0]))
@settings(max_examples=25)
def test_levels_nest_and_keep_their_limits(seed: int, sizes: tuple[int, ...], smallest: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(40, 16))
    limits = Limits(smallest, 2.0)
    parents = nest(grid_points(rows), sizes, limits)
    owner = np.arange(40)
    for level in range(len(sizes) - 1, -1, -1):
        owner = parents[level][owner]
        counts = np.bincount(owner, minlength=sizes[level])
        lowest, highest = limits.counts(40, sizes[level])
        assert counts.min() >= (lowest if smallest < 1 else 1)
        assert counts.max() <= highest
    again = nest(grid_points(rows), sizes, limits)
    assert all((a == b).all() for a, b in zip(parents, again, strict=True))


def test_the_grouping_does_not_hang_on_rounding_noise() -> None:
    rows = blobs(8, 10, spread=1.0)
    noise = 1e-12 * np.random.default_rng(1).normal(size=rows.shape)
    first, second = nest(grid_points(rows), [3, 8]), nest(grid_points(rows + noise), [3, 8])
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("sizes", [[], [0, 5], [5, 5], [5, 3], [40]])
def test_wrong_sizes_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="level sizes"):
        nest(grid_points(blobs(8, 5)), sizes)


@pytest.mark.parametrize("rows", [np.zeros((3, 4)), np.full((2, 2), np.nan), np.zeros((0, 4)), np.ones(3)])
def test_embeddings_without_direction_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="embedding"):
        grid_points(rows)


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Limits(smallest=2)
    with pytest.raises(ValueError, match="at least 2"):
        Limits(largest=1.5)


def make(
    corrections: Corrections | None = None, words: tuple[str, ...] = ("alpha", "beta", "gamma", "delta")
) -> Taxonomy:
    """Four groups of five leaves, the vocabulary's words at the groups' centres."""
    rows = blobs(4, 5)
    centres = rows.reshape(4, 5, 32).mean(axis=1)
    vocabulary = Vocabulary.of(words, centres)
    names = [f"{'kind of' if g == 0 else 'thing'} {g}{i}" for g in range(4) for i in range(5)]
    classes = ClassList(names, [""] * 20)
    return build(
        "made", classes, grid_points(rows), [2, 4], vocabulary, corrections=corrections, level_names=["c", "m", "leaf"]
    )


def test_nodes_get_the_nearest_free_word() -> None:
    tree = make()
    used = {tree.path_names(5 * g)[1] for g in range(4)} | {tree.path_names(5 * g)[0] for g in range(4)}
    assert {"alpha", "beta", "gamma", "delta"} <= used
    for level in (0, 1):
        assert len(set(tree.names(level))) == tree.sizes[level]
    for leaf in range(20):
        assert len(set(tree.path_names(leaf))) == 3


def test_a_shared_head_noun_names_a_node_and_a_leaf_name_never_does() -> None:
    rows = blobs(2, 4)
    classes = ClassList(["red beetle", "dung beetle", "black Beetles", "ant", "cup", "mug", "jar", "pot"], [""] * 8)
    vocabulary = Vocabulary.of(
        ["ant", "Cups", "vessel", "box/bin", "other pot"], np.stack([rows[0], rows[4], rows[5], rows[6], rows[7]])
    )
    tree = build("t", classes, grid_points(rows), [2], vocabulary)
    assert tree.path_names(0)[0] == "beetle"
    assert tree.path_names(4)[0] == "vessel"


def test_corrections_move_and_name() -> None:
    plain = make()
    names = plain.names(2)
    moved = make(Corrections(move_leaves={names[0]: names[5]}, names={"m": {names[6]: "mine"}}))
    assert moved.path_names(0)[1] == moved.path_names(5)[1] == "mine"
    other = next(5 * g for g in range(4) if plain.path(5 * g)[0] != plain.path(0)[0])
    lifted = make(Corrections(move_nodes={"m": {names[0]: names[other]}}))
    assert lifted.path(0)[0] == lifted.path(other)[0]


@pytest.mark.parametrize(
    ("corrections", "message"),
    [
        (Corrections(move_leaves={"nobody": "thing 10"}), "no class of the list"),
        (Corrections(names={"x": {"thing 10": "n"}}), "level 'x' is unknown"),
        (Corrections(names={"m": {"thing 10": "n", "thing 11": "o"}}), "has named"),
        (Corrections(move_nodes={"c": {"thing 10": "thing 20"}}), "no parent to move to"),
        (Corrections(move_leaves={f"thing 1{i}": "thing 20" for i in range(5)}), "empty"),
    ],
)
def test_wrong_corrections_are_refused(corrections: Corrections, message: str) -> None:
    with pytest.raises(TaxonomyError, match=message):
        make(corrections)


def test_images_can_part_what_words_join() -> None:
    text = grid_points(np.repeat(blobs(4, 1), 2, axis=0) + 1e-3 * np.random.default_rng(0).normal(size=(8, 32)))
    images = grid_points(np.concatenate([blobs(4, 1, seed=5), blobs(4, 1, seed=5)]) + 1e-3)
    (by_text,) = nest(text, [4])
    (by_images,) = nest(join_points(text, images, 0.9), [4])
    assert by_text[0] == by_text[1]
    assert by_images[0] == by_images[4] != by_images[1]
    with pytest.raises(ValueError, match=r"0\.\.1"):
        join_points(text, images, 1.5)


def test_agreement_by_hand() -> None:
    coarse, fine = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 2, 3])
    nested = agree(coarse, fine)
    assert nested.nested == 1
    assert nested.homogeneity == pytest.approx(1)
    assert nested.completeness < 1
    assert agree(fine, fine).rand == pytest.approx(1)
    assert agree(coarse, np.array([0, 1, 2, 0, 1, 2])).nested == 0
    with pytest.raises(ValueError, match="cannot be compared"):
        agree(coarse, fine[:3])


def test_cohesion_and_separation_by_hand() -> None:
    rows = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert cohesion(rows, np.array([0, 0, 1, 1])) == pytest.approx(1)
    assert cohesion(rows, np.array([0, 1, 0, 1])) == pytest.approx(0)
    assert separation(rows @ rows.T, np.array([0, 0, 1, 1])) == 1
    assert np.isnan(within(rows @ rows.T, np.arange(4)))


def test_wu_palmer_by_hand(tmp_path: Path) -> None:
    (tmp_path / "w.tsv").write_text(
        "# remark\nn1\t\troot\nn2\tn1\tbeast\nn3\tn2\tdog\nn4\tn2\tcat\nn5\tn1\tcup\n", "utf-8"
    )
    kinship = WordNet.load(tmp_path / "w.tsv").similarity(["n3", "n4", "n5"])
    np.testing.assert_allclose(kinship, [[1, 4 / 6, 2 / 5], [4 / 6, 1, 2 / 5], [2 / 5, 2 / 5, 1]])


def test_the_page_holds_the_tree_and_needs_no_network() -> None:
    tree = Taxonomy.from_parents("</script>", [["a", "b"], ["x", "<y>", "z"]], [[0, 0, 1]])
    page = plot(tree, [3, 2, 0])
    data = json.loads(re.search(r'application/json">(.*?)</script>', page, re.S)[1])
    assert data["k"][0] == {"n": "a", "k": [{"n": "x", "c": 3}, {"n": "<y>", "c": 2}]}
    assert "<y>" not in page
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)", page)
    with pytest.raises(ValueError, match="3 numbers"):
        plot(tree, [1])


def command(*words: str) -> int:
    """Run `semhier taxonomy …`."""
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(words))


def test_commands_on_a_list_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, rows = tmp_path / "names.txt", tmp_path / "rows.npy"
    names.write_text("\n".join(f"leaf {i}" for i in range(12)), "utf-8")
    np.save(rows, blobs(4, 3))
    out = tmp_path / "own.yaml"
    assert command("build", "--names", str(names), "--embeddings", str(rows), "--sizes", "2,4", "--out", str(out)) == 0
    assert Taxonomy.load(out).sizes == (2, 4, 12)
    assert command("show", str(out), "--depth", "2") == 0
    assert command("compare", str(out), str(out)) == 0
    assert command("plot", str(out), "--out", str(tmp_path / "own.html")) == 0
    assert "own: level 0 2 / level 1 4 / class 12" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command("build", "--names", str(names), "--embeddings", str(rows), "--sizes", "x", "--out", str(out))
    with pytest.raises(CommandError, match="shipped"):
        command("show", "nosuch")

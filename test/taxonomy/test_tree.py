"""The tree: nesting, lifting, common ancestors, YAML form, digest."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.taxonomy import Taxonomy, TaxonomyError

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "taxonomies"
SMALL = {
    "format": 1,
    "name": "small",
    "levels": ["coarse", "middle", "leaf"],
    "leaves": ["poodle", "oak", {"name": "beagle", "id": "n1"}, "sparrow", "pine"],
    "tree": {"animal": {"dog": ["poodle", "beagle"], "bird": ["sparrow"]}, "plant": {"tree": ["oak", "pine"]}},
}


@st.composite
def taxonomies(draw: st.DrawFn) -> Taxonomy:
    """Trees of two to four levels with parents drawn at random, every node used."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(lambda steps: np.cumsum(steps).tolist()))
    sizes.append(sizes[-1] + draw(st.integers(1, 12)))
    parents = []
    for above, below in itertools.pairwise(sizes):
        extra = draw(st.lists(st.integers(0, above - 1), min_size=below - above, max_size=below - above))
        parents.append(draw(st.permutations([*range(above), *extra])))
    names = [[f"{'abcd'[level]}{index}" for index in range(size)] for level, size in enumerate(sizes)]
    return Taxonomy.from_parents("drawn", names, parents)


@given(taxonomies())
@settings(max_examples=60)
def test_any_tree_nests_lifts_and_survives_yaml(tree: Taxonomy) -> None:
    again = Taxonomy.from_text(tree.to_yaml())
    assert again == tree
    assert again.digest() == tree.digest()
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(tree.leaf_count), size=(2, 3))
    for level in range(tree.depth):
        leaves = tree.leaves(level)
        assert sorted(np.concatenate(leaves).tolist()) == list(range(tree.leaf_count))
        lifted = tree.lift(probabilities, level)
        assert lifted.shape == (2, 3, tree.sizes[level])
        expected = np.stack([probabilities[..., rows].sum(-1) for rows in leaves], -1)
        np.testing.assert_allclose(lifted, expected)
        for node in tree.levels[level]:
            assert tree.path(node)[-1] == node.index
            assert all(tree.owner(level)[leaf] == node.index for leaf in leaves[node.index])
        if level:
            np.testing.assert_array_equal(tree.parent(level)[tree.owner(level)], tree.owner(level - 1))
    every = np.arange(tree.leaf_count)
    heights = tree.height(every[:, None], every[None])
    np.testing.assert_array_equal(heights, heights.T)
    for a in every:
        for b in every:
            common = tree.lowest_common_ancestor(int(a), int(b))
            assert heights[a, b] == (tree.depth if common is None else tree.depth - 1 - common.level)


def test_small_tree_answers() -> None:
    tree = Taxonomy.from_dict(SMALL)
    assert tree.sizes == (2, 3, 5)
    assert tree.path(2) == (0, 0, 2)
    assert tree.path_names(2) == ("animal", "dog", "beagle")
    assert tree.node(2).id == "n1"
    assert tree.find("bird").level == 1
    assert tree.path(tree.find("tree")) == (1, 2)
    assert tree.children((0, 0)).tolist() == [0, 1]
    assert tree.children((2, 0)).tolist() == []
    assert tree.descendants((0, 0), 2).tolist() == [0, 2, 3]
    assert tree.height(0, [0, 2, 3, 1]).tolist() == [0, 1, 2, 3]
    assert tree.lowest_common_ancestor(0, 3) == tree.find("animal")
    assert tree.lowest_common_ancestor(0, 1) is None
    assert tree.lift([0.1, 0.2, 0.3, 0.4, 0.0], 0) == pytest.approx([0.8, 0.2])
    assert tree.lift(np.ones((1, 5), dtype=np.float32), 1).dtype == np.float32
    assert Taxonomy.from_dict(tree.to_dict()) == tree


def test_wrong_questions_are_refused() -> None:
    tree = Taxonomy.from_dict(SMALL)
    with pytest.raises(IndexError, match=r"allowed are 0\.\.2"):
        tree.names(3)
    with pytest.raises(IndexError, match=r"allowed are 0\.\.4"):
        tree.path(5)
    with pytest.raises(IndexError, match="no parents"):
        tree.parent(0)
    with pytest.raises(KeyError, match="no node"):
        tree.find("cat")
    with pytest.raises(ValueError, match="5 leaves expected"):
        tree.lift(np.zeros(4), 0)


def test_digest_sees_names_and_structure_but_no_formatting() -> None:
    tree = Taxonomy.from_dict(SMALL)
    assert Taxonomy.from_dict({**SMALL, "description": "other"}).digest() == tree.digest()
    assert Taxonomy.from_text("# a remark\n" + tree.to_yaml()).digest() == tree.digest()
    renamed = Taxonomy.from_text(tree.to_yaml().replace("dog", "hound"))
    assert renamed.digest() != tree.digest()
    assert renamed.structure_digest() == tree.structure_digest()


HEAD = "format: 1\nname: t\nlevels: [a, b]\nleaves:\n- x\n- y\n- z\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + "tree:\n  one: [x, y]\n  two: [y, z]\n",
            r"line 10: leaf 'y' lies under 'one' and under 'two' .*one parent",
        ),
        (HEAD + "tree:\n  one: [x, y, z]\n  two: []\n", r"line 10: node 'two' is empty"),
        (HEAD + "tree:\n  one: [x, y, z]\n  two:\n", r"line 10: node 'two' is empty"),
        (HEAD + "tree:\n  one: [x, y]\n  one: [z]\n", r"line 10: node 'one' stands twice at level 0, first in line 9"),
        (HEAD + "tree:\n  one: [x, y]\n", r"line 7: leaf 'z' is missing from tree"),
        (HEAD + "tree:\n  one: [x, y, z, w]\n", r"line 9: leaf 'w' under 'one' is not in leaves"),
        (HEAD + "tree:\n  x: [x, y, z]\n", r"line 9: node 'x' covers more than its leaf of the same name"),
        (HEAD + "tree:\n  one: {two: [x, y, z]}\n", r"line 9: node 'one' of level 0 holds a map; a list of leaves"),
        (HEAD + "tree:\n  one: x\n", r"line 9: .*a list of leaves is expected"),
        (HEAD + "tree: []\n", r"line 8: tree: a mapping"),
        (HEAD.replace("- z", "- x") + "tree:\n  one: [x, y]\n", r"line 7: leaf 'x' stands twice in leaves"),
        (HEAD.replace("[a, b]", "[a, b, c]") + "tree: &t\n  one: *t\n", r"lies under itself \(rule: no cycle\)"),
        (
            HEAD.replace("[a, b]", "[a, b, c]") + "tree:\n  one: {one: [x], two: [y, z]}\n",
            r"line 9: node 'one' lies under a node of its own name \(rule: no cycle\)",
        ),
        (HEAD.replace("format: 1", "format: 9") + "tree:\n  one: [x, y, z]\n", r"line 1: format '9': allowed is 1"),
        (HEAD.replace("name: t", "nam: t"), r"line 2: field 'nam' is unknown"),
        (HEAD + "levels: [a, b]\n", r"line 8: field 'levels' stands twice"),
        (HEAD, r"field 'tree' is missing"),
        (HEAD + "tree:\n  one: [x, y\n", r"not valid YAML"),
        (HEAD + "tree:\n  ' one': [x, y, z]\n", r"line 9: node name ' one'"),
        ("", r"field 'format' is missing"),
        ("- 1\n", r"a mapping with format"),
        ("[" * 3000, r"nested too deep|not valid YAML"),
    ],
)
def test_a_bad_file_gets_one_error_with_line_node_and_rule(text: str, message: str) -> None:
    with pytest.raises(TaxonomyError, match=message):
        Taxonomy.from_text(text, "file.yaml")


@given(
    st.text(max_size=200)
    | st.builds(lambda t: HEAD + "tree:\n" + t, st.text(alphabet="xyz:[]{},&*-' \n1", max_size=60))
)
@settings(max_examples=200)
def test_no_text_raises_anything_but_its_own_error(text: str) -> None:
    with contextlib.suppress(TaxonomyError):
        Taxonomy.from_text(text)


def test_a_cycle_in_python_data_is_refused() -> None:
    tree: dict[str, object] = {}
    tree["one"] = tree
    with pytest.raises(TaxonomyError, match="no cycle"):
        Taxonomy.from_dict({**SMALL, "tree": tree})


def test_names_that_yaml_would_twist_stay_names() -> None:
    names = ["no", "1.5", "a: b", "[x]", "'q'", "null", "ünï", "#1", "- d", "{}", "*a", "&b", "%"]
    tree = Taxonomy.from_parents("odd: name", [["yes", "on"], names], [[0, 1] * 6 + [0]])
    assert Taxonomy.from_text(tree.to_yaml()).names(1) == tuple(names)


def test_not_utf8_and_absent_files(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaxonomyError, match="not UTF-8"):
        Taxonomy.load(tmp_path / "bad.yaml")
    with pytest.raises(FileNotFoundError):
        Taxonomy.load(tmp_path / "absent.yaml")


@pytest.mark.parametrize("name", ["imagenet1k", "road21", "coco80"])
def test_shipped_trees_are_written_as_they_are_read(name: str) -> None:
    tree = Taxonomy.load(SHIPPED / f"{name}.yaml")
    assert tree.name == name
    assert tree.to_yaml() == (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")


def test_road_groups_are_those_that_models_were_trained_with() -> None:
    tree = Taxonomy.load(SHIPPED / "road21.yaml")
    assert tree.names(0) == ("vehicle",)
    assert tree.names(1) == ("two-wheeler", "three-wheeler", "car-like", "heavy")
    assert tree.owner(1).tolist() == [2, 3, 1, 0, 3, 2, 3, 3, 3, 2, 0, 3, 2, 1, 0, 2, 2, 1, 3, 2, 1]
    assert tree.digest() == "bcf09536a2821ca876326308a1a425c38143d6bf1fa1fc9022cd7b2c5cf21d06"


def test_importing_the_tree_loads_neither_torch_nor_plots() -> None:
    code = (
        "import sys, semhier_ros.taxonomy as t; print({'torch', 'scipy', 'openvino', 'cv2'} & set(sys.modules) or [])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

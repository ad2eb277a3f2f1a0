"""What arithmetic the networks of a folder run in."""

from __future__ import annotations

from pathlib import Path

import pytest

from semhier_ros.codec import graphs
from semhier_ros.codec.graphs import COARSE_GRAPHS
from semhier_ros.scene.backend import GRAPHS, OpenVinoBackend


@pytest.mark.parametrize("has", [False, True])
def test_auto_is_bfloat16_for_coarse_graphs_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(graphs, "has_bfloat16", lambda: has)
    own = OpenVinoBackend(Path("nowhere"))
    assert {graph: own.precision_of(graph) for graph in GRAPHS} == {
        graph: "bf16" if has and graph in COARSE_GRAPHS else "f32" for graph in GRAPHS
    }
    assert OpenVinoBackend(Path("nowhere"), precision="bf16").precision_of("picture_synthesis") == "bf16"


def test_other_precisions_are_refused() -> None:
    with pytest.raises(ValueError, match="precision: 'f16' is not one of auto, f32, bf16"):
        OpenVinoBackend(Path("nowhere"), precision="f16")


def test_openvino_says_of_bfloat16_what_the_kernel_says() -> None:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        pytest.skip("no /proc/cpuinfo to compare with")
    if not flags & {"avx2", "asimd"}:
        pytest.skip("/proc/cpuinfo lists no instruction sets of a known kind")
    assert graphs.has_bfloat16() == bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})

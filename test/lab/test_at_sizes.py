"""What codecs reach at given sizes: their frontier, intervals that cover, and leads told from chance in pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from semhier_ros.lab.scoring.frontier import along_frontier, at_sizes
from semhier_ros.lab.studies.tables import sizes

PHOTOS = 80


def photos(gain: float, cost: float = 1.0, noise: float = 0.01, seed: int = 1) -> list[list[dict[str, Any]]]:
    """Rows of three operating points for photos that differ far more among themselves than codecs do."""
    hard = np.random.default_rng(0).normal(0, 4, PHOTOS)
    own = np.random.default_rng(seed).normal(0, noise, (PHOTOS, 3))
    return [
        [
            {"payload_bytes": cost * size * (1 + hard[n] / 20), "psnr": 20 + step - hard[n] + gain + own[n, step]}
            for step, size in enumerate((200, 400, 800))
        ]
        for n in range(PHOTOS)
    ]


def psnr(row: dict[str, Any]) -> dict[str, float]:
    return {"psnr": row["psnr"]}


def test_values_are_those_of_the_frontier_of_the_means() -> None:
    measured, wanted_sizes = photos(0), [100, 300, 5000]
    cost, value = (
        np.array([np.mean([rows[step][name] for rows in measured]) for step in range(3)])
        for name in ("payload_bytes", "psnr")
    )
    found = at_sizes({"jpeg": measured}, psnr, wanted_sizes)
    assert [row["payload_bytes"] for row in found["jpeg"]] == wanted_sizes
    for row, wanted in zip(found["jpeg"], along_frontier(cost, value, np.array(wanted_sizes, float)), strict=True):
        assert row["value"]["psnr"] == (None if np.isnan(wanted) else pytest.approx(wanted))
    assert found["jpeg"][0]["interval"]["psnr"] is None
    low, high = found["jpeg"][1]["interval"]["psnr"]
    assert low < found["jpeg"][1]["value"]["psnr"] < high
    assert 1 < high - low < 3
    assert "margin_of_semhier" not in found["jpeg"][1]


def test_a_lead_is_told_from_chance_on_the_same_photos() -> None:
    measured = {"semhier": photos(0.2), "webp": photos(0, seed=2), "copy": photos(0.2), "dear": photos(5, cost=3)}
    found = at_sizes(measured, psnr, [300])
    ours, webp = found["semhier"][0], found["webp"][0]
    assert "margin_of_semhier" not in ours
    assert webp["interval"]["psnr"][1] > ours["interval"]["psnr"][0], "side by side, intervals overlap"
    low, high = webp["margin_interval"]["psnr"]
    assert 0.15 < low < webp["margin_of_semhier"]["psnr"] < high < 0.25
    assert found["copy"][0]["margin_interval"]["psnr"] == (0, 0)
    dear = found["dear"][0]
    assert dear["value"]["psnr"] is dear["margin_of_semhier"]["psnr"] is dear["margin_interval"]["psnr"] is None
    assert at_sizes(measured, psnr, [300]) == found


def test_the_tables_have_a_line_for_every_codec_and_size() -> None:
    def measures(row: dict[str, Any]) -> dict[str, float]:
        return {"L0": row["psnr"] > 20, "psnr": row["psnr"]}

    found = at_sizes({"semhier": photos(0.2), "webp": photos(0, seed=2)}, measures, [100, 300])
    tables = {table.name: table for table in sizes(found)}
    reached, leads = tables["sizes"], tables["leads"]
    assert not tables["brief"].whole
    assert reached.head == ("codec", "bytes", "L0, %", "psnr, dB")
    assert [row[:2] for row in reached.rows] == [["semhier", 100], ["webp", 100], ["semhier", 300], ["webp", 300]]
    assert reached.rows[0][2:] == [None, None]
    assert [row[:2] for row in leads.rows] == [["webp", 100], ["webp", 300]]
    assert str(leads.rows[1][3]).startswith("0.2")
    assert sizes({}) == []

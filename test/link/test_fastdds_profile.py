"""The generated Fast DDS profile."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from semhier_ros.link.fastdds_profile import fastdds_profile

NAMESPACE = {"d": "http://www.eprosima.com"}
BLOCKS = ["level_0", "level_1", "detail", "picture_0"]


def test_every_topic_has_its_priority_and_the_budget_is_the_controllers():
    root = ElementTree.fromstring(fastdds_profile(["front", "rear"], BLOCKS, 3, 64.0))
    writers = root.findall(".//d:data_writer", NAMESPACE)
    names = [writer.get("profile_name") for writer in writers]
    assert names[:2] == ["/front/semhier/level_0", "/front/semhier/level_1"]
    assert len(names) == 8
    assert not [name for name in names if name.startswith("rt/")], "Fast DDS ignores such names silently"
    priorities = [int(writer.find(".//d:value", NAMESPACE).text) for writer in writers[:4]]
    assert priorities == sorted(priorities)
    assert (priorities[0], priorities[-1]) == (-10, 10)
    kinds = [writer.find(".//d:reliability/d:kind", NAMESPACE).text for writer in writers[:4]]
    assert kinds == ["RELIABLE"] * 3 + ["BEST_EFFORT"]
    period = int(root.find(".//d:period_ms", NAMESPACE).text)
    assert int(root.find(".//d:max_bytes_per_period", NAMESPACE).text) == 64_000 / 8 * period / 1000
    assert {name.text for name in root.findall(".//d:flow_controller_name", NAMESPACE)} == {"semhier"}


@pytest.mark.parametrize(("budget", "semantic"), [(0.0, 3), (64.0, 0), (64.0, 5)])
def test_what_is_out_of_range_is_refused(budget, semantic):
    with pytest.raises(ValueError, match="must be"):
        fastdds_profile(["front"], BLOCKS, semantic, budget)

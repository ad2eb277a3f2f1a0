"""From boxes to the ground: exact where everything is exact, honest where it is not, silent where there is nothing."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection
from semhier_ros.ground import BoxError, GroundError, Lens, Located, Mount, Size, SizeTable, locate, ranges
from semhier_ros.ground.locate import CHI2_95
from semhier_ros.ground.mount import rotation_of
from semhier_ros.ground.render import box_of, outline, to_picture
from semhier_ros.ground.sizes import SIZES

PINHOLE = Lens(640, 480, 500, 500, 319.5, 239.5)
LENSES = (
    PINHOLE,
    Lens(640, 480, 500, 500, 319.5, 239.5, "plumb_bob", (-0.28, 0.07, 0.0003, -0.0002, 0.01)),
    Lens(1280, 720, 610, 611, 640, 362, "rational_polynomial", (0.42, -2.75, 6e-4, -2e-4, 1.6, 0.3, -2.57, 1.52)),
    Lens(800, 600, 260, 261, 400, 300, "equidistant", (0.02, -0.01, 0.004, -0.0005)),
)
MOUNTS = (Mount.level(1.2), Mount.level(1.2, pitch=0.12), Mount.level(2.0, 0.2, roll=0.05, yaw=0.7, x=1.5, y=-0.4))
POLE = Size(0.01, 0.01, 1.7, 0.08)
NAMED = SizeTable({"pole": POLE})


def seen(box: tuple[float, float, float, float], name: str = "person", number: int = 0) -> Detection:
    return Detection(number, box, (0,), (name,), (0.9,))


def placed(mount: Mount, distance: float, bearing: float) -> tuple[float, float]:
    """The point so far from below the camera, so far to the left of where it faces."""
    facing = math.atan2(mount.forward[1], mount.forward[0])
    return (
        mount.position[0] + distance * math.cos(facing + bearing),
        mount.position[1] + distance * math.sin(facing + bearing),
    )


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.model + str(len(lens.coefficients)))
@pytest.mark.parametrize("mount", MOUNTS, ids=["level", "pitched", "rolled"])
def test_exact_boxes_on_exact_ground_give_exact_places(lens: Lens, mount: Mount) -> None:
    """Boxes whose foot is where the lens shows a point of the ground. Range error under 0.1 %, bearing under 0.01
    degrees, through every lens."""
    tried = 0
    for distance in (2.0, 4.0, 10.0, 20.0, 30.0, 45.0):
        for bearing in (-0.35, 0.0, 0.3):
            x, y = placed(mount, distance, bearing)
            foot, known = to_picture(lens, mount, np.array([[x, y, 0.0]]))
            u, v = foot[0]
            if not (known[0] and 10 < u < lens.width - 10 and v < lens.height - 12):
                continue
            (found,) = locate([seen((u - 4, v - 40, u + 4, v), "pole")], lens, mount, sizes=NAMED)
            assert found.method == "ground"
            assert abs(found.near / distance - 1) < 0.001
            assert abs(
                math.remainder(found.bearing - math.atan2(*(np.array([y, x]) - mount.position[1::-1])), 6.283185)
            ) < (math.radians(0.01))
            tried += 1
    assert tried >= 8


def test_a_board_that_faces_the_camera_is_exact_wherever_it_stands() -> None:
    """Range errors under 0.1 % from 3 to 80 m, and bearings to 0.03 degrees."""
    lens, mount = PINHOLE, Mount.level(1.2)
    for distance in np.geomspace(3, 80, 12):
        for aside in (-0.4, 0.0, 0.25):
            x, y = distance, distance * aside
            box = box_of(lens, mount, outline(Size(0.01, 0.5, 1.7, 0.08), x + 0.005, y, 0.0))
            assert box is not None
            (found,) = locate([seen(box, "pole")], lens, mount, sizes=NAMED)
            wanted = math.hypot(x, y)
            assert abs(found.near / wanted - 1) < 0.001
            assert abs(found.bearing - math.atan2(y, x)) < math.radians(0.03)


def test_the_middle_of_a_round_object_is_found_behind_its_near_side() -> None:
    round_one = Size(0.5, 0.5, 1.7, 0.05)
    for aside in (-0.45, 0.0, 0.45):
        x, y = 8.0, 8.0 * aside
        box = box_of(PINHOLE, MOUNTS[0], outline(round_one, x, y, 0.0, round_shape=True))
        assert box is not None
        (found,) = locate([seen(box, "post")], PINHOLE, MOUNTS[0], sizes=SizeTable({"post": round_one}))
        assert math.hypot(found.x - x, found.y - y) < 0.02


def test_the_position_is_in_the_ground_frame() -> None:
    mount = Mount.level(1.0, pitch=0.1, yaw=math.pi / 2, x=3.0, y=1.0)  # faces the frame's y axis
    box = box_of(PINHOLE, mount, outline(POLE, 3.0, 11.0, 0.0))
    assert box is not None
    (found,) = locate([seen(box, "pole")], PINHOLE, mount, sizes=NAMED)
    assert (found.x, found.y) == pytest.approx((3.0, 11.0), abs=0.02)
    assert (found.range, found.bearing) == pytest.approx((10.0, math.pi / 2), abs=0.02)
    xx, _, _, yy = found.covariance
    assert yy > xx


def test_half_a_pixel_is_not_lost() -> None:
    """Boxes are measured from the picture's corner, lenses from the middle of its first pixel."""
    (found,) = locate([seen((310, 100, 330, 240 + 500 * 1.2 / 30))], PINHOLE, Mount.level(1.2))
    assert found.near == pytest.approx(30.0, rel=1e-9)


@pytest.mark.parametrize("height", [20.0, 44.0, 60.0, 66.0, 90.0])
def test_a_middle_is_as_unsure_as_the_grid_and_its_steps_leave_it(height: float) -> None:
    """Middles anywhere in a cell of 8 pixels, told by steps from the cell's middle."""
    error = BoxError(offset_step=0.12, cell=8.0)
    step = 0.12 * height
    middles = np.random.default_rng(1).uniform(-4, 4, 200_000)
    wrong = middles - step * np.rint(middles / step)
    found = error.changes(np.array([[100.0, 100.0, 130.0, 100.0 + height]]), 0)[0, 3]
    assert found.std() == pytest.approx(wrong.std(), rel=0.01)


def test_what_was_read_leaves_less_of_the_cell_and_never_more() -> None:
    boxes = np.array([[100.0, 100.0, 140.0, 160.0]])
    shares = ((0.03, 0.02), (0.04, 0.027), (0.9, 0.9))
    told = [BoxError(0.2, 0.12, ((side, 0.0),), ((middle, 0.0),)).changes(boxes, 0)[0] for side, middle in shares]
    whole = BoxError(0.2, 0.12).changes(boxes, 0)[0]
    spreads = [side.std(axis=1) for side in (*told, whole)]
    assert (spreads[0] < 0.8 * spreads[1]).all()
    assert (spreads[1] < spreads[2]).all()
    assert spreads[2] == pytest.approx(spreads[3])
    upright = np.quantile(np.abs(told[0][3]), 0.95)
    assert upright == pytest.approx(1.96 * 0.03 * 60, rel=0.05)  # as it was measured


def test_covariance_grows_with_every_doubt() -> None:
    box = seen((305, 231, 315, 262))
    mount = Mount.level(1.2)
    exact = BoxError()
    quantised = BoxError(size_step=0.2, offset_step=0.12)
    fine = ((0.02, 0.0), (0.015, 0.1))
    doubts = [
        locate([box], PINHOLE, mount, error=exact),
        locate([box], PINHOLE, mount, error=BoxError(0.2, 0.12, fine, fine), prefix=1),
        locate([box], PINHOLE, mount, error=quantised),
        locate([box], PINHOLE, mount, error=dataclasses.replace(quantised, foot=(0.02, 0.5))),
        locate(
            [box], PINHOLE, Mount.level(1.2, height_sigma=0.08), error=dataclasses.replace(quantised, foot=(0.02, 0.5))
        ),
    ]
    along = [found[0].covariance[0] for found in doubts]
    assert along == sorted(along)
    assert along[0] < along[1] < along[2] < along[3] < along[4]
    grown = locate([box], PINHOLE, mount, error=quantised, forecast_sigma=np.full((1, 4), 3.0))
    assert grown[0].covariance[0] > along[2]
    assert grown[0].covariance[3] > doubts[2][0].covariance[3]
    tilted = locate([box], PINHOLE, Mount.level(1.2, tilt_sigma=0.01), error=exact)
    assert tilted[0].covariance[0] > along[0]


def test_a_tilt_that_nobody_knows_is_corrected_by_what_persons_usually_measure() -> None:
    """A bump tips the camera by half a degree; persons are as tall as usual, give or take 8 %."""
    rng = np.random.default_rng(3)
    person = SIZES["person"]
    wrong: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(200):
        bump, tall = math.radians(0.5) * rng.normal(), person.height * math.exp(person.spread * rng.normal())
        distance = rng.uniform(10, 25)
        size = Size(person.length, person.width, tall, person.spread)
        box = box_of(PINHOLE, Mount.level(1.2, pitch=bump), outline(size, distance, 0.0, 0.0, round_shape=True))
        assert box is not None
        for named, name in ((True, "person"), (False, "thing")):
            told = Mount.level(1.2, tilt_sigma=math.radians(0.5))
            (found,) = locate([seen(box, name)], PINHOLE, told, error=BoxError(foot=(0.02, 0.5), top=(0.02, 0.5)))
            wrong[named].append(abs(found.near / (distance - person.width / 2) - 1))
    assert np.median(wrong[True]) < 0.75 * np.median(wrong[False])


def test_a_child_is_not_taken_for_a_grown_person_far_away() -> None:
    mount = Mount.level(1.2, tilt_sigma=math.radians(0.2))
    box = box_of(PINHOLE, mount, outline(Size(0.3, 0.35, 0.9, 0.1), 10.0, 0.0, 0.0, round_shape=True))
    assert box is not None
    (found,) = locate([seen(box, "person")], PINHOLE, mount, error=BoxError(foot=(0.02, 0.5), top=(0.02, 0.5)))
    assert found.near == pytest.approx(9.825, rel=0.005)


def test_ninety_five_ellipses_of_a_hundred_hold_the_truth() -> None:
    """Truth and error drawn anew by another generator; bound: three standard errors around 95 %."""
    rng = np.random.default_rng(7)
    error = BoxError(0.2, 0.12, foot=(0.03, 0.7), top=(0.03, 0.7), middle=(0.03, 0.7), half=(0.02, 0.5))
    inside = total = 0
    for _ in range(60):
        detections, truths = [], []
        for number in range(20):
            distance, aside = rng.uniform(6, 35), rng.uniform(-0.4, 0.4)
            size = Size(0.4, 0.5, 1.7, 0.08)
            x, y = distance, distance * aside
            box = box_of(PINHOLE, MOUNTS[0], outline(size, x, y, rng.uniform(0, 6.28), round_shape=True))
            assert box is not None
            detections.append(seen(_spoilt(box, error, rng), number=number))
            truths.append((x, y))
        for found in locate(detections, PINHOLE, MOUNTS[0], error=error):
            away = np.array([found.x, found.y]) - truths[found.detection.id]
            inside += away @ np.linalg.inv(np.array(found.covariance).reshape(2, 2)) @ away <= CHI2_95
            total += 1
    assert total > 1100
    assert abs(inside / total - 0.95) < 3 * math.sqrt(0.95 * 0.05 / total)


def _spoilt(
    box: tuple[float, float, float, float], error: BoxError, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A box as a quantiser and a detector might give it."""
    x0, y0, x1, y1 = box
    w, h = (
        (x1 - x0) * math.exp(error.size_step * rng.uniform(-0.5, 0.5)),
        (y1 - y0) * math.exp(error.size_step * rng.uniform(-0.5, 0.5)),
    )
    cx = (x0 + x1) / 2 + error.offset_step * w * rng.uniform(-0.5, 0.5)
    cy = (y0 + y1) / 2 + error.offset_step * h * rng.uniform(-0.5, 0.5)
    normal = rng.normal(size=4)
    pairs = ((error.middle, w), (error.half, w), (error.top, h), (error.foot, h))
    middle, half, top, foot = (math.hypot(p[0] * side, p[1]) * n for (p, side), n in zip(pairs, normal, strict=True))
    return cx - w / 2 + middle - half, cy - h / 2 + top, cx + w / 2 + middle + half, cy + h / 2 + foot


def test_a_foot_that_the_picture_cuts_off_is_placed_by_width_or_by_the_edge() -> None:
    mount = Mount.level(1.2)
    (near,) = locate([seen((200, 20, 440, 480))], PINHOLE, mount, error=BoxError(0.2, 0.12))
    assert near.method == "size"
    assert near.near < 500 * 1.2 / 240 + 1e-6  # not beyond the ground at the picture's lower edge
    (filling,) = locate([seen((0, 0, 640, 480))], PINHOLE, mount, error=BoxError(0.2, 0.12))
    assert filling.method == "edge"
    assert filling.near < 500 * 1.2 / 240
    assert filling.range + 2 * math.sqrt(filling.covariance[0]) > 2.5


def test_near_the_horizon_the_usual_size_says_more() -> None:
    """A tilt known to a degree makes the foot's ray worthless at 40 m; a person's height is known to 8 %."""
    mount = Mount.level(1.2, tilt_sigma=math.radians(1.0))
    box = (316, 240 - 500 * 0.5 / 40, 322, 240 + 500 * 1.2 / 40)
    (found,) = locate([seen(box)], PINHOLE, mount, error=BoxError(foot=(0.02, 0.5), top=(0.02, 0.5)))
    assert found.method == "size"
    assert found.near == pytest.approx(40, rel=0.05)
    (sure,) = locate([seen(box)], PINHOLE, Mount.level(1.2), error=BoxError(foot=(0.02, 0.5)))
    assert sure.method == "ground"


def test_what_floats_above_the_plane_is_not_on_the_ground() -> None:
    mount = Mount.level(1.2, tilt_sigma=0.005)
    sign = (300, 100, 330, 180)  # a foot 60 pixels above the horizon
    assert locate([seen(sign)], PINHOLE, mount, error=BoxError(0.2, 0.12)) == []
    far = (300, 238, 302, 240.2)
    assert locate([seen(far)], PINHOLE, mount) == []  # 340 m away by its size


def test_what_is_beyond_the_range_is_left_out() -> None:
    box = seen((310, 200, 330, 240 + 500 * 1.2 / 40))
    assert locate([box], PINHOLE, Mount.level(1.2), max_range=30.0) == []
    assert len(locate([box], PINHOLE, Mount.level(1.2), max_range=50.0)) == 1


def test_a_car_seen_from_the_side_is_wide_and_not_deep() -> None:
    car = Size(4.4, 1.8, 1.5, 0.08)
    shapes = []
    for yaw in (0.0, math.pi / 2):
        box = box_of(PINHOLE, MOUNTS[0], outline(car, 15.0, 0.0, yaw))
        assert box is not None
        (found,) = locate([seen(box, "car")], PINHOLE, MOUNTS[0])
        shapes.append((found.length, found.width))
        assert math.hypot(found.x - 15.0, found.y) < 2.2 * math.sqrt(found.covariance[0])
    (away, aside) = shapes
    assert away[0] == pytest.approx(4.4, abs=0.3)
    assert away[1] == pytest.approx(1.8, abs=0.3)
    assert aside[1] == pytest.approx(4.4, abs=0.3)
    assert 1.8 < aside[0] < 3.9  # so wide it also seems when it stands aslant


def test_the_footprint_goes_round_the_object_once() -> None:
    (found,) = locate([seen((300, 218, 320, 262))], PINHOLE, MOUNTS[0])
    corners = np.array(found.footprint())
    assert corners.mean(axis=0) == pytest.approx((found.x, found.y))
    following = np.roll(corners, -1, axis=0)
    area = (corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum() / 2
    assert area == pytest.approx(found.length * found.width)


def test_speed_in_pixels_becomes_speed_in_metres() -> None:
    mount = Mount.level(1.2)
    person = Size(0.4, 0.5, 1.7, 0.08)

    def box(x: float, y: float) -> np.ndarray:
        found = box_of(PINHOLE, mount, outline(person, x, y, 0.0))
        assert found is not None
        return np.array(found)

    rates = (box(12.0 - 0.3, 1.05) - box(12.0 + 0.3, 0.95)) / 0.2
    now = box(12.0, 1.0)
    (found,) = locate([seen(tuple(now))], PINHOLE, mount, rates=rates[None], rate_sigma=np.ones((1, 4)))
    assert found.velocity == pytest.approx((-3.0, 0.5), abs=0.1)
    assert found.velocity_covariance is not None
    assert found.velocity_covariance[0] > found.velocity_covariance[3] > 0


def test_the_finest_known_name_says_the_size() -> None:
    table = SizeTable()
    assert table.find(("vehicle", "heavy", "bus")).length == 11.0
    assert table.find(("vehicle", "heavy", "a new kind")) == table.find(("heavy",))
    assert table.find(("nothing known",)).spread == 1.0
    own = SizeTable.of_dict({"Robot": [0.7, 0.5, 0.4, 0.1]})
    assert own.find(("robot",)).height == 0.4
    with pytest.raises(GroundError, match="'robot'"):
        SizeTable.of_dict({"robot": [1, 2, 3]})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Mount.level(0.0), "height: the camera is 0 m above the ground"),
        (lambda: Mount.level(-1.0), "height: the camera is -1 m above"),
        (lambda: Mount.level(1.0, pitch=float("nan")), "pitch: nan"),
        (lambda: Mount.level(1.0, tilt_sigma=2.0), "tilt_sigma: 2, expected 0 to 0.5"),
        (lambda: rotation_of((0, 0, 0, 0)), "quaternion .* is not of length 1"),
        (lambda: Mount.level(1.2, pitch=-1.0).check_sees_ground(PINHOLE), "looks 57.3 degrees up"),
        (lambda: locate([seen((1, 2, 3, 4))], PINHOLE, MOUNTS[0], max_range=0.0), "max_range: 0"),
        (lambda: locate([seen((1, 2, 3, 4))], PINHOLE, MOUNTS[0], rates=np.zeros((2, 4))), r"expected \(1, 4\)"),
        (lambda: BoxError(read=((2.0, 0.0),), across=((0.0, 0.0),)), "read"),
        (lambda: BoxError(read=((0.1, 0.0),)), "across: 0 prefixes"),
        (lambda: Size(0, 1, 1, 0.1), "length: 0"),
    ],
)
def test_what_is_out_of_range_is_refused_in_one_line(make: object, said: str) -> None:
    with pytest.raises(GroundError, match=said):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("mount", MOUNTS, ids=["level", "pitched", "rolled"])
def test_a_quaternion_says_the_same_as_angles(mount: Mount) -> None:
    w = math.sqrt(max(0.0, 1 + np.trace(mount.rotation))) / 2
    r = mount.rotation
    quaternion = ((r[2, 1] - r[1, 2]) / (4 * w), (r[0, 2] - r[2, 0]) / (4 * w), (r[1, 0] - r[0, 1]) / (4 * w), w)
    assert np.allclose(rotation_of(quaternion), mount.rotation, atol=1e-9)


NUMBERS = st.one_of(st.floats(-3000, 3000), st.floats())
BOXES = st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)


@settings(max_examples=400, derandomize=True)
@given(
    st.lists(st.tuples(BOXES, st.sampled_from(["person", "car", "vehicle", "unheard of"])), max_size=6),
    st.sampled_from(LENSES),
    st.floats(0.05, 30),
    st.floats(-1.5, 1.5),
    st.floats(-3.1, 3.1),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.booleans(),
)
def test_whatever_comes_there_is_no_nan_and_nothing_behind_the_camera_or_the_horizon(
    boxes: list[tuple[tuple[float, float, float, float], str]],
    lens: Lens,
    height: float,
    pitch: float,
    roll: float,
    tilt_sigma: float,
    rates: bool,
) -> None:
    detections = [seen(box, name, number) for number, (box, name) in enumerate(boxes)]
    mount = Mount.level(height, pitch, roll, tilt_sigma=tilt_sigma, height_sigma=0.1 * tilt_sigma)
    error = BoxError(0.2, 0.12, foot=(0.03, 1.0), top=(0.03, 1.0), middle=(0.03, 1.0))
    moving = np.full((len(boxes), 4), 25.0) if rates else None
    for found in locate(detections, lens, mount, error=error, rates=moving, rate_sigma=moving):
        _check_sane(found, lens, mount)


def _check_sane(found: Located, lens: Lens, mount: Mount) -> None:
    numbers = [found.x, found.y, found.near, found.range, found.bearing, found.length, found.width, found.height]
    numbers += [found.heading, *found.covariance, *(found.velocity or ()), *(found.velocity_covariance or ())]
    assert np.isfinite(numbers).all()
    assert 0 < found.near <= found.range + 1e-9 <= 100 + 1e-6
    assert np.linalg.eigvalsh(np.array(found.covariance).reshape(2, 2)).min() > 0
    assert min(found.length, found.width, found.height) > 0
    x0, _, x1, y1 = found.detection.box
    ray, known = lens.rays(np.array([[(x0 + x1) / 2 - 0.5, y1 - 0.5]]))
    down = mount.rotation @ ray[0]
    if found.method in ("ground", "edge"):
        assert known[0]
        assert down[2] < 0  # its foot is below the horizon
    if lens.model != "equidistant":
        ahead = np.array([found.x, found.y, 0.0]) - mount.position
        across = ahead / np.linalg.norm(ahead)
        if found.method == "ground" and found.range > found.near * 1.5:
            return  # an object right below: its middle may lie beyond the picture
        assert across @ down > 0


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.model + str(len(lens.coefficients)))
def test_ranges_alone_are_those_of_places(lens: Lens) -> None:
    """Feet on the ground, cut off by each edge, above the horizon; forecasts that grew; boxes that are none."""
    rng = np.random.default_rng(7)
    error = BoxError(size_step=0.2, offset_step=0.12, foot=(0.02, 0.5), top=(0.02, 0.5), middle=(0.05, 1.0), cell=8.0)
    methods = set()
    for mount in MOUNTS:
        for _ in range(20):
            corners = rng.uniform(-20, (lens.width, lens.height), (25, 2))
            boxes = np.concatenate([corners, corners + rng.uniform(-2, 200, (25, 2))], axis=1)
            found = [
                seen(tuple(box), ("person", "pole", "no such name")[row % 3], row) for row, box in enumerate(boxes)
            ]
            told = {"error": error, "sizes": NAMED, "max_range": 60.0, "forecast_sigma": rng.uniform(0, 4, (25, 4))}
            places = locate(found, lens, mount, **told)
            methods |= {item.method for item in places}
            assert ranges(found, lens, mount, **told) == {item.detection.id: item.range for item in places}
    assert methods == {"ground", "size", "edge"}
    assert ranges([], lens, MOUNTS[0]) == {}
    with pytest.raises(GroundError, match="max_range"):
        ranges([], lens, MOUNTS[0], max_range=0.5)

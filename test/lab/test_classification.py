"""Evaluations of whole images: what they refuse, and their small arithmetic."""

import cv2
import numpy as np
import pytest

from semhier_ros.command import CommandError
from semhier_ros.footage.labels import read_grouping, read_photos
from semhier_ros.footage.video import read_picture
from semhier_ros.lab.scoring.figures import interval, summed
from semhier_ros.lab.studies.transfer import probe
from semhier_ros.taxonomy.scores import calibration_error


def test_labels_are_checked_with_one_clear_error_each(tmp_path):
    labels = tmp_path / "labels.csv"
    with pytest.raises(CommandError, match="is not a folder"):
        read_photos(tmp_path / "none", labels, 10)
    with pytest.raises(CommandError, match="--labels"):
        read_photos(tmp_path, labels, 10)
    labels.write_text("file,class\n")
    with pytest.raises(CommandError, match="file and label wanted"):
        read_photos(tmp_path, labels, 10)
    labels.write_text("file,label\n")
    with pytest.raises(CommandError, match="names no photo"):
        read_photos(tmp_path, labels, 10)
    labels.write_text("file,label\na.png,3\n")
    with pytest.raises(CommandError, match="is missing"):
        read_photos(tmp_path, labels, 10)
    labels.write_text("file,label\na.png,10\n")
    with pytest.raises(CommandError, match=r"label '10', expected 0\.\.9"):
        read_photos(tmp_path, labels, 10)


def test_odd_pictures_are_read_and_damaged_ones_refused(tmp_path):
    grey = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert read_picture(tmp_path / "grey.png").shape == (3, 4, 3)
    for data, complaint in ((b"", "empty, expected a picture"), (b"no picture", "no picture, or damaged")):
        (tmp_path / "damaged.png").write_bytes(data)
        with pytest.raises(CommandError, match=complaint):
            read_picture(tmp_path / "damaged.png")


def test_groupings_give_every_class_a_cluster(tmp_path):
    path = tmp_path / "two.csv"
    path.write_text("label,cluster\n0,1\n1,0\n2,1\n")
    owner = read_grouping(path, 3)
    np.testing.assert_allclose(summed(np.array([[0.2, 0.3, 0.5]]), owner), [[0.3, 0.7]])
    with pytest.raises(CommandError, match="gives class 3 no cluster"):
        read_grouping(path, 4)


def test_figures():
    assert calibration_error(np.full(100, 0.9), np.arange(100) < 90) == pytest.approx(0)
    assert calibration_error(np.full(100, 0.9), np.arange(100) < 40) == pytest.approx(0.5)
    low, high = interval(np.arange(400) % 2.0)
    assert 0.42 < low < 0.5 < high < 0.58


@pytest.fixture
def learner():
    return pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `codecs`)")


@pytest.mark.usefixtures("learner")
def test_a_probe_learns_what_is_there_and_only_that():
    random = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"])[np.arange(300) % 3]
    test = np.arange(300) % 10 < 3
    told = np.eye(3)[np.arange(300) % 3] + 0.1 * random.standard_normal((300, 3))
    assert probe(told, labels, test).mean() == 1
    assert probe(random.standard_normal((300, 3)), labels, test).mean() < 0.6


@pytest.mark.usefixtures("learner")
def test_a_probe_learns_from_training_photos_coded_twice():
    labels = np.array(["a", "b", "c"])[np.arange(300) % 3]
    test = np.arange(300) % 10 < 3
    once, twice = [], []
    for seed in range(4):
        random = np.random.default_rng(seed)
        told = 2.2 * np.eye(200)[np.arange(300) % 3]
        features, again = (told + random.standard_normal((300, 200)) for _ in range(2))
        again[test] = 1e6  # what test photos are coded to otherwise is nobody's business
        once.append(probe(features, labels, test).mean())
        twice.append(probe(features, labels, test, again).mean())
    assert np.mean(twice) > np.mean(once) + 0.03

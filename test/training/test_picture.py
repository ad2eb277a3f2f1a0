"""The picture codec before and after it leaves torch: a sound start, and integers that tell what the floats told."""

import numpy as np
import pytest
from reference_contexts import parameters, see

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")

from semhier_ros.codec.latent_groups import UNIT
from semhier_ros.codec.picture_walk import channels_of, phases_of
from semhier_ros.torch.picture import GROUPS, MAX_SCALE, MIN_SCALE, PictureModel, principal_start
from semhier_ros.training.checkpoint import save_checkpoint
from semhier_ros.training.picture_form import TABLE_ROWS, analyse, load_picture


def waves(side: int = 96) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    planes = [np.sin(x / 9 + y / 13), np.cos(x / 5 - y / 31), np.sin(y / 7)]
    return (127 + 90 * np.stack(planes, axis=-1)).astype(np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(3)
    model = PictureModel(5)
    patches = torch.from_numpy(waves(320).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
    principal_start(
        model.analysis, model.synthesis, patches.unfold(1, 16, 4).unfold(2, 16, 4).flatten(1, 2).swapaxes(0, 1)
    )
    with torch.no_grad():
        for context in model.contexts:
            context.out.weight.normal_(0, 0.05)
    path = tmp_path_factory.mktemp("picture") / "picture.pt"
    save_checkpoint(path, {"average": model.state_dict(), "planes": {"scenes": (0, 2), "whole_images": (2, 5)}})
    return path, model.eval()


def test_the_start_is_a_transform_and_its_inverse(checkpoint):
    _, model = checkpoint
    image = torch.from_numpy(waves().astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        patches = model.analysis.linear(torch.nn.functional.pixel_unshuffle(image, 16))
        restored = model.synthesis.linear(patches) / (16 * 16 * 3)
        restored = torch.nn.functional.pixel_shuffle(torch.nn.functional.pixel_shuffle(restored, 4), 4)
    # the bias of the synthesis brings the mean back only at its own gain: compare what varies
    difference = (restored - image) - (restored - image).mean(dim=(2, 3), keepdim=True)
    assert float(difference.abs().mean()) < 0.2


def test_integers_expect_what_the_floats_expect(checkpoint):
    path, _ = checkpoint
    parts = load_picture(path, "whole_images")
    blocks = parts.blocks()
    draw = np.random.default_rng(5)
    for number in range(len(GROUPS)):
        known = draw.integers(-300, 300, (channels_of(GROUPS[: number + 1]), 7, 10)).astype(np.int32)
        fresh = (draw.random((1, 7, 10)) < 0.5).astype(np.int32)
        seen = np.concatenate([see(blocks.contexts[number], known), fresh * UNIT])
        for phase in phases_of(number):
            shift, rows = parameters(blocks.contexts[number], seen, known, phase, TABLE_ROWS)
            with torch.no_grad():
                mean, log_scale = parts.model.contexts[number](
                    torch.from_numpy(known / UNIT).float()[None], torch.from_numpy(fresh).float()[None], phase
                )
            np.testing.assert_allclose(shift / UNIT, mean[0], atol=0.15)
            scales = np.geomspace(MIN_SCALE, MAX_SCALE, TABLE_ROWS)
            wanted = np.interp(log_scale[0], np.log(scales), np.arange(TABLE_ROWS))
            assert np.abs(rows - wanted).max() <= 1


def test_fewer_groups_are_the_same_codec_cut(checkpoint):
    path, _ = checkpoint
    whole, cut = load_picture(path, "scenes"), load_picture(path, "scenes", 3)
    picture = waves()
    full, part = analyse(whole.model, picture), analyse(cut.model, picture)
    np.testing.assert_allclose(part, full[: len(part)], rtol=1e-4, atol=1e-4)
    first: list = []
    second: list = []
    whole.blocks().quantise_all(full, first, 3, 0.5)
    cut.blocks().quantise_all(part, second, 3, 0.5)
    assert (first[2].latents != second[2].latents).mean() < 0.01


def test_an_unknown_meaning_is_named(checkpoint):
    with pytest.raises(ValueError, match="scenes, whole_images, not for lidar"):
        load_picture(checkpoint[0], "lidar")
    with pytest.raises(FileNotFoundError, match="train the picture stage first"):
        load_picture(checkpoint[0].with_name("none.pt"), "scenes")


def test_task_loss_sees_what_a_blur_takes_and_leaves_the_classifier_alone():
    from semhier_ros.training.picture_task import TaskLoss

    torch.manual_seed(0)
    owners = [torch.arange(1000) // 100, torch.arange(1000) // 10, torch.arange(1000)]
    task = TaskLoss(owners)
    image = torch.from_numpy(waves().astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    assert float(task(image, image)) < 1e-4
    blurred = torch.nn.functional.avg_pool2d(image, 9, 1, 4).requires_grad_()
    nats = task(blurred, image)
    nats.backward()
    assert float(nats.detach()) > 0.1
    assert float(blurred.grad.abs().max()) > 0
    assert all(parameter.grad is None for parameter in task.parameters())
    assert not task.train().classifier.training


@pytest.mark.parametrize("painting", [False, True])
def test_painting_alone_leaves_what_is_sent_as_it_was(painting):
    from semhier_ros.training.picture import prefix_loss

    torch.manual_seed(0)
    model = PictureModel(1)
    if painting:
        model.keep_code()
    image = torch.from_numpy(waves().astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    found = prefix_loss(model, image, torch.zeros(1, 1, 6, 6), prefix=2)
    found.loss.backward()
    assert len(found.bits) == 3
    assert min(found.bits) > 0
    coding = (*model.analysis.parameters(), *model.contexts[:3].parameters())
    assert all((own.grad is None) == painting for own in coding)
    assert all(own.grad is not None for own in model.synthesis.parameters())

"""FID and FVD equal what torchmetrics and the published formula say, with the same weights."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from magic141.model_patches.bridge.judge.files import CATEGORY
from magic141.model_patches.bridge.judge.folder import compare_folders, read_folders
from magic141.model_patches.bridge.judge.models import Models
from magic141.model_patches.judge.sets import Inception, distance_with_interval, frechet_distance
from magic141.model_patches.store.video_sink import VideoFormat, write_segment
from magic141.tests.support.published_comparison import moving_video
from magic141.tests.support.tiny_judges import inception_weights, write_video_mae
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3


def by_definition(one: torch.Tensor, other: torch.Tensor) -> float:
    """Heusel et al. (2017), with the root of a matrix."""
    a, b = one.double().numpy(), other.double().numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2 * root.real))


@pytest.mark.parametrize(("n", "m"), [(200, 300), (40, 25), (10, 200)])
def test_the_distance_is_the_published_one_whatever_is_more(n, m):
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(n, 32, generator=generator) @ torch.randn(32, 32, generator=generator)
    other = torch.randn(m, 32, generator=generator) + 0.5
    assert frechet_distance(one, other) == pytest.approx(by_definition(one, other), rel=1e-4)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_the_interval_holds_the_distance_of_other_draws_and_shrinks():
    generator = torch.Generator().manual_seed(1)

    def draw(count: int) -> torch.Tensor:
        return torch.randn(count, 1, 4, generator=generator)

    few, many = (distance_with_interval(draw(n), draw(n) + 1) for n in (50, 800))
    assert many["value"] == pytest.approx(4, abs=0.5)
    assert many["plus_minus"] < few["plus_minus"] / 2
    values = [distance_with_interval(draw(200), draw(200) + 1) for _ in range(20)]
    held = sum(abs(each["value"] - 4.05) < each["plus_minus"] for each in values)
    assert held >= 16


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("fid") / "pt_inception.pth"
    torch.save(inception_weights(), path)
    return path


def test_inception_and_fid_are_those_of_torchmetrics(weights):
    theirs = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))
    ours = Inception(torch.load(weights, weights_only=True))
    one, other = (moving_video(count=3, height=90, width=120, seed=seed).movedim(-1, 1) for seed in (0, 1))
    with torch.no_grad():
        features = [ours(each.float()) for each in (one, other)]
        assert torch.allclose(features[0], theirs(one), rtol=1e-4, atol=1e-4 * float(features[0].abs().max()))
    metric = FrechetInceptionDistance(feature=theirs)
    metric.update(one, real=True)
    metric.update(other, real=False)
    assert frechet_distance(*features) == pytest.approx(float(metric.compute()), rel=1e-3)


def test_two_folders_have_a_distance_each(weights, tmp_path, monkeypatch):
    write_video_mae(tmp_path / "models" / "videomae-tiny")
    (tmp_path / "models" / weights.name).write_bytes(weights.read_bytes())
    monkeypatch.setitem(folder_paths.folder_names_and_paths, CATEGORY, ([str(tmp_path / "models")], set()))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    for seed in range(4):
        frames = moving_video(seed=seed, height=64, width=96, count=18).float() / 255
        for name, shown in (("real", frames), ("made", frames.flip(1) ** 2)):
            (tmp_path / name).mkdir(exist_ok=True)
            write_segment(tmp_path / name / f"{seed}.mkv", shown, VideoFormat("ffv1 lossless", 24, 96, 64))
    (tmp_path / "made" / "broken.mp4").write_bytes(b"no video")
    real, made = read_folders("output/real\nmade = output/made")
    models = Models()
    (far, far_notes), (near, _) = (
        compare_folders(each, real, models, progress=lambda done, total: None) for each in (made, real)
    )
    assert far_notes == 2 * [far_notes[0]]
    assert "made: broken.mp4 is left out of FID and FVD" in far_notes[0]
    assert far.keys() == {"FID", "FVD"}
    for name, distance in far.items():
        assert near[name]["value"] == pytest.approx(0, abs=1e-3 * distance["value"])
        assert distance["plus_minus"] > 0
    for path in (tmp_path / "made").glob("[1-3].mkv"):
        path.unlink()
    (alone,) = read_folders("alone = output/made")
    _, notes = compare_folders(replace(alone, label="alone"), real, models, progress=lambda done, total: None)
    assert any(
        "FVD is not measured. alone has 1 videos that can be read; it needs two" in note for note in notes
    )

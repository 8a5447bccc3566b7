"""Measures without a model, against torchmetrics and against clips whose answer is known."""

import pytest
import torch
from magic141.model_patches.judge.plain import MOST_PSNR, PlainMeasures, jumps, longest_run, psnr, ssim
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


def measured(frames: list[torch.Tensor], fps: float = 10.0) -> PlainMeasures:
    measures = PlainMeasures()
    for frame in frames:
        measures.add(frame)
    assert measures.values(fps)
    return measures


def gray(*levels: int) -> list[torch.Tensor]:
    return [torch.full((16, 16, 3), level, dtype=torch.uint8) for level in levels]


@pytest.mark.parametrize("side", [11, 40])
def test_psnr_and_ssim_are_those_of_torchmetrics(side):
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(side, side + 8, 3, generator=generator)
    other = (one + 0.2 * torch.rand(one.shape, generator=generator)).clamp(0, 1)
    batches = [each.movedim(-1, 0)[None] for each in (other, one)]
    assert psnr(one, other) == pytest.approx(
        float(peak_signal_noise_ratio(*batches, data_range=1.0)), rel=1e-5
    )
    if side > 11:  # torchmetrics takes the mean with a mirrored border, where the window does not fit whole
        _, places = structural_similarity_index_measure(*batches, data_range=1.0, return_full_image=True)
        assert ssim(one, other) == pytest.approx(float(places[..., 5:-5, 5:-5].mean()), abs=1e-5)
    assert psnr(one, one) == MOST_PSNR
    assert ssim(one, one) == pytest.approx(1)


def test_known_steps_have_known_measures():
    measures = measured(gray(100, 110, 120, 130, 140))
    values = measures.values(10.0)
    assert values["temporal_flickering"] == pytest.approx(1 - 10 / 255)
    assert values["motion"] == pytest.approx(1000 / 255)
    assert values["motion_smoothness"] == 1
    assert values["still_s"] == 0
    assert values["worst_jump"] == pytest.approx(1)
    assert values["sharpness"] == pytest.approx(0, abs=1e-6)
    assert measured(gray(100, 110, 100, 110)).values(10.0)["motion_smoothness"] == pytest.approx(1 - 10 / 255)


def test_a_standstill_and_a_jump_are_found_where_they_are():
    measures = measured(gray(10, 20, 30, 30, 30, 30, 40, 50, 200, 210))
    assert measures.values(10.0)["still_s"] == pytest.approx(0.3)
    assert measures.moments(10.0) == {"still_s": pytest.approx(0.2), "worst_jump": pytest.approx(0.8)}


def test_color_drift_is_measured_at_its_worst_although_it_comes_back():
    away_and_back = gray(100, 100, 140, 140, 160, 160, 140, 140, 100, 100)
    values, curve = measured(away_and_back).values(10.0), measured(away_and_back).curves()["color_drift"]
    assert values["color_drift"] == pytest.approx(max(curve), abs=1e-4)
    assert curve[0] == curve[-1] == 0
    assert values["color_drift"] > 15


def test_few_frames_have_few_measures():
    assert set(measured(gray(1)).values(10.0)) == {"sharpness"}
    assert {"motion_smoothness", "worst_jump"} & set(measured(gray(1, 2)).values(10.0)) == set()
    assert "worst_jump" not in measured(gray(1, 2, 3)).values(10.0)


def test_runs_and_jumps():
    assert longest_run([True, False, True, True, False]) == (2, 2)
    assert longest_run([False]) == (0, 0)
    assert jumps([0.0, 0.0, 0.0]) == [1.0, 1.0, 1.0]
    assert max(range(5), key=jumps([0.1, 0.1, 0.9, 0.1, 0.1]).__getitem__) == 2

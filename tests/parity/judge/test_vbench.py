"""Every measure with a model is what its published definition says, on tiny random models with the same weights."""

import pickle

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from comfy.model_management import InterruptProcessingException
from magic141.model_patches.bridge.judge import models
from magic141.model_patches.bridge.judge.clips import Clip
from magic141.model_patches.bridge.judge.files import CATEGORY
from magic141.model_patches.bridge.judge.models import ClipInputs, Models
from magic141.model_patches.bridge.judge.run import judge_clip
from magic141.model_patches.judge.catalog import MEASURES
from magic141.tests.support.published_comparison import FPS, PROMPT, by_definition, moving_video
from magic141.tests.support.tiny_judges import write_judges


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_judges(tmp_path_factory.mktemp("judges"))


@pytest.fixture
def judges(folder, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, CATEGORY, ([str(folder)], set()))


def judged(video: torch.Tensor, start: torch.Tensor):
    inputs = ClipInputs(start.float() / 255, PROMPT)
    return judge_clip(Clip(video.float() / 255, FPS, 0), inputs, Models(), progress=lambda done, total: None)


@pytest.mark.parametrize(("height", "width"), [(128, 132), (520, 140)])
def test_each_measure_is_its_published_definition(judges, folder, height, width):
    video = moving_video(count=5 if height > 200 else 9, height=height, width=width)
    start = moving_video(count=1, height=height, width=width, seed=1)
    found = judged(video, start)
    assert found.missing == {}
    assert set(found.values) == set(MEASURES)
    wanted = by_definition(folder, video, start)
    assert {name: found.values[name] for name in wanted} == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_a_model_that_cannot_see_the_clip_leaves_the_others_their_measures(judges):
    found = judged(moving_video(height=64, width=96), moving_video(count=1, height=64, width=96))
    assert set(found.missing) == {"dynamic_degree", "flow_px"}
    assert found.missing["flow_px"] == "RAFT needs 128 pixels a side; the clip has 96 x 64."


def test_a_clip_that_is_too_short_for_its_flow_is_told_what_it_needs(judges):
    found = judged(moving_video(count=2, height=128, width=132), moving_video(count=1, height=128, width=132))
    wanted = f"The clip needs {1 + round(FPS / 8)} frames or more for it."  # an eighth of a second apart
    assert found.missing["flow_px"] == found.missing["dynamic_degree"] == wanted


def test_wrong_files_are_named_and_the_rest_is_measured(folder, tmp_path, monkeypatch):
    for name in ("lpips_alex.pth", "alexnet-owt-7be5be79.pth"):
        (tmp_path / name).write_bytes((folder / "sa_0_4_vit_l_14_linear.pth").read_bytes())
    (tmp_path / "musiq_spaq.safetensors").write_bytes(b"no weights")
    (tmp_path / "raft_large.pth").write_bytes(pickle.dumps(print))
    (tmp_path / "dino-vitb16").mkdir()
    (tmp_path / "dino-vitb16" / "config.json").write_text("{}")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, CATEGORY, ([str(tmp_path)], set()))
    found = judged(moving_video(height=64, width=96), moving_video(count=1, height=64, width=96))
    assert "musiq_spaq.safetensors could not be loaded" in found.missing["imaging_quality"]
    assert "raft_large.pth could not be loaded" in found.missing["flow_px"]
    assert "It does not hold torchvision's AlexNet" in found.missing["start_lpips"]
    assert "dino-vitb16 could not be loaded" in found.missing["i2v_subject"]
    assert "motion" in found.values


def test_a_cancel_is_heard_within_a_model(judges, monkeypatch):
    def cancel():
        if len(asked) == 40:
            raise InterruptProcessingException
        asked.append(1)

    asked: list[int] = []
    monkeypatch.setattr(models, "stop_if_canceled", cancel)
    with pytest.raises(InterruptProcessingException):
        judged(moving_video(), moving_video(count=1))

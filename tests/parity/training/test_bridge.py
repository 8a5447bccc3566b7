"""What is said before a training starts: packages, names, files of others, runs of other settings."""

import importlib.util
import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from magic141.model_patches.training.config import DistillConfig
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tools.host import use_comfyui
from safetensors.torch import save_file

use_comfyui()
import folder_paths
from magic141.model_patches.bridge.training import run as training

CONFIG = DistillConfig(total_steps=3)


def test_missing_packages_are_named_with_the_way_to_get_them(monkeypatch):
    assert training.missing_packages() is None
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    assert "pip install diffusers peft (missing: peft)" in training.missing_packages()


def test_a_file_that_another_run_wrote_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    path = training.target_path("mine", "lora", "me")
    assert path == tmp_path / "loras" / "mine.safetensors"
    path.parent.mkdir()
    save_file({"a": torch.zeros(1)}, path, {training.RUN_KEY: "me"})
    assert training.target_path("mine", "lora", "me") == path
    with pytest.raises(ValueError, match=r"models/loras/mine\.safetensors is there already"):
        training.target_path("mine", "lora", "another")
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is there already"):
        training.target_path("mine", "lora", "me")


def test_a_run_goes_on_only_with_its_own_settings_and_set(tmp_path):
    run_dir = tmp_path / "run"
    training.check_run(run_dir, CONFIG, "cats")
    (run_dir / "checkpoints" / "step-000002").mkdir(parents=True)
    (run_dir / "config.json").write_text(json.dumps({**asdict(CONFIG), "weights": "x", "clips": 4}))
    training.check_run(run_dir, replace(CONFIG, sample_every=7), "cats")
    with pytest.raises(ValueError, match=r"magic141_distill/run.*student_steps was 4 and is now 2"):
        training.check_run(run_dir, replace(CONFIG, student_steps=2), "cats")
    with pytest.raises(ValueError, match="training_set was 'cats' and is now 'dogs'"):
        training.check_run(run_dir, CONFIG, "dogs")


@pytest.mark.parametrize("name", training.RUN_FILES)
def test_a_run_folder_whose_files_lead_elsewhere_is_refused(tmp_path, name):
    run_dir, outside = tmp_path / "run", tmp_path / "outside"
    run_dir.mkdir()
    outside.write_text("someone's")
    (run_dir / name).symlink_to(outside)
    with pytest.raises(ValueError, match=rf"{name} is a link that leads out of its folder"):
        training.check_run(run_dir, CONFIG, "cats")
    assert outside.read_text() == "someone's"


@pytest.mark.parametrize(
    ("channels", "expanded", "stage", "train", "knows_frames"),
    [
        (33, False, "dmd2", "lora", True),
        (33, True, "dmd2", "lora", False),
        (33, True, "flow", "full", True),
        (16, False, "dmd2", "lora", False),
    ],
)
def test_clips_are_learnt_as_the_model_takes_them(
    monkeypatch, channels, expanded, stage, train, knows_frames
):
    from magic141.model_patches.training import source as video_folder

    monkeypatch.setattr(video_folder, "VideoFolderSource", lambda _set, **options: options)
    model = SimpleNamespace(get_attachment=lambda _key: SimpleNamespace(is_expanded=expanded))
    config = replace(CONFIG, stage=stage, train=train)
    options = training.open_source(None, model, tiny_dit(channels), config)
    assert (options["known_shares"][0] < 1) == knows_frames

"""Which folders the encoder dropdowns offer, and what is said of one that is gone."""

import json

import pytest
from magic141.tests.support.host import use_comfyui

use_comfyui()

import folder_paths  # noqa: E402
from magic141.model_patches.bridge.encoder_folders import find_encoder_folder, folder_choices  # noqa: E402


def model_folder(path, model_type: str):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    return path


@pytest.fixture
def models(tmp_path, monkeypatch):
    text_encoders, clip_vision = tmp_path / "text_encoders", tmp_path / "clip_vision"
    model_folder(text_encoders / "a_clip", "clip")
    model_folder(text_encoders / "hub" / "z_llava", "llava")
    (text_encoders / "plain").mkdir()
    model_folder(clip_vision / "a_clip", "clip_text_model")
    model_folder(tmp_path / "LLM" / "b_llava", "llava")
    extensions = folder_paths.supported_pt_extensions
    names = {
        "text_encoders": ([str(text_encoders)], extensions),
        "clip_vision": ([str(clip_vision)], extensions),
    }
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", names)
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    return tmp_path


def test_fitting_folders_come_first(models):
    assert folder_choices(("llava",)) == ["b_llava", "hub/z_llava", "a_clip"]
    assert folder_choices(("clip", "clip_text_model")) == ["a_clip", "b_llava", "hub/z_llava"]


def test_the_first_folder_of_a_name_wins(models):
    assert find_encoder_folder("a_clip") == models / "text_encoders" / "a_clip"


def test_a_folder_that_is_gone_is_named(models):
    with pytest.raises(
        ValueError, match=r"no model folder 'gone' under models/ \(text_encoders, clip_vision, LLM\)"
    ):
        find_encoder_folder("gone")

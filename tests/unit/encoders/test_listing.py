"""Which folders the encoder dropdowns offer, and what is said of one that is gone."""

import json
import logging
import os
from pathlib import Path

import pytest
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from magic141.model_patches.bridge.encoders import folders as encoder_folders
from magic141.model_patches.bridge.encoders.folders import find_encoder_folder, folder_choices, model_files
from magic141.model_patches.bridge.retrieval.embedders import clip_folders
from magic141.model_patches.encoders.folders import check_vlm_folder


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


@pytest.fixture
def logged(caplog):
    encoder_folders.log_skipped.cache_clear()
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


CONFIGS = {
    "list": "[]",
    "null": "null",
    "text": '"llava"',
    "number": "1" + "0" * 5000,
    "deep": '{"a":' * 100_000,
    "cut": "{",
    "empty": "",
    "latin": '{"model_type": "\xff"}',
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_cannot_be_read_is_skipped_and_said_once(models, logged, kind):
    stray = models / "LLM" / "x"
    stray.mkdir()
    (stray / "config.json").write_text(CONFIGS[kind], encoding="latin-1")
    for _ in range(3):
        assert folder_choices(("llava",)) == ["b_llava", "hub/z_llava", "a_clip"]
        assert list(clip_folders()) == []
    assert len(logged()) == 1
    assert f"{str(stray)!r} is skipped: x/config.json is not readable" in logged()[0]
    with pytest.raises(ValueError, match=r"x/config\.json is not readable"):
        check_vlm_folder(find_encoder_folder("x"))


def test_a_model_type_of_another_type_is_another_model(models):
    (models / "LLM" / "x").mkdir()
    (models / "LLM" / "x" / "config.json").write_text('{"model_type": {"a": []}}')
    assert "x" in folder_choices(("llava",))


def refuse(monkeypatch, name: str) -> None:
    """Let a folder be listed and entered by nobody, root included."""
    scandir, stat = os.scandir, os.stat

    def check(path) -> None:
        if name in Path(os.fsdecode(path)).parts:
            raise PermissionError(13, "Permission denied", path)

    def refusing_scandir(path="."):
        check(path)
        return scandir(path)

    def refusing_stat(path, *args, **options):
        if not isinstance(path, int):
            check(Path(os.fsdecode(path)).parent)
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "scandir", refusing_scandir)
    monkeypatch.setattr(os, "stat", refusing_stat)


def test_a_folder_that_cannot_be_read_is_skipped_and_said_once(models, logged, monkeypatch):
    (models / "LLM" / "lost+found").mkdir()
    refuse(monkeypatch, "lost+found")
    for _ in range(3):
        assert folder_choices(("llava",)) == ["b_llava", "hub/z_llava", "a_clip"]
        assert list(clip_folders()) == []
    assert [line.endswith("lost+found' is skipped: Permission denied") for line in logged()] == [True]


def test_a_root_that_cannot_be_read_is_skipped(models, logged, monkeypatch):
    refuse(monkeypatch, "LLM")
    assert folder_choices(("llava",)) == ["hub/z_llava", "a_clip"]
    assert "LLM' is skipped: Permission denied" in logged()[0]


def test_links_that_go_round_and_pipes_are_passed_over(models):
    llm = models / "LLM"
    (llm / "self").symlink_to("self")
    (llm / "round").symlink_to(llm)
    (llm / "up").symlink_to(models)
    (llm / "elsewhere").symlink_to(models / "text_encoders" / "a_clip")
    for name in ("pipe", "dangling"):
        (llm / name).mkdir()
    os.mkfifo(llm / "pipe" / "config.json")
    (llm / "dangling" / "config.json").symlink_to("nowhere")
    assert folder_choices(("llava",)) == ["b_llava", "hub/z_llava", "a_clip", "elsewhere"]


def test_a_name_that_is_no_utf8_is_skipped(models, logged):
    os.mkdir(os.fsencode(models / "LLM") + b"/\xff")
    assert folder_choices(("llava",)) == ["b_llava", "hub/z_llava", "a_clip"]
    assert "its name is not UTF-8" in logged()[0]


def test_a_category_that_the_host_cannot_list_is_empty(logged, monkeypatch):
    def refused(_category):
        raise PermissionError(13, "Permission denied", "models")

    monkeypatch.setattr(folder_paths, "get_filename_list", refused)
    assert model_files("diffusion_models") == []
    assert "'models/diffusion_models' is skipped" in logged()[0]

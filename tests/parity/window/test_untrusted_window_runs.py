"""A run folder that someone else may have written: names are checked, and the run goes on by making windows again."""

import json

import pytest
import torch
from magic141.tools.host import use_comfyui
from safetensors.torch import save_file

use_comfyui()

from magic141.model_patches.bridge.window.run import run_folder
from magic141.model_patches.store.files import file_sha256
from magic141.model_patches.window.journal import digest
from magic141.tests.support.tiny_windows import count_windows, run


def test_names_that_are_no_folders_are_refused():
    for name in ("", " ", "..", "a/b", "/tmp/a", "a\0b", "a\nb", "nul", "雪" * 90):
        with pytest.raises(ValueError, match="cannot be the name of a run"):
            run_folder(name, {})


def test_an_entry_that_names_a_file_outside_has_its_window_made_again(models, output_folder, monkeypatch):
    outcome = run(models)
    outside = output_folder.parent / "mine.png"
    outside.write_bytes(b"mine")
    path = outcome.video.parent / "windows/0001.json"
    entry = json.loads(path.read_text())["entry"]
    entry["files"][str(outside)] = file_sha256(outside)
    path.write_text(json.dumps({"sha256": digest(entry), "entry": entry}))
    made = count_windows(monkeypatch)
    again = run(models)
    assert made[0] == 1
    assert outside.read_bytes() == b"mine"
    assert "Window 2 and later are made again: 0001.json is damaged." in again.report["summary"]
    assert torch.equal(again.last_frame, outcome.last_frame)


def test_tensors_that_are_no_windows_are_said(models, output_folder):
    folder = run(models).video.parent
    last = max((folder / "windows").glob("*.json"))
    save_file({"other": torch.zeros(1)}, last.with_suffix(".safetensors"))
    entry = json.loads(last.read_text())["entry"]
    entry["files"][f"windows/{last.stem}.safetensors"] = file_sha256(last.with_suffix(".safetensors"))
    last.write_text(json.dumps({"sha256": digest(entry), "entry": entry}))
    with pytest.raises(ValueError, match="are not those of a window"):
        run(models)

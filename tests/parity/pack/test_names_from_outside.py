"""Names that a client gives and documents that a file holds are refused in words, and nothing is written outside."""

import json
import struct

import pytest
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from magic141.model_patches.bridge.int8.model import saved_path
from magic141.model_patches.bridge.window.drift import split_plan
from magic141.model_patches.dit.stream import whole_file
from magic141.model_patches.dit.weights_file import read_header


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "a\0b", "a\nb", "C:x", "x" * 300, "."])
def test_a_name_that_leaves_the_models_folder_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    with pytest.raises(ValueError, match="cannot be the name of a file in models/diffusion_models"):
        saved_path(name, overwrite=True)
    assert not list(tmp_path.iterdir())


def test_a_new_weights_file_is_not_written_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"someone's")
    target = tmp_path / "new.safetensors"
    (tmp_path / f".{target.name}.part").symlink_to(outside)
    with whole_file(target, num_bytes=3, overwrite=False) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"
    assert outside.read_bytes() == b"someone's"


@pytest.mark.parametrize("header", ["[" * 100_000, json.dumps({"__metadata__": ["a"]}), "[]", "3"])
def test_a_strange_header_is_damaged(tmp_path, header):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        read_header(path)


@pytest.mark.parametrize(
    "report", ["[]", "3", "[" * 100_000, '{"settings": "a", "windows": []}', '{"settings": {}}']
)
def test_a_report_that_is_none_is_said(report):
    with pytest.raises(ValueError, match="report is not the report of Sliding Window Extend"):
        split_plan(report, 8)

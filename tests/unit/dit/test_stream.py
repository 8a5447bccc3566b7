"""Files of safetensors are written in place: a process that is killed leaves no other file behind."""

import ast
from pathlib import Path

import pytest
import torch
from magic141.model_patches.dit.stream import save_tensors
from safetensors import safe_open
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = [path for room in ("nodes", "model_patches") for path in (ROOT / room).rglob("*.py")]


def test_tensors_of_every_kind_come_back(tmp_path):
    tensors = {
        "half": torch.randn(3, 2).half(),
        "brain": torch.randn(4).bfloat16(),
        "whole": torch.tensor(7),
        "empty": torch.zeros(0, 5),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }
    save_tensors(tmp_path / "a.safetensors", tensors, {"made": "here"})
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert file.metadata() == {"made": "here"}


def test_nothing_else_is_there_while_a_file_is_written(tmp_path):
    path, tensors = tmp_path / "a.safetensors", {"a": torch.zeros(2), "b": torch.ones(3)}
    seen = []

    def values():
        for name, tensor in tensors.items():
            seen.append([each.name for each in tmp_path.iterdir()])
            yield name, tensor

    save_tensors(path, tensors, values=values())
    assert seen == [["a.safetensors"]] * 2


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_librarys_own_writer_is_not_used(path):
    """It writes a hidden ``.tmp`` file beside the target first, which stays where the process is killed."""
    names = {node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)}
    assert "save_file" not in names

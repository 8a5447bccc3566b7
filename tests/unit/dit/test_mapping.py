"""Weights as views of their file: every kind of tensor, writing to them, and files larger than memory and swap."""

import json
import mmap
import struct
import sys
from pathlib import Path

import psutil
import pytest
import torch
from magic141.model_patches.dit.mapping import NO_RESERVE, map_tensors, map_torch_tensors
from magic141.model_patches.dit.weights_file import load_torch_zip, read_header
from safetensors.torch import load_file, save_file

KINDS = {
    "half": torch.randn(3, 2).half(),
    "brain": torch.randn(4, 5).bfloat16(),
    "bytes": torch.arange(7, dtype=torch.uint8),
    "whole": torch.tensor(7),
    "empty": torch.zeros(0, 5),
    "small": torch.randn(8).to(torch.float8_e4m3fn),
}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses what is only read")


def mapped(path: Path) -> dict[str, torch.Tensor]:
    header = read_header(path)
    return map_tensors(path, header.tensors, header.starts)


def test_tensors_of_every_kind_are_those_of_the_library(tmp_path):
    save_file(KINDS, tmp_path / "a.safetensors")
    ours, theirs = mapped(tmp_path / "a.safetensors"), load_file(tmp_path / "a.safetensors")
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert (ours[key].dtype, ours[key].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(ours[key].float(), tensor.float())


def test_numbers_at_odd_places_are_read(tmp_path):
    values = torch.randn(5)
    header = {
        "odd": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "values": {"dtype": "F32", "shape": [5], "data_offsets": [1, 21]},
    }
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + b"\x05" + values.numpy().tobytes()
    (tmp_path / "odd.safetensors").write_bytes(data)
    assert torch.equal(mapped(tmp_path / "odd.safetensors")["values"], values)


def test_writing_to_a_weight_leaves_the_file_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(5000)}, path)
    before = path.read_bytes()
    weight = mapped(path)["a"]
    weight.mul_(3)
    assert torch.equal(weight, torch.full((5000,), 3.0))
    assert path.read_bytes() == before
    assert torch.equal(mapped(path)["a"], torch.ones(5000))


def test_tensors_of_a_pth_share_and_turn_as_they_were_saved(tmp_path):
    whole = torch.randn(6, 4)
    saved = {"whole": whole, "turned": whole.T, "part": whole[2:4], "other": torch.arange(3).half()}
    torch.save({"module": saved}, tmp_path / "a.pth")
    views = map_torch_tensors(tmp_path / "a.pth", load_torch_zip(tmp_path / "a.pth", device="meta"))
    for key, tensor in saved.items():
        assert views[key].dtype == tensor.dtype
        assert torch.equal(views[key], tensor)


def more_than_memory() -> int:
    return psutil.virtual_memory().total + psutil.swap_memory().total + 2**30


@on_linux
def test_a_safetensors_file_larger_than_memory_opens(tmp_path):
    path, rows = tmp_path / "large.safetensors", more_than_memory() // 2000
    header = {"a": {"dtype": "BF16", "shape": [rows, 1000], "data_offsets": [0, 2000 * rows]}}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 2000 * rows)
    with pytest.raises(RuntimeError, match="unable to mmap"):
        load_file(path)
    weight = mapped(path)["a"]
    assert (weight.shape, float(weight[-1].abs().sum())) == ((rows, 1000), 0.0)


@on_linux
def test_a_pth_larger_than_memory_opens(tmp_path):
    path = tmp_path / "large.pth"
    pages = mmap.mmap(-1, more_than_memory(), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
    large = torch.frombuffer(pages, dtype=torch.bfloat16)
    with torch.serialization.skip_data():
        torch.save({"module": {"large": large, "small": torch.ones(3, 5).T}}, path)
    assert read_header(path).tensors["large"].shape == tuple(large.shape)
    weights = load_torch_zip(path)
    assert weights["large"].shape == large.shape
    assert weights["small"].shape == (5, 3)
    assert float(weights["large"][-1000:].abs().sum()) == 0.0

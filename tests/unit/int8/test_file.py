"""Quantizing from file to file: what is written, and what is left behind when it goes wrong (nothing)."""

import errno
import hashlib
import json
import struct

import pytest
import torch
from magic141.model_patches.dit import stream as safetensors_stream
from magic141.model_patches.dit.keys import host_to_authors
from magic141.model_patches.dit.weights_file import read_header
from magic141.model_patches.int8 import convert as int8_convert
from magic141.model_patches.int8 import file as int8_files
from magic141.model_patches.int8 import source as int8_source
from magic141.model_patches.int8.file import PROVENANCE, quantize_file
from magic141.model_patches.int8.quantize import QuantizationPlan, decode_config, dequantize, quantize_layer
from magic141.model_patches.store.disk import DiskRefused
from magic141.tests.support.tiny_dit import tiny_dit
from safetensors import safe_open
from safetensors.torch import load_file, save_file

PLAN = QuantizationPlan()
PLANS = [PLAN, QuantizationPlan(granularity="tensor"), QuantizationPlan("w8a8"), QuantizationPlan("int4")]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "dit.safetensors"
    save_file(tiny_dit(dtype=torch.bfloat16), path)
    return path


def write(path, state_dict):
    save_file({k: v.contiguous() for k, v in state_dict.items()}, path)
    return path


def damaged(tmp_path, value, key="single_blocks.0.linear1.weight"):
    weights = tiny_dit()
    weights[key].view(-1)[-1] = value
    return write(tmp_path / "damaged.safetensors", weights)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.mode}-{plan.granularity}")
def test_same_as_quantizing_in_memory_however_small_the_pieces(source, tmp_path, plan, monkeypatch):
    monkeypatch.setattr(int8_source, "BLOCK_ELEMENTS", 1000)
    monkeypatch.setattr(int8_source, "CHUNK_ELEMENTS", 300)
    target = tmp_path / "int8.safetensors"
    report = quantize_file(source, target, plan)
    written, weights = load_file(target), load_file(source)
    layers = [key.removesuffix(".comfy_quant") for key in written if key.endswith(".comfy_quant")]
    assert report.num_layers == len(layers) == 8 + 2 + 3
    for name in layers:
        expected = quantize_layer(weights[f"{name}.weight"], plan, name=name)
        assert all(torch.equal(written[f"{name}.{part}"], tensor) for part, tensor in expected.items())
    for key, tensor in weights.items():
        if key.removesuffix(".weight") not in layers:
            assert torch.equal(written[key], tensor)
    assert report.bytes_after == target.stat().st_size < report.bytes_before


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.mode}-{plan.granularity}")
def test_many_threads_write_the_same_bytes_as_one(source, tmp_path, plan, monkeypatch):
    monkeypatch.setattr(int8_source, "BLOCK_ELEMENTS", 1000)
    written = []
    for threads, ahead in ((1, 0), (8, 50)):
        monkeypatch.setattr(int8_convert, "THREADS", threads)
        monkeypatch.setattr(int8_convert, "BLOCKS_AHEAD", ahead)
        quantize_file(source, tmp_path / "int8.safetensors", plan, overwrite=True)
        written.append((tmp_path / "int8.safetensors").read_bytes())
    assert written[0] == written[1]


def test_header_says_where_it_comes_from(source, tmp_path):
    target = tmp_path / "int8.safetensors"
    quantize_file(source, target, QuantizationPlan())
    with safe_open(target, framework="pt") as file:
        entry = json.loads(file.metadata()[PROVENANCE])
    assert entry["source"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert entry["method"] == {
        "mode": "weight_only",
        "granularity": "row",
        "all_linear": False,
    }
    assert set(entry["versions"]) == {"torch"}


def test_tensors_lie_on_their_natural_boundaries(source, tmp_path):
    target = tmp_path / "int8.safetensors"
    quantize_file(source, target, PLAN)
    data = target.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    entries = json.loads(data[8 : 8 + length])
    sizes = {"F32": 4, "BF16": 2, "I8": 1, "U8": 1}
    assert length % 8 == 0
    assert all(
        e["data_offsets"][0] % sizes[e["dtype"]] == 0 for k, e in entries.items() if k != "__metadata__"
    )


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "module."])
def test_authors_names_and_prefixes_become_the_hosts(tmp_path, prefix):
    weights = {prefix + k: v for k, v in host_to_authors(tiny_dit()).items()}
    source = write(tmp_path / "authors.safetensors", weights)
    quantize_file(source, tmp_path / "int8.safetensors", PLAN)
    written = load_file(tmp_path / "int8.safetensors")
    assert "double_blocks.0.img_attn.qkv.weight_scale" in written
    assert set(tiny_dit()) <= set(written)


def test_pth(tmp_path):
    torch.save({"state_dict": host_to_authors(tiny_dit())}, tmp_path / "authors.pth")
    quantize_file(tmp_path / "authors.pth", tmp_path / "int8.safetensors", PLAN)
    assert decode_config(load_file(tmp_path / "int8.safetensors")["single_blocks.0.linear1.comfy_quant"])


def test_progress_counts_up_to_the_whole(source, tmp_path):
    seen = []
    quantize_file(
        source, tmp_path / "int8.safetensors", PLAN, progress=lambda done, total: seen.append(done / total)
    )
    assert seen == sorted(seen)
    assert seen[-1] > 0.9


def leaves_nothing(folder, *expected):
    return sorted(path.name for path in folder.iterdir()) == sorted(expected)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("key", ["single_blocks.0.linear1.weight", "final_layer.linear.weight"])
def test_nan_and_inf_are_refused_by_key(tmp_path, value, key):
    with pytest.raises(ValueError, match=rf"{key}.*NaN or Inf"):
        quantize_file(damaged(tmp_path, value, key), tmp_path / "int8.safetensors", PLAN)
    assert leaves_nothing(tmp_path, "damaged.safetensors")


def test_quantized_already_is_refused(source, tmp_path):
    quantize_file(source, tmp_path / "int8.safetensors", PLAN)
    with pytest.raises(ValueError, match="quantized already"):
        quantize_file(tmp_path / "int8.safetensors", tmp_path / "again.safetensors", PLAN)
    fp8 = {k: v.to(torch.float8_e4m3fn) if v.ndim == 2 else v for k, v in tiny_dit().items()}
    with pytest.raises(ValueError, match=r"quantized already.*float8"):
        quantize_file(write(tmp_path / "fp8.safetensors", fp8), tmp_path / "again.safetensors", PLAN)
    assert leaves_nothing(tmp_path, "dit.safetensors", "int8.safetensors", "fp8.safetensors")


def test_existing_file_is_kept_unless_told(source, tmp_path):
    target = tmp_path / "int8.safetensors"
    target.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite"):
        quantize_file(source, target, PLAN)
    assert target.read_text() == "precious"
    quantize_file(source, target, PLAN, overwrite=True)
    assert "final_layer.linear.weight" in load_file(target)


def test_what_a_killed_run_left_goes_with_the_next(source, tmp_path):
    for layout, part in (
        ("native", ".int8.safetensors.part"),
        ("quanto_authors", "..int8.safetensors.native.part.part"),
    ):
        (tmp_path / part).write_bytes(bytes(1000))
        quantize_file(source, tmp_path / "int8.safetensors", PLAN, layout=layout, overwrite=True)
        assert leaves_nothing(tmp_path, "dit.safetensors", "int8.safetensors")


def test_two_runs_do_not_write_one_file(source, tmp_path):
    target = tmp_path / "int8.safetensors"
    with safetensors_stream.only_writer_of(target), pytest.raises(FileExistsError, match="another run"):
        quantize_file(source, target, PLAN)
    assert leaves_nothing(tmp_path, "dit.safetensors")


@pytest.mark.parametrize("order", [sorted, lambda keys: sorted(keys, reverse=True)])
def test_the_digest_is_the_files_whatever_is_read(source, order):
    header = read_header(source)
    with (
        safetensors_stream.FileDigest(source) as digest,
        safetensors_stream.RowReader(header, digest=digest) as reader,
    ):
        for key in order(header.tensors)[::3]:
            reader.rows(key, 0, 1)
        assert digest.hexdigest() == hashlib.sha256(source.read_bytes()).hexdigest()


def test_source_is_never_the_target(source):
    before = source.read_bytes()
    with pytest.raises(ValueError, match="another name"):
        quantize_file(source, source, PLAN, overwrite=True)
    assert source.read_bytes() == before


def test_full_disk_is_seen_before(source, tmp_path, monkeypatch):
    usage = safetensors_stream.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(safetensors_stream.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"needs .* free"):
        quantize_file(source, tmp_path / "int8.safetensors", PLAN)
    assert leaves_nothing(tmp_path, "dit.safetensors")


def test_disk_that_fills_up_half_way_leaves_the_old_file(source, tmp_path, monkeypatch):
    target = tmp_path / "int8.safetensors"
    target.write_text("precious")
    written = []
    write_piece = safetensors_stream.TensorWriter.write

    def fail(self, name, values):
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(name)
        write_piece(self, name, values)

    monkeypatch.setattr(safetensors_stream.TensorWriter, "write", fail)
    with pytest.raises(DiskRefused, match=r"The disk is full.*the unfinished file is not"):
        quantize_file(source, target, PLAN, overwrite=True)
    assert target.read_text() == "precious"
    assert leaves_nothing(tmp_path, "dit.safetensors", "int8.safetensors")


class Cancelled(BaseException):
    """As the host's own interruption, no Exception."""


@pytest.mark.parametrize("layout", int8_files.LAYOUTS)
def test_cancelled_run_leaves_nothing(source, tmp_path, layout):
    def stop(done, total):
        if done > 0.7 * total:
            raise Cancelled

    with pytest.raises(Cancelled):
        quantize_file(source, tmp_path / "int8.safetensors", PLAN, layout=layout, progress=stop)
    assert leaves_nothing(tmp_path, "dit.safetensors")


def test_other_files_are_refused_with_a_reason(tmp_path):
    path = write(tmp_path / "sdxl.safetensors", {"input_blocks.0.0.weight": torch.zeros(4, 4)})
    with pytest.raises(ValueError, match="Stable Diffusion"):
        quantize_file(path, tmp_path / "int8.safetensors", PLAN)
    with pytest.raises(FileNotFoundError):
        quantize_file(tmp_path / "none.safetensors", tmp_path / "int8.safetensors", PLAN)
    with pytest.raises(FileNotFoundError, match="folder"):
        quantize_file(path, tmp_path / "nowhere" / "int8.safetensors", PLAN)
    with pytest.raises(ValueError, match=r"\.safetensors"):
        quantize_file(path, tmp_path / "int8.bin", PLAN)


@pytest.mark.parametrize("names", ["diffusers", "authors"])
@pytest.mark.parametrize("granularity", ["row", "tensor"])
def test_there_and_back_through_quantos_keys(source, tmp_path, names, granularity):
    plan = QuantizationPlan(granularity=granularity)
    quantize_file(source, tmp_path / "native.safetensors", plan)
    quantize_file(source, tmp_path / "direct.safetensors", plan, layout=f"quanto_{names}")
    quantize_file(
        tmp_path / "native.safetensors", tmp_path / "quanto.safetensors", plan, layout=f"quanto_{names}"
    )
    quantize_file(tmp_path / "quanto.safetensors", tmp_path / "back.safetensors", plan)
    direct, quanto = load_file(tmp_path / "direct.safetensors"), load_file(tmp_path / "quanto.safetensors")
    assert direct.keys() == quanto.keys()
    assert all(torch.equal(direct[key], quanto[key]) for key in direct)
    native, back = load_file(tmp_path / "native.safetensors"), load_file(tmp_path / "back.safetensors")
    assert native.keys() == back.keys()
    for key in native:
        if key.endswith(".comfy_quant"):
            layer, again = (
                {p: d[key.replace("comfy_quant", p)] for p in ("weight", "weight_scale", "comfy_quant")}
                for d in (native, back)
            )
            assert torch.equal(dequantize(layer), dequantize(again))


@pytest.mark.parametrize("mode", ["w8a8", "int4"])
def test_what_quanto_cannot_hold_is_refused(source, tmp_path, mode):
    plan = QuantizationPlan(mode)
    with pytest.raises(ValueError, match="weight-only int8"):
        quantize_file(source, tmp_path / "quanto.safetensors", plan, layout="quanto_diffusers")
    assert leaves_nothing(tmp_path, "dit.safetensors")


def test_quanto_files_that_cannot_be_read_are_refused(source, tmp_path):
    quantize_file(source, tmp_path / "quanto.safetensors", PLAN, layout="quanto_authors")
    weights = load_file(tmp_path / "quanto.safetensors")
    name = "single_blocks.0.linear1"
    four_bits = weights | {f"{name}.weight._shift": torch.zeros(1)}
    activations = weights | {f"{name}.input_scale": torch.tensor(0.02)}
    orphan = {k: v for k, v in weights.items() if k != f"{name}.weight._data"}
    for change, message in (
        (four_bits, "8 bits"),
        (activations, "activations"),
        (orphan, "no weight beside it"),
    ):
        path = write(tmp_path / "changed.safetensors", change)
        with pytest.raises(ValueError, match=message):
            quantize_file(path, tmp_path / "int8.safetensors", PLAN)
    with pytest.raises(ValueError, match="There is nothing to do"):
        quantize_file(
            tmp_path / "quanto.safetensors", tmp_path / "again.safetensors", PLAN, layout="quanto_diffusers"
        )

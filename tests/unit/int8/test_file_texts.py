"""What is said of a quantized file, and which files are refused for what they hold."""

import json
from pathlib import Path

import pytest
import torch
from magic141.model_patches.dit.weights_file import TensorInfo, read_header
from magic141.model_patches.int8 import file as int8_file
from magic141.model_patches.int8.check import check_layers
from magic141.model_patches.int8.choice import plan_file
from magic141.model_patches.int8.file import FileReport, provenance, quantize_file, read_kept, save_state_dict
from magic141.model_patches.int8.quantize import QuantizationPlan, encode_config
from magic141.model_patches.int8.source import (
    SourceReader,
    all_rows,
    hunyuan_layout,
    is_companion,
    refuse_quantized,
)
from magic141.tests.support.tiny_dit import tiny_dit
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def test_a_report_is_a_line():
    line = FileReport(Path("a/dit.safetensors"), 7, 2_000_000_000, 1_040_000_000).line
    assert line == "dit.safetensors: 7 layers quantized, 2,000 MB -> 1,040 MB (52%)."


def test_where_a_file_comes_from_can_be_read():
    entry = provenance(QuantizationPlan("w8a8", all_linear=True).entry, {"name": "a"})
    assert entry["format"] == "pt"
    assert json.loads(entry["magic141_quantization"]) == {
        "method": {"mode": "w8a8", "granularity": "row", "all_linear": True},
        "source": {"name": "a"},
        "versions": {"torch": torch.__version__},
        "tool": "ComfyUI-Magic141",
    }


@pytest.fixture
def source(tmp_path):
    save_file(
        tiny_dit(dtype=torch.bfloat16),
        tmp_path / "dit.safetensors",
        {"kept": "1", "_quantization_metadata": "x"},
    )
    return tmp_path / "dit.safetensors"


@pytest.mark.parametrize("layout", ["native", "quanto_authors"])
def test_a_report_tells_the_file_its_layers_and_both_sizes(source, tmp_path, layout):
    target, seen = tmp_path / "new.safetensors", []
    report = quantize_file(
        source,
        target,
        QuantizationPlan(),
        layout=layout,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert report == FileReport(target, 13, read_header(source).num_bytes, target.stat().st_size)
    assert seen[-1][0] == sum(tensor.nbytes for tensor in tiny_dit(dtype=torch.bfloat16).values())
    assert {total for _, total in seen} == {report.bytes_before}


def test_a_translated_file_tells_what_it_was_made_of(source, tmp_path):
    quanto, native = tmp_path / "quanto.safetensors", tmp_path / "native.safetensors"
    plan = QuantizationPlan(granularity="tensor", keep=("double_blocks.0.img_mlp.0",), found_by="a ranking")
    quantize_file(source, quanto, plan, layout="quanto_authors")
    report = quantize_file(quanto, native, QuantizationPlan())
    assert report == FileReport(native, 12, quanto.stat().st_size, native.stat().st_size)
    with safe_open(native, framework="pt") as file:
        entry = json.loads(file.metadata()["magic141_quantization"])
    assert entry["method"] == json.loads(json.dumps(plan.entry)), (
        "not what the node that translates was set to"
    )
    assert read_kept(read_header(native)) == (plan.keep, plan.found_by)
    made_of = entry["source"]
    assert (made_of["name"], made_of["bytes"]) == ("quanto.safetensors", quanto.stat().st_size)
    assert "quantized_by" not in made_of
    assert len(made_of["sha256"]) == 64


def test_the_sources_own_entries_are_kept_but_for_those_that_are_no_longer_true(source, tmp_path):
    quantize_file(source, tmp_path / "new.safetensors", QuantizationPlan())
    with safe_open(tmp_path / "new.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {"kept", "format", "magic141_quantization"}
    made_of = json.loads(metadata["magic141_quantization"])["source"]
    assert made_of["name"] == "dit.safetensors"
    assert made_of["bytes"] == read_header(source).num_bytes


def test_a_layout_that_is_none_is_refused(source, tmp_path):
    with pytest.raises(
        ValueError, match="Layout is 'x'; it must be one of native, quanto_authors, quanto_diffusers"
    ):
        quantize_file(source, tmp_path / "new.safetensors", QuantizationPlan(), layout="x")


def test_a_plan_lists_what_the_new_file_will_hold(source):
    header = read_header(source)
    chosen = plan_file(header, hunyuan_layout(header), QuantizationPlan("int4"))
    name = "single_blocks.0.linear1"
    rows, width = header.tensors[f"{name}.weight"].shape
    assert chosen.tensors[f"{name}.weight"] == TensorInfo("int8", (rows, width // 2))
    assert chosen.tensors[f"{name}.weight_scale"] == TensorInfo("float32", (rows,))
    assert chosen.tensors[f"{name}.comfy_quant"].dtype == "uint8"
    assert chosen.bytes_before == sum(tensor.nbytes for tensor in tiny_dit(dtype=torch.bfloat16).values())
    first, *lines = chosen.text.splitlines()
    saved = (chosen.bytes_before - chosen.bytes_after) / 1e6
    assert first.startswith(
        f"HunyuanVideo: 13 layers would be quantized, {chosen.bytes_before / 1e6:,.1f} MB -> "
    )
    assert first.endswith(f"({saved:,.1f} MB saved). Nothing was written.")
    assert f"  single_blocks.*.linear*.weight: 1 x {rows} x {width}, bfloat16" in lines
    everything = plan_file(header, hunyuan_layout(header), QuantizationPlan(all_linear=True))
    assert {"final_layer.linear.weight"} <= set(everything.layers) - set(chosen.layers)


@pytest.mark.parametrize(
    ("key", "dtype", "kind"),
    [
        ("a.weight_scale_2", torch.float32, "nvfp4"),
        ("a.comfy_quant", torch.uint8, "ComfyUI's quantized format"),
        ("a.absmax", torch.float32, "bitsandbytes"),
        ("a.qzeros", torch.int32, "GPTQ or AWQ"),
        ("a.qweight", torch.int32, "GPTQ, AWQ or Nunchaku"),
        ("a.weight_scale", torch.bfloat16, "a format with scales"),
        ("a.weight", torch.float8_e4m3fn, "fp8 without scales"),
        ("a.weight", torch.float8_e5m2, "fp8 without scales"),
        ("a.weight", torch.int8, "int8"),
        ("a.weight", torch.uint8, "4 bits"),
    ],
)
def test_what_other_tools_quantized_is_refused_by_its_kind(tmp_path, key, dtype, kind):
    shape = (4, 4) if key == "a.weight" else (4,)
    save_file({key: torch.zeros(shape).to(dtype)}, tmp_path / "a.safetensors")
    dtype_name = str(dtype).removeprefix("torch.")
    with pytest.raises(
        ValueError, match=rf"a\.safetensors is quantized already, to {kind} \({key} is {dtype_name}\)"
    ):
        refuse_quantized(read_header(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_of_any_width_is_none(tmp_path, dtype):
    save_file(
        {"a.weight": torch.zeros(4, 4, dtype=dtype), "b.bias": torch.zeros(4)}, tmp_path / "a.safetensors"
    )
    refuse_quantized(read_header(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("scale", [".scale_weight", ".weight_scale"])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_with_scales_is_none(tmp_path, dtype, scale):
    weights = {
        "a.weight": torch.zeros(4, 4).to(dtype),
        f"a{scale}": torch.ones(1),
        "scaled_fp8": torch.zeros(2),
    }
    save_file(weights | {"a.input_scale": torch.ones(1)}, tmp_path / "a.safetensors")
    refuse_quantized(read_header(tmp_path / "a.safetensors"))


def test_scales_and_descriptions_are_no_weights():
    companions = ("scale_weight", "weight_scale", "scale_input", "input_scale", "comfy_quant")
    assert all(is_companion(f"a.{name}") for name in companions)
    assert is_companion("scaled_fp8")
    assert not is_companion("a.scale.weight")
    assert all_rows("a", (5, 3))[0] == ("a", 0, 5)
    assert all_rows("a", ())[0] == ("a", 0, 1)


@pytest.mark.parametrize(
    ("shape", "good"),
    [
        ((), True),
        ((1,), True),
        ((1, 1), True),
        ((6,), True),
        ((6, 1), True),
        ((2,), False),
        ((1, 6), False),
        ((6, 2), False),
    ],
)
def test_scales_are_one_or_one_a_row(shape, good):
    layer = {
        "a.weight": torch.zeros(6, 4, dtype=torch.int8),
        "a.weight_scale": torch.ones(shape),
        "a.comfy_quant": encode_config({"format": "int8_tensorwise"}),
    }
    if good:
        check_layers(layer, "x")
        return
    with pytest.raises(
        ValueError, match=r"x is damaged: a\.weight_scale has shape .* each of 6 rows.*Quantize"
    ):
        check_layers(layer, "x")


@pytest.mark.parametrize(
    ("group", "columns", "good"),
    [(16, 32, True), (64, 64, True), (256, 256, True), (16, 40, False), (32, 64, False)],
)
@pytest.mark.parametrize("form", ["int8_tensorwise", "convrot_w4a4"])
def test_rotations_are_in_groups_that_there_are(group, columns, good, form):
    config = {"format": form, "convrot": True, "convrot_groupsize": group}
    layer = {
        "a.weight": torch.zeros(6, columns, dtype=torch.int8),
        "a.weight_scale": torch.ones(6, dtype=torch.float16),
        "a.comfy_quant": encode_config(config),
    }
    if good:
        check_layers(layer, "x")
        return
    with pytest.raises(
        ValueError, match=f"a is rotated in groups of {group}, which do not fit {columns} columns"
    ):
        check_layers(layer, "x")


@pytest.mark.parametrize("name", [".weight_scale", ".scale_weight", ".input_scale"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_scales_of_any_name_are_above_zero(name, dtype, value):
    check_layers({f"a{name}": torch.ones(3, dtype=dtype)}, "x")
    with pytest.raises(ValueError, match=rf"a{name} holds {value}; scales are finite and above zero"):
        check_layers({f"a{name}": torch.tensor([1.0, value], dtype=dtype)}, "x")


def test_weights_are_read_in_the_order_in_which_they_lie_in_the_file(source):
    """Wider types lie first, whatever their names."""
    weights = tiny_dit(dtype=torch.bfloat16)
    save_file(weights | {"vector_in.in_layer.bias": weights["vector_in.in_layer.bias"].float()}, source)
    header = read_header(source)
    with SourceReader(header, hunyuan_layout(header)) as reader:
        order = [reader.origin(key) for key in reader.in_file_order()]
    assert order == sorted(header.tensors, key=lambda key: header.starts[key])
    assert order != sorted(order)


def test_types_are_named_without_their_library():
    layer = {
        "a.weight": torch.zeros(6, 4, dtype=torch.int8),
        "a.weight_scale": torch.ones(6, dtype=torch.int32),
        "a.comfy_quant": encode_config({"format": "int8_tensorwise"}),
    }
    with pytest.raises(ValueError, match=r"a\.weight_scale is int32; float32 is expected"):
        check_layers(layer, "x")
    with pytest.raises(
        ValueError, match=r"a\.weight is int16; floating point, or int8 with scales, is expected"
    ):
        check_layers({"a.weight": torch.zeros(1, 1, dtype=torch.int16)}, "x")


@pytest.mark.parametrize("names", ["diffusers", "authors"])
def test_translated_files_say_that_their_tensors_are_pytorchs(source, tmp_path, names):
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    quantize_file(source, there, QuantizationPlan(), layout=f"quanto_{names}")
    quantize_file(there, back, QuantizationPlan())
    for path, entries in ((there, {"quantization_map"}), (back, set())):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        assert metadata["format"] == "pt"
        assert set(metadata) == {"format", "magic141_quantization"} | entries
    with safe_open(there, framework="pt") as file:
        layers = json.loads(file.metadata()["quantization_map"])
    assert len(layers) >= 13
    assert all(layer == {"weights": "qint8", "activations": "none"} for layer in layers.values())


def test_a_state_dict_is_written_over_nothing_unless_told(tmp_path):
    target, weights = (
        tmp_path / "new.safetensors",
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)},
    )
    assert save_state_dict(weights, target, metadata={"x": "y"}) == target.stat().st_size
    with pytest.raises(FileExistsError):
        save_state_dict({}, target, metadata={})
    assert {name: value.tolist() for name, value in load_file(target).items()} == {
        "a": [[0, 1, 2], [3, 4, 5]],
        "b": 1,
    }
    save_state_dict({"a": weights["b"]}, target, metadata={}, overwrite=True)
    assert set(load_file(target)) == {"a"}


def test_a_half_way_file_that_is_in_use_costs_nothing(source, tmp_path, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError("in use")

    monkeypatch.setattr(int8_file, "remove_file", refuse)
    report = quantize_file(source, tmp_path / "new.safetensors", QuantizationPlan(), layout="quanto_authors")
    assert report.path.is_file()

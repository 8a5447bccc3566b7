"""quanto's keys, as quanto writes them, against the host's."""

import json

import pytest
import torch
from magic141.model_patches.dit.weights_file import Header, TensorInfo, describe_tensors, read_header
from magic141.model_patches.int8.file import only_translates, quantize_file
from magic141.model_patches.int8.quantize import QuantizationPlan, decode_config, quantize_layer
from magic141.model_patches.int8.quanto import from_quanto, is_quanto, native_header, to_quanto
from magic141.tests.support.tiny_dit import tiny_dit
from safetensors.torch import load_file, save_file

LAYER = "single_blocks.0.linear1"
QUANTO = f"{LAYER}.weight"
"""As the authors' code names that layer, and quanto its parts behind it."""


def native(granularity: str = "row") -> dict[str, torch.Tensor]:
    """Return a model of which one layer is quantized, in the host's keys."""
    weights = tiny_dit()
    layer = quantize_layer(
        weights.pop(f"{LAYER}.weight"), QuantizationPlan(granularity=granularity), name=LAYER
    )
    return weights | {f"{LAYER}.{part}": value for part, value in layer.items()}


def quanto(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Return that model in quanto's keys and the authors' names; ``changes`` by the end of the layer's key."""
    weights, _ = to_quanto(native(), names="authors")
    (data,) = (key for key in weights if key.endswith("._data"))
    name = data.removesuffix(".weight._data")
    ends = {
        "data": ".weight._data",
        "scale": ".weight._scale",
        "input": ".input_scale",
        "output": ".output_scale",
    }
    changed = weights | {name + ends[end]: value for end, value in changes.items()}
    return {key: value for key, value in changed.items() if value is not None}


@pytest.mark.parametrize(
    ("names", "name"),
    [("authors", LAYER), ("diffusers", "single_transformer_blocks.0.attn.to_q")],
)
def test_layers_are_named_and_mapped_as_quanto_does(names, name):
    weights, layers = to_quanto(native(), names=names)
    assert {key for key in weights if key.startswith(f"{name}.")} == {
        f"{name}.bias",
        f"{name}.weight._data",
        f"{name}.weight._scale",
        f"{name}.input_scale",
        f"{name}.output_scale",
    }
    assert layers[name] == {"weights": "qint8", "activations": "none"}
    assert len(layers) == (1 if names == "authors" else 4), "diffusers keeps apart what the host joins"
    assert not any(key.endswith(".comfy_quant") for key in weights)
    assert weights[f"{name}.input_scale"] == weights[f"{name}.output_scale"] == 1


@pytest.mark.parametrize("granularity", ["row", "tensor"])
@pytest.mark.parametrize("names", ["authors", "diffusers"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_what_comes_back_is_the_same_layer(names, granularity, prefix):
    before = native(granularity)
    weights, _ = to_quanto(before, names=names)
    assert is_quanto(weights)
    assert not is_quanto(before)
    after = from_quanto({prefix + key: value for key, value in weights.items()})
    assert after.keys() == before.keys()
    rows = len(before[f"{LAYER}.weight"])
    assert torch.equal(after[f"{LAYER}.weight"], before[f"{LAYER}.weight"])
    assert torch.equal(after[f"{LAYER}.weight_scale"], before[f"{LAYER}.weight_scale"].expand(rows, 1))
    assert decode_config(after[f"{LAYER}.comfy_quant"]) == decode_config(before[f"{LAYER}.comfy_quant"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": torch.zeros(896, 128)}, r"weight\._data is torch\.float32\. Only quanto's qint8"),
        ({"data": None}, r"weight\._scale has no weight beside it"),
        ({"scale": torch.ones(895, 1)}, r"has shape \(895, 1\); one scale a row \(896, 1\) is expected"),
        ({"scale": torch.ones(896)}, r"has shape \(896,\); one scale a row"),
        ({"input": torch.tensor(2.0)}, r"input_scale is not 1: activations are quantized too"),
        ({"output": torch.tensor([1.0, 0.5])}, r"output_scale is not 1: activations are quantized too"),
    ],
)
def test_what_is_not_weight_only_int8_is_refused_by_key(changes, said):
    with pytest.raises(ValueError, match=said):
        from_quanto(quanto(**changes))


@pytest.mark.parametrize(
    "scale", [torch.tensor(0.5), torch.tensor([[0.5]]), torch.full((896, 1), 0.5).half()]
)
def test_one_scale_stands_for_all_rows(scale):
    found = from_quanto(quanto(scale=scale, input=None, output=None))[f"{LAYER}.weight_scale"]
    assert torch.equal(found, torch.full((896, 1), 0.5))


@pytest.mark.parametrize("key", [f"{QUANTO}._shift", f"{QUANTO}._data._data"])
def test_fewer_than_eight_bits_are_known_and_refused(key):
    weights = {key: torch.zeros(1)}
    assert is_quanto(weights)
    with pytest.raises(ValueError, match=r"fewer than 8 bits \(single_blocks"):
        from_quanto(weights)


def test_a_header_is_read_as_the_hosts_without_its_tensors(tmp_path):
    save_file(quanto(), tmp_path / "quanto.safetensors")
    header = read_header(tmp_path / "quanto.safetensors")
    found = native_header(header)
    assert isinstance(found, Header)
    assert found.tensors == describe_tensors(from_quanto(quanto()))
    assert found.tensors[f"{LAYER}.weight_scale"] == TensorInfo("float32", (896, 1))
    assert native_header(found) is found


@pytest.mark.parametrize(
    ("make", "layout", "wanted"),
    [
        (native, "native", False),
        (native, "quanto_authors", True),
        (native, "quanto_diffusers", True),
        (quanto, "native", True),
        (quanto, "quanto_authors", True),
        (tiny_dit, "native", False),
        (tiny_dit, "quanto_authors", False),
    ],
)
def test_what_is_quantized_already_is_translated_into_other_keys(tmp_path, make, layout, wanted):
    save_file(make(), tmp_path / "dit.safetensors")
    assert only_translates(read_header(tmp_path / "dit.safetensors"), layout) is wanted


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_either_kind_is_translated(tmp_path, suffix):
    source = tmp_path / f"quanto{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(quanto(), source)
    report = quantize_file(source, tmp_path / "native.safetensors", QuantizationPlan())
    assert report.num_layers == 1
    made = load_file(tmp_path / "native.safetensors")
    assert made.keys() == native().keys()
    assert torch.equal(made[f"{LAYER}.weight"], native()[f"{LAYER}.weight"])


def test_a_file_in_several_parts_is_translated(tmp_path):
    weights, names = quanto(), [f"quanto-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    for number, name in enumerate(names):
        save_file({key: weights[key] for key in sorted(weights)[number::2]}, tmp_path / name)
    report = quantize_file(tmp_path / names[1], tmp_path / "native.safetensors", QuantizationPlan())
    assert report.bytes_before == sum((tmp_path / name).stat().st_size for name in names)
    made = load_file(tmp_path / "native.safetensors")
    assert made.keys() == native().keys()
    assert all(torch.equal(made[key], tensor) for key, tensor in from_quanto(weights).items())
    entry = json.loads(read_header(tmp_path / "native.safetensors").metadata["magic141_quantization"])
    assert [part["name"] for part in entry["source"]["parts"]] == names
    assert entry["source"]["quantized_by"] == "optimum-quanto"

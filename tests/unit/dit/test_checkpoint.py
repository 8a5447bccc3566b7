"""Recognising checkpoints by header, and refusing the rest with a reason."""

import json
import os
import struct

import pytest
import torch
from magic141.model_patches.dit.checkpoint import identify
from magic141.model_patches.dit.keys import expected_shapes, host_to_authors, host_to_diffusers
from magic141.model_patches.dit.weights_file import load_torch_zip, read_header
from magic141.tests.support.tiny_dit import tiny_dit
from safetensors.torch import save_file


def safetensors_file(path, weights, metadata=None):
    save_file({k: v.contiguous() for k, v in weights.items()}, path, metadata=metadata)
    return path


def checkpoint(path, weights):
    return identify(read_header(safetensors_file(path, weights)))


def sparse_file(path, shapes, dtype="BF16", width=2):
    """Write a safetensors header and leave the weights a hole in the file."""
    entries, end = {}, 0
    for key, shape in shapes.items():
        start, end = end, end + width * torch.Size(shape).numel()
        entries[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + end)
    return path


@pytest.mark.parametrize("channels", [16, 32, 33])
@pytest.mark.parametrize("guidance", [False, True])
def test_host_names(tmp_path, channels, guidance):
    found = checkpoint(
        tmp_path / "m.safetensors", tiny_dit(channels, guidance=guidance, depth=2, depth_single=3)
    )
    assert (found.in_channels, found.guidance) == (channels, guidance)
    assert (found.hidden_size, found.depth, found.depth_single, found.text_width) == (128, 2, 3, 64)
    assert found.weight_type == "float32"


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "model.diffusion_model.",
        "hydit_unimodel.guidance_model.feedforward_model.",
        "a.b.",
    ],
)
@pytest.mark.parametrize(
    "wrap", [lambda sd: sd, lambda sd: {"state_dict": sd}, lambda sd: {"module": sd, "step": 3}]
)
def test_authors_pth(tmp_path, prefix, wrap):
    host = tiny_dit(33, guidance=True)
    weights = {prefix + k: v for k, v in host_to_authors(host).items()}
    weights["vae.encoder.weight"] = torch.zeros(3)
    torch.save(wrap(weights), tmp_path / "m.pth")
    found = identify(read_header(tmp_path / "m.pth"))
    assert (found.prefix, found.in_channels, found.guidance) == (prefix, 33, True)
    assert set(found.renames.values()) == set(host)


def test_training_checkpoint_with_three_models_gives_the_generator(tmp_path):
    authors = host_to_authors(tiny_dit(33))
    prefixes = ["feedforward_model.", "real_unet.", "fake_unet."]
    weights = {f"hydit_unimodel.guidance_model.{p}{k}": v for p in prefixes for k, v in authors.items()}
    torch.save({"module": weights}, tmp_path / "m.pth")
    assert identify(read_header(tmp_path / "m.pth")).prefix.endswith("feedforward_model.")


def test_content_decides_not_the_name(tmp_path):
    safetensors_file(tmp_path / "wan_flux.pth", tiny_dit(33))
    torch.save(tiny_dit(16), tmp_path / "m.safetensors")
    assert identify(read_header(tmp_path / "wan_flux.pth")).in_channels == 33
    assert identify(read_header(tmp_path / "m.safetensors")).in_channels == 16


def test_fp8_scaled(tmp_path):
    weights = {k: v.to(torch.float8_e4m3fn) if v.ndim == 2 else v for k, v in tiny_dit(33).items()}
    weights |= {f"{k[:-7]}.scale_weight": torch.ones(()) for k, v in weights.items() if v.ndim == 2}
    weights["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    assert checkpoint(tmp_path / "m.safetensors", weights).weight_type == "float8_e4m3fn scaled"


def test_int8_of_the_host(tmp_path):
    weights = tiny_dit(33)
    key = "double_blocks.0.img_mlp.0"
    weights[f"{key}.weight"] = torch.zeros(512, 128, dtype=torch.int8)
    weights[f"{key}.weight_scale"] = torch.ones(512, 1)
    weights[f"{key}.comfy_quant"] = torch.zeros(30, dtype=torch.uint8)
    assert checkpoint(tmp_path / "m.safetensors", weights).in_channels == 33


def test_a_13b_header_is_recognised(tmp_path):
    shapes = expected_shapes(hidden_size=3072, depth=20, depth_single=40)
    path = sparse_file(tmp_path / "magic.safetensors", shapes)
    assert path.stat().st_size > 25e9
    found = identify(read_header(path))
    assert (found.in_channels, found.hidden_size, found.depth, found.depth_single) == (33, 3072, 20, 40)
    assert found.weight_type == "bfloat16"
    assert "12.8 B" in found.describe()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"in_channels": 16}, "ignores the start image"),
        ({"in_channels": 32}, "without a mask"),
        ({"in_channels": 33}, "needs the image latent and mask"),
        ({"in_channels": 33, "guidance": True}, "set guidance"),
        ({"in_channels": 33, "guidance": False}, "No guidance embedding"),
    ],
)
def test_description_says_what_the_model_needs(tmp_path, options, said):
    line = checkpoint(tmp_path / "m.safetensors", tiny_dit(**options)).describe()
    assert said in line
    assert "\n" not in line


STRANGERS = {
    "a Wan model": ["blocks.0.cross_attn.q.weight", "head.modulation", "patch_embedding.weight"],
    "a Flux model": ["double_blocks.0.img_attn.qkv.weight", "img_in.weight", "txt_in.weight"],
    "a LoRA": ["diffusion_model.double_blocks.0.img_attn_qkv.lora_A.weight"],
    "a VAE": ["decoder.conv_in.conv.weight"],
    "a text encoder": ["model.layers.0.self_attn.q_proj.weight"],
    "Stable Diffusion or SDXL": ["model.diffusion_model.input_blocks.0.0.weight"],
    "no img_in.proj.weight": ["something.weight"],
}


@pytest.mark.parametrize(("said", "keys"), STRANGERS.items())
def test_other_architectures(tmp_path, said, keys):
    with pytest.raises(ValueError, match=said) as error:
        checkpoint(tmp_path / "m.safetensors", {k: torch.zeros(4, 4) for k in keys})
    assert "HunyuanVideo layout" in str(error.value)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"vision_in.proj.0.weight": torch.zeros(1152)}, "HunyuanVideo 1.5"),
        ({"cond_type_embedding.weight": torch.zeros(3, 128)}, "HunyuanVideo 1.5"),
        ({"byt5_in.fc1.weight": torch.zeros(4, 4)}, "HunyuanImage"),
        ({"img_in.proj.weight": torch.zeros(128, 64, 1, 1)}, "HunyuanImage"),
    ],
)
def test_relatives(tmp_path, extra, said):
    with pytest.raises(ValueError, match=said):
        checkpoint(tmp_path / "m.safetensors", tiny_dit(33) | extra)


def test_diffusers_names(tmp_path):
    with pytest.raises(ValueError, match="diffusers' names"):
        checkpoint(tmp_path / "m.safetensors", host_to_diffusers(tiny_dit(33)))


def without(key):
    return {k: v for k, v in tiny_dit(33, depth=2).items() if k != key}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (without("double_blocks.0.txt_mlp.0.bias"), r"double_blocks\.0\.txt_mlp\.0\.bias missing"),
        (without("img_in.proj.weight"), r"img_in\.proj\.weight is missing"),
        (without("vector_in.in_layer.weight"), r"vector_in\.in_layer\.weight is missing"),
        (
            {k: v for k, v in tiny_dit(33, depth=3).items() if "_blocks.1." not in k},
            r"double_blocks\.1\..*more missing",
        ),
        (
            tiny_dit(33) | {"blocks.0.cross_attn.q.weight": torch.zeros(2)},
            r"key of another model: blocks\.0\.cross_attn",
        ),
        (tiny_dit(33) | {"double_blocks.0.img_mod.linear.bias": torch.zeros(768)}, "holds one weight twice"),
        (
            tiny_dit(33) | {"single_blocks.0.linear2.weight": torch.zeros(128, 128)},
            r"linear2\.weight has shape \(128, 128\)",
        ),
        (tiny_dit(20), "20 input channels"),
    ],
)
def test_bad_keys_and_shapes_are_named(tmp_path, weights, said):
    with pytest.raises(ValueError, match=said):
        checkpoint(tmp_path / "m.safetensors", weights)


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def test_a_pth_that_would_execute_code_is_not_opened(tmp_path):
    torch.save({"state_dict": tiny_dit(33), "x": Evil()}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"would execute code.*Found in it: \w+\.system\)$") as refused:
        read_header(tmp_path / "m.pth")
    assert "\x1b" not in str(refused.value)
    assert "weights_only" not in str(refused.value), "torch's advice is to open it all the same"


def test_a_damaged_pickle_is_not_called_a_dangerous_one(tmp_path):
    path = tmp_path / "m.pth"
    torch.save(tiny_dit(33), path)
    content = bytearray(path.read_bytes())
    start = content.find(b"\x80\x02") + 2  # after the pickle's protocol
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"m\.pth is damaged, or holds more than tensors") as refused:
        read_header(path)
    assert "would execute" not in str(refused.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_truncated_files(tmp_path, suffix, kept):
    path = tmp_path / f"m.{suffix}"
    (safetensors_file(path, tiny_dit(33)) if suffix == "safetensors" else torch.save(tiny_dit(33), path))
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(ValueError, match=r"m\.(safetensors|pth) (is|has)"):
        read_header(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GGUF" + bytes(60), "GGUF loader"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>not found</html>", "text page"),
        (b"\x80\x02}q\x00(X" + bytes(60), "bare pickle"),
        (struct.pack("<Q", 12) + b"{not json!!}" + bytes(8), "damaged safetensors header"),
        (struct.pack("<Q", 2**60) + b"{}", "damaged or no safetensors file"),
        (bytes(100), "damaged safetensors header"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, content, said):
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_header(tmp_path / "m.safetensors")


@pytest.mark.parametrize("length", [0x80, 0x180, 0x580, 0x4B50, 0x10480])
def test_a_header_whose_length_looks_like_a_pickle_or_a_zip_is_read(tmp_path, length):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(length).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", length) + header + bytes(4))
    assert list(read_header(tmp_path / "m.safetensors").tensors) == ["a"]


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [100], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, "four"]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4]},
    ],
)
def test_a_header_that_does_not_fit_its_bytes_is_refused(tmp_path, entry):
    header = json.dumps({"img_in.proj.weight": entry}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(
        ValueError, match=r"m\.safetensors has a damaged safetensors header.*Download it again"
    ):
        read_header(path)


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        (((0, 8), (4, 12)), "b lies over another tensor"),
        (((0, 8), (12, 20)), "b has unused bytes before it"),
        (((4, 12), (12, 20)), "a has unused bytes before it"),
    ],
)
def test_tensors_that_overlap_or_leave_holes_are_refused(tmp_path, spans, said):
    entries = {k: {"dtype": "F32", "shape": [2], "data_offsets": s} for k, s in zip("ab", spans, strict=True)}
    header = json.dumps(entries).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(max(spans[1])))
    with pytest.raises(ValueError, match=said):
        read_header(path)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    entry = json.dumps({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    header = f'{{"a.weight": {entry}, "a.weight": {entry}}}'.encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ValueError, match=r"names a\.weight twice"):
        read_header(path)


def test_a_few_bytes_repeated_by_strides_are_refused(tmp_path):
    weights = tiny_dit(33) | {"img_in.proj.weight": torch.zeros(1).expand(128, 33, 1, 2, 2)}
    torch.save(weights, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"img_in\.proj\.weight.*contiguous"):
        read_header(tmp_path / "m.pth")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="models/diffusion_models"):
        read_header(tmp_path / "m.safetensors")


def test_a_pth_without_weights(tmp_path):
    torch.save({"epoch": 3, "names": ["a"]}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        load_torch_zip(tmp_path / "m.pth")

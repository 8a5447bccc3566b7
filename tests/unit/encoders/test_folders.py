"""What is wrong with an encoder folder is said by name: file, token or key."""

import json
import os
import shutil
import sys
from pathlib import Path

import psutil
import pytest
import torch
from magic141.model_patches.dit.stream import TensorWriter
from magic141.model_patches.dit.weights_file import TensorInfo, describe_tensors
from magic141.model_patches.encoders.folders import (
    check_clip_folder,
    check_vlm_folder,
    check_vlm_tokenizer,
    load_vlm,
)
from magic141.tests.support.tiny_encoders import (
    LLAMA_SPECIAL,
    llama_tokenizer,
    write_clip_folder,
    write_llava_folder,
)
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> Path:
    return write_llava_folder(tmp_path_factory.mktemp("models") / "my_llava")


@pytest.fixture
def broken(llava, tmp_path) -> Path:
    return Path(shutil.copytree(llava, tmp_path / "my_llava"))


def test_a_whole_folder_passes(llava):
    check_vlm_folder(llava)


def test_no_image_processor(broken):
    (broken / "preprocessor_config.json").unlink()
    (broken / "processor_config.json").unlink()
    with pytest.raises(ValueError, match=r"my_llava holds no image processor: .*preprocessor_config\.json"):
        load_vlm(broken, torch.float32)


def test_no_tokenizer(broken):
    (broken / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no tokenizer: .*tokenizer\.json"):
        check_vlm_folder(broken)


def test_no_weights(broken):
    (broken / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no weights: .*model\.safetensors"):
        check_vlm_folder(broken)


def test_a_missing_shard(broken):
    (broken / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    (broken / "model-00001-of-00002.safetensors").touch()
    with pytest.raises(ValueError, match=r"lacks model-00002-of-00002\.safetensors"):
        check_vlm_folder(broken)


def test_truncated_weights_are_named_before_anything_is_loaded(broken):
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5000])
    with pytest.raises(
        ValueError, match=r"In my_llava, model\.safetensors is truncated: \d+ bytes, \d+ were"
    ):
        check_vlm_folder(broken)


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": 3}'])
def test_an_unreadable_index(broken, content):
    (broken / "model.safetensors").unlink()
    (broken / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"my_llava/model\.safetensors\.index\.json is no index"):
        check_vlm_folder(broken)


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bin_file_that_would_execute_code_is_not_opened(broken, zipped):
    (broken / "model.safetensors").unlink()
    torch.save({"x": Evil()}, broken / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"\.bin.* would execute code when opened.*system\)$") as refused:
        load_vlm(broken, torch.float32)
    assert "\x1b" not in str(refused.value)


def test_unreadable_config(broken):
    (broken / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"my_llava/config\.json is not readable"):
        check_vlm_folder(broken)


def test_weights_of_another_width(broken):
    config = json.loads((broken / "config.json").read_text())
    config["text_config"]["intermediate_size"] *= 2
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"mlp\.\w+_proj\.weight has shape .* asks for"):
        load_vlm(broken, torch.float32)


def test_another_kind_of_model(tmp_path):
    clip = write_clip_folder(tmp_path / "my_clip")
    check_clip_folder(clip)
    with pytest.raises(ValueError, match="my_clip is a 'clip' model; the VLM must be a 'llava' one"):
        check_vlm_folder(clip)


@pytest.mark.parametrize("token", ["<|eot_id|>", "<|start_header_id|>", "<image>"])
def test_a_missing_special_token(token):
    tokenizer = llama_tokenizer(tuple(t for t in LLAMA_SPECIAL if t != token))
    with pytest.raises(ValueError, match="does not know the special token '" + token.replace("|", r"\|")):
        check_vlm_tokenizer(tokenizer, "my_llava", 7)


def test_another_image_token():
    with pytest.raises(ValueError, match=r"'<image>' is token \d+, but config.json"):
        check_vlm_tokenizer(llama_tokenizer(), "my_llava", 3)


def test_a_tokenizer_without_begin_of_text():
    tokenizer = llama_tokenizer()
    plain = tokenizer.backend_tokenizer
    from tokenizers import processors

    plain.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(ValueError, match="into 94 tokens, but Magic141 crops 95"):
        check_vlm_tokenizer(tokenizer, "my_llava", tokenizer.convert_tokens_to_ids("<image>"))


def test_a_missing_weight_is_named(broken):
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    del weights["language_model.model.layers.1.mlp.up_proj.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of the weights .*layers\.1\.mlp\.up_proj\.weight"):
        load_vlm(broken, torch.float32)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses what is only read")
def test_weights_in_a_file_larger_than_memory_open(llava, broken):
    weights = load_file(llava / "model.safetensors")
    memory = psutil.virtual_memory().total + psutil.swap_memory().total
    tensors = describe_tensors(weights) | {"unused": TensorInfo("uint8", (memory + 2**30,))}
    with (broken / "model.safetensors").open("wb") as file:
        writer = TensorWriter(file, tensors, {"format": "pt"})
        for key, tensor in weights.items():
            writer.write(key, tensor)
    with pytest.raises(RuntimeError, match="unable to mmap"):
        load_file(broken / "model.safetensors")
    ours, theirs = load_vlm(broken, torch.float32)[0], load_vlm(llava, torch.float32)[0]
    for (key, weight), (name, wanted) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == name
        assert torch.equal(weight, wanted)

"""Random weights in the sizes of the released models, written piece by piece and never held."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from magic141.model_patches.dit.keys import expected_shapes
from magic141.model_patches.dit.stream import TensorWriter
from magic141.model_patches.dit.weights_file import TensorInfo, read_header
from magic141.model_patches.encoders.templates import IMAGE_TOKEN
from magic141.tests.support.released_sizes import CLIP_L_TEXT, HUNYUAN_VAE, LLAMA_8B, VISION_L_336
from magic141.tools.host import comfyui_path

Shapes = Mapping[str, tuple[int, ...]]

DIT_SIZES = {"hidden_size": 3072, "depth": 20, "depth_single": 40}
#: As wide as the real one, which is what the DiT sees, and shallow: where the encoders are not what is measured.
SHALLOW_LLAMA = LLAMA_8B | {"intermediate_size": 1024, "num_hidden_layers": 3}
SHALLOW_VISION = VISION_L_336 | {"num_hidden_layers": 2}
SHARD_BYTES = 5e9
LORA_RANK = 64
POOL = 1 << 20


def write_file(path: Path, shapes: Shapes) -> None:
    """Write random bf16 weights; a file that is there is whole and stays."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16) * 0.02
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        tensors = {key: TensorInfo("bfloat16", tuple(shape)) for key, shape in shapes.items()}
        writer = TensorWriter(file, tensors, {"format": "pt"})
        for key, shape in shapes.items():
            remaining = math.prod(tuple(shape))
            while remaining:
                writer.write(key, pool[:remaining])
                remaining -= min(remaining, POOL)
    unfinished.rename(path)


def write_dit(models: Path) -> None:
    """Write the 12.8-billion DiT with 33 input channels: 25.6 GB."""
    write_file(models / "diffusion_models" / "dit.safetensors", expected_shapes(**DIT_SIZES))


def write_lora(models: Path) -> None:
    """Write a LoRA on every Linear of the DiT's blocks: 0.6 GB."""
    shapes = {}
    for key, shape in expected_shapes(**DIT_SIZES).items():
        if "_blocks." in key and key.endswith(".weight") and len(shape) == 2:
            name = f"diffusion_model.{key.removesuffix('.weight')}"
            shapes[f"{name}.lora_A.weight"] = (LORA_RANK, shape[1])
            shapes[f"{name}.lora_B.weight"] = (shape[0], LORA_RANK)
    write_file(models / "loras" / "lora.safetensors", shapes)


def write_vae(models: Path) -> None:
    """Write HunyuanVideo's VAE: 0.5 GB."""
    from magic141.tools.host import use_comfyui

    use_comfyui()
    from comfy.ldm.models.autoencoder import AutoencoderKL  # pyright: ignore[reportMissingImports]

    with torch.device("meta"):
        vae = AutoencoderKL(ddconfig=dict(HUNYUAN_VAE), embed_dim=HUNYUAN_VAE["z_channels"])
    shapes = {key: tuple(tensor.shape) for key, tensor in vae.state_dict().items()}
    write_file(models / "vae" / "vae.safetensors", shapes)


def write_llava(models: Path) -> None:
    """Write the 8-billion LLaVA as a folder of shards: 16.7 GB."""
    _write_llava(models / "text_encoders" / "llava", LLAMA_8B, VISION_L_336)


def write_shallow_llava(models: Path) -> None:
    """Write a LLaVA of three layers of real width: 2.4 GB."""
    _write_llava(models / "text_encoders" / "shallow", SHALLOW_LLAMA, SHALLOW_VISION)


def write_clip(models: Path) -> None:
    """Write CLIP-L's text model as a folder: 0.25 GB."""
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = models / "text_encoders" / "clip"
    config = CLIPTextConfig(**CLIP_L_TEXT)
    with torch.device("meta"):
        shapes = {key: tuple(tensor.shape) for key, tensor in CLIPTextModel(config).state_dict().items()}
    write_file(folder / "model.safetensors", shapes)
    for file in (comfyui_path() / "comfy" / "sd1_tokenizer").iterdir():
        shutil.copy(file, folder)
    config.save_pretrained(folder)


def _write_llava(folder: Path, text: dict, vision: dict) -> None:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        PreTrainedTokenizerFast,
    )

    folder.mkdir(parents=True, exist_ok=True)
    file = comfyui_path() / "comfy" / "text_encoders" / "llama_tokenizer" / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}).save_pretrained(
        folder
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision),
        text_config=LlamaConfig(**text),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
    )
    with torch.device("meta"):
        state = LlavaForConditionalGeneration(config).state_dict()
    _write_shards(folder, {_released_name(key): tuple(tensor.shape) for key, tensor in state.items()})
    config.save_pretrained(folder)


def _released_name(key: str) -> str:
    """Return the name of a weight in released folders, which transformers renamed later."""
    if key.startswith("model.vision_tower.") and ".vision_model." not in key:
        return key.replace("model.vision_tower.", "vision_tower.vision_model.")
    if key.startswith("model.language_model."):
        return key.replace("model.language_model.", "language_model.model.")
    return "language_model." + key if key.startswith("lm_head.") else key.removeprefix("model.")


def _write_shards(folder: Path, shapes: Shapes) -> None:
    shards: list[dict] = [{}]
    room = SHARD_BYTES
    for key, shape in shapes.items():
        size = 2 * math.prod(shape)
        if size > room:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][key] = shape
        room -= size
    weight_map = {}
    for number, inside in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / name, inside)
        weight_map |= dict.fromkeys(inside, name)
    index = {
        "metadata": {"total_size": 2 * sum(map(math.prod, shapes.values()))},
        "weight_map": weight_map,
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


#: What a stage may need, by name: who writes it, its place among the models, and its gigabytes.
FILES: dict[str, tuple[Callable[[Path], None], str, float]] = {
    "dit": (write_dit, "diffusion_models/dit.safetensors", 25.7),
    "lora": (write_lora, "loras/lora.safetensors", 0.7),
    "vae": (write_vae, "vae/vae.safetensors", 0.6),
    "llava": (write_llava, "text_encoders/llava", 16.8),
    "shallow": (write_shallow_llava, "text_encoders/shallow", 2.6),
    "clip": (write_clip, "text_encoders/clip", 0.3),
}


def is_whole(path: Path) -> bool:
    """Say whether a file that a server wrote is there and complete."""
    try:
        return bool(read_header(path).tensors)
    except (OSError, ValueError):
        return False

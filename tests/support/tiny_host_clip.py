"""The host's own CLIP (type hunyuan_video) and CLIP_VISION in tiny, and the same weights as Hugging Face folders.

The host's classes fix more than transformers': LLaMA heads are 128 wide, the vocabulary is LLaMA-3's, CLIP-L is
768 wide with its own vocabulary. Everything else is cut down.
"""

from pathlib import Path

import torch

from ...tools.host import comfyui_path

LLAMA = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "vocab_size": 128320}
LLAMA_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 4,
    "hidden_act": "quick_gelu",
}
CLIP_L = {"num_hidden_layers": 1, "intermediate_size": 96, "num_attention_heads": 12}


def _random(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15 if parameter.ndim > 1 else 0.3)
    return model.eval()


def write_folders(root: Path) -> tuple[Path, Path]:
    """Write a LLaVA and a CLIP text folder in the widths the host's classes allow; return both."""
    from transformers import CLIPImageProcessor, CLIPTokenizer, PreTrainedTokenizerFast

    llava, clip = root / "llava", root / "clip"
    _llava_model().save_pretrained(llava)
    tokenizer_file = comfyui_path() / "comfy/text_encoders/llama_tokenizer/tokenizer.json"
    PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_file), bos_token="<|begin_of_text|>", pad_token="<pad>"
    ).save_pretrained(llava)
    side = {"height": VISION["image_size"], "width": VISION["image_size"]}
    processor = CLIPImageProcessor(size={"shortest_edge": VISION["image_size"]}, crop_size=side)
    processor.save_pretrained(llava)
    _clip_model().save_pretrained(clip)
    CLIPTokenizer.from_pretrained(comfyui_path() / "comfy/sd1_tokenizer").save_pretrained(clip)
    return llava, clip


def _llava_model():
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    text = LlamaConfig(**LLAMA, **LLAMA_HEADS, head_dim=128, rope_theta=500000.0, rms_norm_eps=1e-5)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, projection_dim=32),
        text_config=text,
        image_token_index=128257,
        image_token_id=128257,
        vision_feature_layer=-2,
        projector_hidden_act="gelu",
    )
    return _random(LlavaForConditionalGeneration(config), 0)


def _clip_model():
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(**CLIP_L, hidden_size=768)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 49406, 49407, 49407
    return _random(CLIPTextModel(config), 1)


class _Target:
    """What the host's CLIP is built from."""

    def __init__(self):
        from comfy.text_encoders.hunyuan_video import HunyuanVideoTokenizer, hunyuan_video_clip

        self.params = {}
        self.clip = hunyuan_video_clip()
        self.tokenizer = HunyuanVideoTokenizer


def host_clip(llava: Path, clip_text: Path, operations: type | None = None):
    """Return the host's CLIP with the weights of the two folders, in fp32.

    Args:
        operations: the classes of its layers, if not the host's.
    """
    import comfy.sd
    from transformers import CLIPTextModel, LlavaForConditionalGeneration

    options = {
        "dtype": torch.float32,
        "llama_model_config": {**LLAMA, **LLAMA_HEADS},
        "clip_l_model_config": CLIP_L,
    } | ({"custom_operations": operations} if operations else {})
    clip = comfy.sd.CLIP(_Target(), model_options=options)
    llama = LlavaForConditionalGeneration.from_pretrained(
        llava, use_safetensors=True
    ).model.language_model.state_dict()
    _load(clip.cond_stage_model.llama.transformer, {f"model.{key}": value for key, value in llama.items()})
    text = CLIPTextModel.from_pretrained(clip_text, use_safetensors=True).state_dict()
    text = {
        key if key.startswith("text_model.") else f"text_model.{key}": value for key, value in text.items()
    }
    text.pop("text_model.embeddings.position_ids", None)
    _load(clip.cond_stage_model.clip_l.transformer, text, absent={"text_projection.weight"})
    return clip


def host_clip_vision(llava: Path):
    """Return the host's CLIP_VISION with the folder's vision tower and projector, in fp32."""
    import comfy.clip_model
    import comfy.clip_vision
    import comfy.ops
    from transformers import LlavaForConditionalGeneration

    vision = comfy.clip_vision.ClipVisionModel(
        {**VISION, "model_type": "clip_vision_model", "num_channels": 3}
    )
    vision.model.multi_modal_projector = comfy.clip_model.LlavaProjector(
        VISION["hidden_size"], LLAMA["hidden_size"], torch.float32, "cpu", comfy.ops.manual_cast
    )
    vision.model.float()
    model = LlavaForConditionalGeneration.from_pretrained(llava, use_safetensors=True).model
    tower = {
        key if key.startswith("vision_model.") else f"vision_model.{key}": value
        for key, value in model.vision_tower.state_dict().items()
        if not key.endswith("position_ids")
    }
    projector = model.multi_modal_projector.state_dict()
    _load(vision.model, tower | {f"multi_modal_projector.{key}": value for key, value in projector.items()})
    return vision


def _load(module: torch.nn.Module, state_dict: dict, absent: frozenset | set = frozenset()) -> None:
    missing, unexpected = module.load_state_dict(state_dict, strict=False)
    assert set(missing) <= set(absent), missing
    assert not unexpected, unexpected

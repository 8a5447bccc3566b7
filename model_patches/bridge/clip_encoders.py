"""The same encoders made from stock CLIP (DualCLIPLoader, type hunyuan_video) and CLIP_VISION.

Same templates, token selection, hidden states and order as the Hugging Face path. Differences that remain:

* the host resizes a picture with torch's bicubic filter on floats, transformers on 8-bit pixels: up to one grey
  level (none when the picture already has the tower's size);
* the host reads ``\\(`` and ``\\)`` in a prompt as plain parentheses and ``embedding:name`` as a textual inversion
  of CLIP-L; neither exists in the Hugging Face path. Attention weights ``(word:1.2)`` are switched off in both.
"""

import comfy.model_management
import torch
from comfy.text_encoders.hunyuan_video import HunyuanVideoClipModel
from torch import Tensor

from ..encoders.context import strip_padding
from ..encoders.templates import CROP_START, IMAGE_TOKEN, MAX_PROMPT_TOKENS, USER_HEADER, VLM_TEMPLATE
from ..encoders.vlm import layout
from .encoders import Magic141Encoders, to_intermediate

WEIGHTS_OFF = {"disable_weights": True}


class HostClipBackend:
    """CLIP and CLIP_VISION of the host in the role of LLM, CLIP-L and VLM."""

    def __init__(self, clip, clip_vision=None):
        self.clip, self.clip_vision = clip, clip_vision

    @torch.no_grad()
    def prompt_states(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return ((1, L, D), (1, P)); the host crops and takes hidden state [-3] itself for this type."""
        tokens = self.clip.tokenize(prompt, **WEIGHTS_OFF)
        tokens["llama"] = [row[: CROP_START + MAX_PROMPT_TOKENS] for row in tokens["llama"]]
        out = self.clip.encode_from_tokens(tokens, return_dict=True)
        states = out["cond"]
        if (mask := out.get("attention_mask")) is not None:
            states = strip_padding(states, mask)
        return to_intermediate(states), to_intermediate(out["pooled_output"])

    @torch.no_grad()
    def image_states(self, images: list[Tensor]) -> Tensor:
        """Return (1, L, D): the VLM pass, which the host has no node for (its own is one joint pass at [-3])."""
        features = self._image_features(images)
        text = IMAGE_TOKEN * len(images)
        tokens = self.clip.tokenize(text, llama_template=VLM_TEMPLATE, image_embeds=features, **WEIGHTS_OFF)
        llama = self.clip.cond_stage_model.llama
        self.clip.cond_stage_model.reset_clip_options()
        self.clip.load_model(tokens)
        llama.set_clip_options({"layer": None, "execution_device": self.clip.patcher.load_device})
        states = llama.encode_token_weights(tokens["llama"])[0]
        self.clip.cond_stage_model.reset_clip_options()
        return to_intermediate(states[:, self._kept(tokens["llama"][0], features.shape[1])])

    def _kept(self, tokens: list[tuple], tokens_per_image: int) -> Tensor:
        image_token_id = -1
        ids = [image_token_id if isinstance(token[0], dict) else int(token[0]) for token in tokens]
        tokenizer = self.clip.tokenizer.llama.tokenizer
        header = tokenizer(USER_HEADER, add_special_tokens=False).input_ids
        _, is_kept = layout(ids, header, image_token_id=image_token_id, tokens_per_image=tokens_per_image)
        return is_kept

    def _image_features(self, images: list[Tensor]) -> Tensor:
        if self.clip_vision is None:
            raise ValueError(
                "These encoders were made without CLIP_VISION, so they cannot see a picture. Connect "
                "Load CLIP Vision (llava_llama3_vision) to Magic141 Encoders from CLIP, or choose an image_mode "
                "without pictures."
            )
        features = [
            self.clip_vision.encode_image(image[None].float() / 255.0, crop=True)["mm_projected"]
            for image in images
        ]
        width = self.clip.cond_stage_model.llama.transformer.get_input_embeddings().weight.shape[1]
        if features[0] is None or features[0].shape[-1] != width:
            found = "no projector" if features[0] is None else f"a projector {features[0].shape[-1]} wide"
            raise ValueError(
                f"The CLIP_VISION model has {found}, but the LLaMA is {width} wide. Load the vision tower of the "
                "LLaVA, llava_llama3_vision, in Load CLIP Vision."
            )
        return torch.cat(features).to(comfy.model_management.intermediate_device())


def encoders_from_clip(clip, clip_vision=None) -> Magic141Encoders:
    """Make encoders from the host's CLIP and CLIP_VISION.

    Raises:
        ValueError: the CLIP is not of type hunyuan_video.
    """
    if not isinstance(clip.cond_stage_model, HunyuanVideoClipModel):
        found = type(clip.cond_stage_model).__name__
        raise ValueError(
            f"This CLIP is a {found}; Magic141 needs LLaVA-LLaMA-3 and CLIP-L together. Use DualCLIPLoader with "
            "type hunyuan_video, llava_llama3_fp8_scaled and clip_l."
        )
    return Magic141Encoders(HostClipBackend(clip, clip_vision))

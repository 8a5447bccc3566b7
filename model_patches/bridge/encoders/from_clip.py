"""The same encoders, made from stock CLIP (DualCLIPLoader, type hunyuan_video) and CLIP_VISION.

Same templates, tokens, token selection, pictures, hidden states and order as the Hugging Face path. Pictures are
resized here as transformers does it, on 8-bit pixels with the long side rounded down; the host resizes in floats and
rounds up or down. One difference remains: for CLIP-L's pooled text the host reads ``\\(`` and ``\\)`` as plain
parentheses and ``embedding:name`` as a textual inversion. Attention weights ``(word:1.2)`` are switched off.

The LLaMA tokens are made here from the host's tokenizer file: the host opens it as ``LlamaTokenizerFast``,
which transformers 5 turns into a SentencePiece-like tokenizer that loses spaces and line breaks ("large red" ->
"larg", "ered").
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfy.clip_vision import ClipVisionModel
from comfy.sd import CLIP
from comfy.text_encoders.hunyuan_video import HunyuanVideoClipModel
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ...encoders.llm import HIDDEN_STATE_INDEX, tokenize_prompt
from ...encoders.pictures import clip_square
from ...encoders.templates import CROP_START, IMAGE_TOKEN, USER_HEADER, vlm_text
from ...encoders.vlm import token_masks
from ...store.pictures import to_tensor
from .socket import Magic141Encoders, to_intermediate


@cache
def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Return the host's LLaMA-3 tokenizer as its file describes it."""
    folder = Path(inspect.getfile(HunyuanVideoClipModel)).parent / "llama_tokenizer"
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


def with_unit_weights(token_ids: Sequence[int | dict[str, Any]]) -> list[list[tuple]]:
    """Return token ids in the host's form: one row of (token, weight), all weights 1."""
    return [[(token, 1.0) for token in token_ids]]


class HostClipBackend:
    """CLIP and CLIP_VISION of the host in the role of LLM, CLIP-L and VLM."""

    def __init__(self, clip: CLIP, clip_vision: ClipVisionModel | None = None):
        self.clip, self.clip_vision = clip, clip_vision

    @torch.no_grad()
    def prompt_states(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return ((1, L, D), (1, P)); cropped here, because the host cuts one token too many off a long prompt."""
        tokens = with_unit_weights(tokenize_prompt(llama_tokenizer(), prompt)[0].tolist())
        states = self._llama_states(tokens, HIDDEN_STATE_INDEX)[:, CROP_START:]
        clip_l = self.clip.cond_stage_model.clip_l
        tokens = self.clip.tokenizer.clip_l.tokenize_with_weights(prompt, disable_weights=True)
        with self._loaded():
            pooled = clip_l.encode_token_weights(tokens)[1]
        return to_intermediate(states), to_intermediate(pooled)

    @torch.no_grad()
    def image_states(self, images: list[Tensor]) -> Tensor:
        """Return (1, L, D) of a separate VLM pass; the host itself makes one pass for prompt and picture, at [-3]."""
        features = self._image_features(images)
        tokenizer = llama_tokenizer()
        token_ids = tokenizer(vlm_text(len(images))).input_ids
        image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        assert isinstance(image_token_id, int)
        _, is_kept = token_masks(
            token_ids,
            tokenizer(USER_HEADER, add_special_tokens=False).input_ids,
            image_token_id=image_token_id,
            tokens_per_image=features.shape[1],
        )
        embeds = iter(features)
        tokens = [
            {"type": "embedding", "data": next(embeds)} if i == image_token_id else i for i in token_ids
        ]
        return to_intermediate(self._llama_states(with_unit_weights(tokens), None)[:, is_kept])

    def _llama_states(self, tokens: list[list[tuple]], layer: int | None) -> Tensor:
        """Return hidden state ``layer`` (1, L, D); for None the last one, normalized."""
        with self._loaded() as model:
            model.llama.set_clip_options({"layer": layer})
            states = model.llama.encode_token_weights(tokens)[0]
            assert isinstance(states, Tensor)
            return states

    @contextmanager
    def _loaded(self) -> Iterator[HunyuanVideoClipModel]:
        """Load the text encoders to their device for one pass, and restore their options after it."""
        model = self.clip.cond_stage_model
        model.reset_clip_options()
        self.clip.load_model()
        device = self.clip.patcher.load_device
        model.set_clip_options({"execution_device": device})
        try:
            with comfy.model_management.cuda_device_context(device):
                yield model
        finally:
            model.reset_clip_options()

    def _image_features(self, images: list[Tensor]) -> Tensor:
        if self.clip_vision is None:
            raise ValueError(
                "These encoders were made without CLIP_VISION, so they cannot see a picture. Connect "
                "Load CLIP Vision (llava_llama3_vision) to Magic141 Encoders from CLIP, or choose an image_mode "
                "without pictures."
            )
        side = self.clip_vision.image_size
        squares = [to_tensor(clip_square(Image.fromarray(image.numpy()), side)) for image in images]
        features = [self.clip_vision.encode_image(square)["mm_projected"] for square in squares]
        width = self.clip.cond_stage_model.llama.transformer.get_input_embeddings().weight.shape[1]
        if features[0] is None or features[0].shape[-1] != width:
            projector = "no projector" if features[0] is None else f"a projector {features[0].shape[-1]} wide"
            raise ValueError(
                f"The CLIP_VISION model has {projector}, but the LLaMA is {width} wide. Load the vision tower of the "
                "LLaVA, llava_llama3_vision, in Load CLIP Vision."
            )
        return torch.cat(features).to(comfy.model_management.intermediate_device())


def encoders_from_clip(clip: CLIP, clip_vision: ClipVisionModel | None = None) -> Magic141Encoders:
    """Make encoders from the host's CLIP and CLIP_VISION.

    Raises:
        ValueError: the CLIP is not of type hunyuan_video.
    """
    if not isinstance(clip.cond_stage_model, HunyuanVideoClipModel):
        kind = type(clip.cond_stage_model).__name__
        raise ValueError(
            f"This CLIP is a {kind}; Magic141 needs LLaVA-LLaMA-3 and CLIP-L together. Use DualCLIPLoader with "
            "type hunyuan_video, llava_llama3_fp8_scaled and clip_l."
        )
    return Magic141Encoders(HostClipBackend(clip, clip_vision))

"""Encode reference images with LLaVA, in a pass of their own; every fourth image token is kept."""

from typing import Any

import torch
from torch import Tensor, nn

from .templates import IMAGE_TOKEN, IMAGE_TOKEN_STRIDE, USER_HEADER, vlm_text


class VisionLanguageModel(nn.Module):
    """The parts of a LLaVA that the states need; its LLaMA also serves as the prompt's LLM.

    A plain module and not the transformers class: that one has an output head of 1 GB that is not used, and refuses
    some in-place changes (its ``device`` has no setter).
    """

    vision_tower: nn.Module
    multi_modal_projector: nn.Module
    language_model: Any

    def __init__(self, llava: Any):
        super().__init__()
        parts = getattr(llava, "model", llava)  # transformers >= 4.52 nests them one deeper
        self.vision_tower = parts.vision_tower
        self.multi_modal_projector = parts.multi_modal_projector
        self.language_model = getattr(parts.language_model, "model", parts.language_model)
        layer = llava.config.vision_feature_layer
        self.vision_feature_layers: list[int] = [layer] if isinstance(layer, int) else list(layer)
        self.drops_class_token = llava.config.vision_feature_select_strategy == "default"
        self.activation_dtype: torch.dtype = llava.dtype

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Return (N, T, D) projected features of (N, 3, H, W) normalized pixels."""
        outputs = self.vision_tower(pixel_values.to(self.activation_dtype), output_hidden_states=True)
        first = 1 if self.drops_class_token else 0
        layers = [outputs.hidden_states[layer][:, first:] for layer in self.vision_feature_layers]
        return self.multi_modal_projector(torch.cat(layers, dim=-1))


def position_after(token_ids: list[int], header: list[int]) -> int:
    """Return the position just after the one occurrence of a header in a token list.

    Raises:
        ValueError: the header occurs not exactly once.
    """
    n = len(header)
    starts = [i for i in range(len(token_ids) - n + 1) if token_ids[i : i + n] == header]
    if len(starts) != 1:
        raise ValueError(f"The VLM's text holds {USER_HEADER!r} {len(starts)} times instead of once.")
    return starts[0] + n


def token_masks(
    token_ids: list[int], header: list[int], *, image_token_id: int, tokens_per_image: int
) -> tuple[Tensor, Tensor]:
    """Return which tokens belong to images and which states are kept, in the text with every ``<image>`` expanded.

    Kept are all text tokens after the user header, and the tokens 0, 4, 8... of each image.

    Returns:
        (is_image, is_kept), two (L,) bool tensors.
    """
    start = position_after(token_ids, header)
    is_image: list[bool] = []
    is_kept: list[bool] = []
    for position, token in enumerate(token_ids):
        if token == image_token_id:
            is_image += [True] * tokens_per_image
            is_kept += [i % IMAGE_TOKEN_STRIDE == 0 for i in range(tokens_per_image)]
        else:
            is_image.append(False)
            is_kept.append(position >= start)
    return torch.tensor(is_image), torch.tensor(is_kept)


def image_states(vlm: VisionLanguageModel, tokenizer, pixel_values: Tensor) -> Tensor:
    """Return the VLM's states of one or several images, all in one user turn, in the order given.

    The ``<image>`` placeholders are expanded here to the number of features from the vision tower, so it does not
    matter whether the folder's processor expands them or knows the patch size.

    Args:
        pixel_values: (N, 3, H, W) from the image processor, on the model's device.

    Returns:
        (1, N * T / 4 + 2, D): last hidden state (normed) of the turn's line break, of every fourth of each image's
        T tokens and of ``<|eot_id|>``. With CLIP-L/14 at 336 px T is 576: 146 tokens for one image, 290 for two,
        434 for three; each more costs 144.

    Source: DA-Group-PKU/Magic-1-For-1, ``text_encoder/text_encoder_vlm.py``.
    """
    device = pixel_values.device
    features = vlm.image_features(pixel_values)
    token_ids = tokenizer(vlm_text(len(pixel_values))).input_ids
    image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    is_image, is_kept = token_masks(
        token_ids,
        tokenizer(USER_HEADER, add_special_tokens=False).input_ids,
        image_token_id=image_token_id,
        tokens_per_image=features.shape[1],
    )
    text_ids = [i for i in token_ids if i != image_token_id]
    text = vlm.language_model.get_input_embeddings()(torch.tensor(text_ids, device=device))
    embeds = text.new_empty(len(is_image), text.shape[-1])
    embeds[~is_image] = text
    embeds[is_image] = features.flatten(0, 1).to(text.dtype)
    states = vlm.language_model(inputs_embeds=embeds[None], use_cache=False).last_hidden_state
    return states[:, is_kept]

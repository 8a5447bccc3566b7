"""The DiT's text context: [image states ; prompt states], padding stripped."""

import torch
from torch import Tensor

from .templates import IMAGE_TOKEN, SPECIAL_TOKENS

RESERVED = (IMAGE_TOKEN, *SPECIAL_TOKENS, "<|begin_of_text|>", "<|end_of_text|>")


def check_prompt(prompt: str, name: str = "prompt") -> None:
    """Refuse a prompt that holds a control token of the encoders.

    Raises:
        ValueError: naming the token.
    """
    for token in RESERVED:
        if token in prompt:
            raise ValueError(
                f"The {name} contains {token!r}, which the encoders read as a control token and not as text. "
                f"Remove it: pictures come in through the image input, never through the {name}."
            )


def join_context(image_states: Tensor | None, prompt_states: Tensor) -> Tensor:
    """Return [image states ; prompt states]: (1, L_image + L_prompt, D).

    The negative branch joins the same image states to the negative prompt's.
    """
    if image_states is None:
        return prompt_states
    return torch.cat([image_states.to(prompt_states), prompt_states], dim=1)


def check_finite(states: Tensor, encoder: str) -> Tensor:
    """Return states, or refuse them if any is NaN or infinite.

    Raises:
        ValueError: naming the encoder.
    """
    if not torch.isfinite(states).all():
        raise ValueError(
            f"The {encoder} gave values that are not finite. Either its weights are damaged (download them again) "
            "or they overflow in fp16: choose bf16 or fp32 in Load Magic141 Encoders."
        )
    return states

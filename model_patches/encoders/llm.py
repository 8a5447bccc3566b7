"""Encode the prompt with the language model: LLaMA's third-last hidden state, cropped to the prompt's own tokens."""

import logging

from torch import Tensor, nn

from .templates import CROP_START, MAX_PROMPT_TOKENS, llm_text

HIDDEN_STATE_INDEX = -3
"""Skip the last two layers; no final norm is applied."""


def tokenize_prompt(tokenizer, prompt: str) -> Tensor:
    """Return the ids of the templated prompt, cut to 95 + 256 tokens.

    The authors also pad to that length. Attention is causal and padding comes last, so padded positions never
    touch the others; they would be stripped again before the DiT.

    Returns:
        (1, L) int64, L <= 351.
    """
    ids = tokenizer(llm_text(prompt), return_tensors="pt").input_ids
    limit = CROP_START + MAX_PROMPT_TOKENS
    if ids.shape[1] > limit:
        logging.warning(
            "Magic141: the prompt is %d tokens long and is cut to %d (its end is ignored).",
            ids.shape[1] - CROP_START,
            MAX_PROMPT_TOKENS,
        )
    return ids[:, :limit]


def prompt_states(language_model: nn.Module, input_ids: Tensor) -> Tensor:
    """Return the language model's states of the prompt tokens.

    Args:
        language_model: a transformers LLaMA without head, e.g. the one inside a LLaVA.
        input_ids: (1, L) from ``tokenize_prompt``, on the model's device.

    Returns:
        (1, L - 95, D): hidden state [-3], template prefix cropped, ``<|eot_id|>`` kept.

    Source: DA-Group-PKU/Magic-1-For-1, ``text_encoder/__init__.py`` (``hidden_state_skip_layer=2``).
    """
    outputs = language_model(input_ids=input_ids, output_hidden_states=True, use_cache=False)
    return outputs.hidden_states[HIDDEN_STATE_INDEX][:, CROP_START:]

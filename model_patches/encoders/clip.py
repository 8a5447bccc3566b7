"""CLIP: the text tower that makes one pooled vector for the DiT's ``vector_in``, and what all CLIP models share."""

from typing import Any

from torch import Tensor, nn

from .templates import CLIP_MAX_TOKENS

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def projected(features: Any) -> Tensor:
    """Return the projected vectors: transformers 5 wraps them, transformers 4 does not."""
    return getattr(features, "pooler_output", features)


class PooledTextEncoder(nn.Module):
    """A CLIP text tower in a plain module (transformers' own refuses to have its ``device`` set)."""

    def __init__(self, text_model: nn.Module):
        super().__init__()
        self.text_model = text_model

    def forward(self, **encoding: Tensor) -> Tensor:
        """Return the unprojected state at the end-of-text token: (B, 768) for CLIP-L."""
        return self.text_model(**encoding).pooler_output


def tokenize_pooled(tokenizer, prompt: str) -> dict[str, Tensor]:
    """Return ids and mask of a prompt, cut and padded to 77 tokens; no template."""
    encoding = tokenizer(
        prompt, truncation=True, max_length=CLIP_MAX_TOKENS, padding="max_length", return_tensors="pt"
    )
    return {"input_ids": encoding.input_ids, "attention_mask": encoding.attention_mask}

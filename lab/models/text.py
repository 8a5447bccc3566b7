"""Tokenizers of the embedded encoders: byte-level BPE learned on the templates and the world's captions.

The LLaVA tokenizer splits words as LLaMA-3's does and stops merging where the video template's prefix is exactly
95 tokens, so that the crop is the same constant as with the real checkpoint.
"""

from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ...model_patches.encoders.templates import (
    CLIP_MAX_TOKENS,
    CROP_START,
    VIDEO_PROMPT_TEMPLATE,
    VLM_TEMPLATE,
)
from .. import world

if TYPE_CHECKING:  # seconds to import
    from transformers import PreTrainedTokenizerFast

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOS, PAD, IMAGE = "<|begin_of_text|>", "<pad>", "<image>"
LLAVA_SPECIALS = [
    BOS,
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    PAD,
    IMAGE,
]
CLIP_SPECIALS = ["<|startoftext|>", "<|endoftext|>"]
NEGATIVE_PROMPT = (
    "Aerial view, aerial view, overexposed, low quality, deformation, a poor composition, bad hands, "
    "bad teeth, bad eyes, bad limbs, distortion"
)
"""The negative prompt of the authors' inference code (used only with CFG > 1)."""


def caption_corpus() -> list[str]:
    """Return captions of every family, from which the tokenizers learn the world's words."""
    generator = torch.Generator().manual_seed(1)
    scenes = world.sample_scenes(2000, generator=generator, second_share=0.5)
    opened, _ = world.open_caption(scenes, generator=generator, appearance=True)
    return world.named_caption(scenes) + opened


def _byte_level_bpe(corpus: list[str], vocabulary: int, specials: list[str], *, lower: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    split = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def _llava(vocabulary: int) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    templates = [VIDEO_PROMPT_TEMPLATE, VLM_TEMPLATE, NEGATIVE_PROMPT] * 3
    pieces = [part for text in templates for part in text.replace("{}", "").split("|>")]
    tokenizer = _byte_level_bpe(pieces + caption_corpus(), vocabulary, LLAVA_SPECIALS, lower=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token="<|end_of_text|>",
        pad_token=PAD,
        additional_special_tokens=["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", IMAGE],
        extra_special_tokens={"image_token": IMAGE},
        padding_side="right",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def llava_tokenizer() -> "PreTrainedTokenizerFast":
    """Return the largest-vocabulary tokenizer whose video template prefix is exactly ``CROP_START`` tokens.

    Raises:
        RuntimeError: no vocabulary size gives that count.
    """
    prefix = VIDEO_PROMPT_TEMPLATE.split("{}")[0]
    low, high = 300, 1400
    while low < high:  # the count falls as the vocabulary grows: find the first size at or below the target
        middle = (low + high) // 2
        if len(_llava(middle)(prefix).input_ids) <= CROP_START:
            high = middle
        else:
            low = middle + 1
    tokenizer = _llava(low)
    count = len(tokenizer(prefix).input_ids)
    if count != CROP_START:
        raise RuntimeError(f"the template prefix is {count} tokens at vocabulary {low}; wanted {CROP_START}")
    return tokenizer


def clip_tokenizer() -> "PreTrainedTokenizerFast":
    """Return a lower-casing tokenizer with CLIP's begin and end tokens, 77 tokens at most."""
    from transformers import PreTrainedTokenizerFast

    start, end = CLIP_SPECIALS
    tokenizer = _byte_level_bpe(caption_corpus(), 420, CLIP_SPECIALS, lower=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(t, tokenizer.token_to_id(t)) for t in CLIP_SPECIALS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token=end,
        model_max_length=CLIP_MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )

"""Tiny random LLaVA and CLIP folders in the shape the real ones have, tokenizer and processor included."""

import json
import re
from pathlib import Path

import torch
from magic141.model_patches.encoders.templates import VIDEO_PROMPT_TEMPLATE, VLM_TEMPLATE
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

WORDS = "a large small red blue green star circle on black background at the top left moves right fast slowly"
LLAMA_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<image>",
    "<pad>",
)
# Splits the video template into exactly the 94 pieces LLaMA-3's tokenizer does ("Ġ" before a digit is one).
SPLIT = r"\n\n| (?=\d)|\w+|[^\w\s]"
HIDDEN, IMAGE_SIZE, PATCH_SIZE, CLIP_HIDDEN = 64, 32, 4, 48


def word_level_tokenizer(corpus: str, special: tuple[str, ...], split: str = SPLIT) -> Tokenizer:
    """Return a tokenizer that knows every word of a corpus and the special tokens."""
    words = sorted(set(re.findall(split, corpus)))
    vocabulary = {word: index for index, word in enumerate(["<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens(list(special))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(split), behavior="removed", invert=True)
    return tokenizer


def llama_tokenizer(special: tuple[str, ...] = LLAMA_SPECIAL):
    """Return a tokenizer that cuts the video template into 95 tokens, like LLaMA-3's."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = word_level_tokenizer(VIDEO_PROMPT_TEMPLATE + VLM_TEMPLATE + " " + WORDS, special)
    bos = "<|begin_of_text|>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token="<|end_of_text|>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="right",
    )


def clip_tokenizer():
    """Return a CLIP-like tokenizer: start, words, end; padded with end."""
    from transformers import PreTrainedTokenizerFast

    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = word_level_tokenizer(WORDS, (start, end))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(t, tokenizer.token_to_id(t)) for t in (start, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token="<unk>",
        model_max_length=77,
    )


def llava_config(vocab_size: int, image_token_id: int, num_layers: int = 4):
    """Return the configuration of a tiny LLaVA: the real one's shape, every width cut."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    vision = CLIPVisionConfig(
        hidden_size=CLIP_HIDDEN,
        intermediate_size=2 * CLIP_HIDDEN,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=32,
    )
    text = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        rope_theta=500000.0,
        rms_norm_eps=1e-5,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token_id,
        image_token_id=image_token_id,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
    )


def write_llava_folder(
    folder: Path, *, expands_image: bool = True, seed: int = 0, num_layers: int = 4
) -> Path:
    """Write a tiny random LLaVA folder.

    Args:
        expands_image: write ``patch_size`` into the processor, so that transformers' own processor replaces
            ``<image>`` by one token a patch; without it (as in older real folders) it cannot.
        num_layers: of the language model.
    """
    from transformers import CLIPImageProcessor, LlavaForConditionalGeneration

    tokenizer = llama_tokenizer()
    config = llava_config(len(tokenizer) + 5, tokenizer.convert_tokens_to_ids("<image>"), num_layers)
    torch.manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15 if parameter.ndim > 1 else 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=size).save_pretrained(folder)
    processor = {"processor_class": "LlavaProcessor", "image_token": "<image>"}
    if expands_image:
        processor |= {"patch_size": PATCH_SIZE, "vision_feature_select_strategy": "default"}
        processor |= {"num_additional_image_tokens": 1}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder


def write_clip_folder(folder: Path, *, text_only: bool = False, seed: int = 1) -> Path:
    """Write a tiny random CLIP folder: a ``CLIPModel``, or only its text side as a ``CLIPTextModel``."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextModel

    tokenizer = clip_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 32,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "projection_dim": 32,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPTextModel(config.text_config) if text_only else CLIPModel(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

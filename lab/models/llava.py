"""Stage ``llava``: a small LLaVA that learns to describe a frame, so that its states carry words and pictures.

The vision tower starts from the CLIP stage. The language model learns to caption frames after the very templates
it is used with; its first layer, whose states feed the DiT (hidden state -3), also learns to name its neighbours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from ...model_patches.encoders.templates import IMAGE_TOKEN, llm_text, vlm_text
from .. import world
from . import muon
from .clip import PATCH, VISION, image_processor, normalised
from .run import Log, Run
from .text import IMAGE, llava_tokenizer

HIDDEN, LAYERS = 128, 3
IMAGE_TOKENS = (VISION["image_size"] // PATCH) ** 2
NEIGHBOURS = (0, 1, 2, 3)  # tokens back that the first layer's states must still name


def build(tokenizer) -> LlavaForConditionalGeneration:
    """Return the untrained model."""
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=256,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.06,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    vision = CLIPVisionConfig(**VISION)
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=IMAGE_TOKENS,
    )
    return LlavaForConditionalGeneration(config)


class _Neighbours(nn.Module):
    """Linear heads that name the tokens ``NEIGHBOURS`` back; thrown away after training."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(HIDDEN, vocabulary) for _ in NEIGHBOURS)

    def forward(self, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        losses = []
        for back, head in zip(NEIGHBOURS, self.heads, strict=True):
            logits = head(states[:, 95 + back :])
            target = ids[:, 95 : ids.shape[1] - back].masked_fill(mask[:, 95 + back :] == 0, -100)
            losses.append(F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100))
        return torch.stack(losses).mean()


def _captions(scenes: world.Scenes, generator: torch.Generator) -> list[str]:
    kind = float(torch.rand((), generator=generator))
    if kind < 0.4:
        return world.named_caption(scenes)
    if kind < 0.6:
        return world.appearance_caption(scenes)
    return world.open_caption(scenes, generator=generator, appearance=kind > 0.8)[0]


def _prompt_loss(model, heads: _Neighbours, tokenizer, captions: list[str]) -> Tensor:
    tokens = tokenizer([llm_text(c) for c in captions], padding=True, return_tensors="pt")
    out = model.model.language_model(**tokens, output_hidden_states=True)
    return heads(out.hidden_states[-3], tokens.input_ids, tokens.attention_mask)


def _describe_loss(model, tokenizer, scenes: world.Scenes) -> Tensor:
    prompt = vlm_text(1).replace(IMAGE_TOKEN, IMAGE_TOKEN * IMAGE_TOKENS)
    texts = [f"{prompt}{caption}<|eot_id|>" for caption in world.appearance_caption(scenes)]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    answer = len(tokenizer(prompt).input_ids)
    labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
    labels[:, :answer] = -100
    images = normalised(world.render_clip(scenes, 1)[:, 0])
    return model(**tokens, pixel_values=images, labels=labels).loss


def train(vision_state: dict[str, Tensor], total: int = 300, batch: int = 16):
    """Train for ``total`` steps, resuming from the cache.

    Args:
        vision_state: the CLIP stage's ``vision_model`` weights.
    """
    torch.manual_seed(0)
    tokenizer = llava_tokenizer()
    model = build(tokenizer)
    model.model.vision_tower.load_state_dict(vision_state, strict=True)
    heads = _Neighbours(len(tokenizer))
    exclude = ("embed", "head")
    optimizer = muon.optimizers(nn.ModuleList([model, heads]), lr=5e-3, adam_lr=2e-3, exclude=exclude)
    run = Run("llava", total, {"llava": model, "heads": heads}, optimizer)
    log = Log("llava", 20)
    for step in run.steps():
        generator = torch.Generator().manual_seed(step)
        scenes = world.sample_scenes(batch, generator=generator, split="train")
        prompt = _prompt_loss(model, heads, tokenizer, _captions(scenes, generator))
        describe = _describe_loss(model, tokenizer, scenes)
        run.update(prompt + describe)
        log(step, neighbours=prompt.detach(), describe=describe.detach())
    return model.eval(), tokenizer


def save(model: LlavaForConditionalGeneration, tokenizer, folder: str) -> None:
    """Write the Hugging Face folder in fp16."""
    model.half().save_pretrained(folder)
    LlavaProcessor(
        image_processor=image_processor(),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token=IMAGE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)

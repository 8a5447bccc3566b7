"""Stage ``clip``: a small CLIP on captions and first frames; its text side also feeds the DiT's pooled vector.

Beside the contrastive loss, linear heads predict every factor of the scene from both embeddings; they are dropped
after training. Batches contain near misses: scenes that differ from another one in a single factor.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import world
from . import muon
from .run import Log, Run
from .text import clip_tokenizer

if TYPE_CHECKING:  # seconds to import
    from transformers import CLIPImageProcessor, CLIPModel

IMAGE_SIZE, PATCH = 64, 8
POOLED_WIDTH = 768  # what the host's HunyuanVideo layout takes
VISION = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH,
    "projection_dim": 256,
}


def image_processor() -> "CLIPImageProcessor":
    """Return the preprocessing of the embedded vision towers: 64x64, CLIP's mean and standard deviation."""
    from transformers import CLIPImageProcessor

    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=size)


def normalised(images: Tensor) -> Tensor:
    """Normalise (N, 3, 64, 64) images in [0, 1] as the processor does."""
    processor = image_processor()
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    return (images - mean[:, None, None]) / std[:, None, None]


def build(tokenizer) -> "CLIPModel":
    """Return the untrained model: text of width 768 in one layer, vision as in ``VISION``."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": POOLED_WIDTH,
        "intermediate_size": 192,
        "num_hidden_layers": 1,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "projection_dim": 256,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=256))


FACTORS = {
    "shape": len(world.SHAPES),
    "colour": len(world.COLOURS),
    "size": len(world.SIZES),
    "background": len(world.BACKGROUNDS),
    "place": len(world.PLACES),
}
TEXT_FACTORS = FACTORS | {"direction": len(world.DIRECTIONS), "speed": len(world.SPEEDS)}


def near_misses(scenes: world.Scenes, generator: torch.Generator) -> world.Scenes:
    """Return the scenes with one visible factor of each drawn again, unless that gives a held-out combination."""
    factor = torch.randint(len(FACTORS), (len(scenes),), generator=generator)
    changed = {}
    for index, (name, count) in enumerate(FACTORS.items()):
        drawn = torch.randint(count, (len(scenes),), generator=generator)
        changed[name] = torch.where(factor == index, drawn, getattr(scenes, name))
    allowed = ~world.held_out(replace(scenes, **changed))
    kept = {name: torch.where(allowed, drawn, getattr(scenes, name)) for name, drawn in changed.items()}
    return replace(scenes, **kept)


def _same_picture(scenes: world.Scenes) -> Tensor:
    """Return which pairs of scenes have the same caption, (B, B) bool."""
    codes = torch.stack([getattr(scenes, name) for name in (*FACTORS, "second_colour")], 1)
    return (codes[:, None] == codes[None]).all(-1)


class FactorHeads(nn.Module):
    """Linear heads that predict the scene's factors from an embedding."""

    def __init__(self, width: int, factors: dict[str, int]) -> None:
        super().__init__()
        self.factors = factors
        self.linear = nn.Linear(width, sum(factors.values()))

    def loss(self, embedding: Tensor, scenes: world.Scenes) -> Tensor:
        """Return the mean cross entropy over the factors."""
        parts = self.linear(embedding).split(list(self.factors.values()), dim=1)
        losses = [
            F.cross_entropy(part, getattr(scenes, name))
            for name, part in zip(self.factors, parts, strict=True)
        ]
        return torch.stack(losses).mean()


def _captions(scenes: world.Scenes, generator: torch.Generator) -> list[str]:
    if torch.rand((), generator=generator) < 0.5:
        return world.named_caption(scenes)
    return world.appearance_caption(scenes)


def _contrastive_loss(logits: Tensor, same: Tensor) -> Tensor:
    """Return CLIP's symmetric loss; pairs with the same caption are no negatives."""
    target = torch.arange(len(logits))
    logits = logits.masked_fill(same & ~torch.eye(len(logits), dtype=torch.bool), -1e4)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(total: int = 1500, batch: int = 64) -> "tuple[CLIPModel, object]":
    """Train for ``total`` steps, resuming from the cache."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    model = build(tokenizer)
    heads = nn.ModuleDict(
        {
            "image": FactorHeads(VISION["hidden_size"], FACTORS),
            "text": FactorHeads(POOLED_WIDTH, TEXT_FACTORS),
        }
    )
    both = nn.ModuleDict({"clip": model, "heads": heads})
    optimizer = muon.optimizers(both, lr=5e-3, adam_lr=1e-3, exclude=("embedding", "heads"))
    run = Run("clip", total, {"clip": model, "heads": heads}, optimizer, ema_decay=0.99)
    log = Log("clip", 20)
    for step in run.steps():
        generator = torch.Generator().manual_seed(step)
        scenes = world.sample_scenes(batch // 2, generator=generator, split="train")
        scenes = world.concatenate([scenes, near_misses(scenes, generator)])
        images = world.render_clip(scenes, 1)[:, 0]
        tokens = tokenizer(_captions(scenes, generator), padding=True, return_tensors="pt")
        read = model.text_model(**tokens).pooler_output
        seen = model.vision_model(pixel_values=normalised(images)).pooler_output
        text = F.normalize(model.text_projection(read), dim=-1)
        image = F.normalize(model.visual_projection(seen), dim=-1)
        logits = model.logit_scale.exp().clamp(max=100) * text @ image.T
        contrastive = _contrastive_loss(logits, _same_picture(scenes))
        seen_loss, read_loss = heads["image"].loss(seen, scenes), heads["text"].loss(read, scenes)
        run.update(contrastive + seen_loss + read_loss)
        accuracy = (logits.argmax(1) == torch.arange(batch)).float().mean()
        losses = {"contrastive": contrastive, "seen": seen_loss, "read": read_loss}
        log(step, **{name: loss.detach() for name, loss in losses.items()}, accuracy=accuracy)
    model.load_state_dict(run.ema["clip"].shadow)
    return model.eval(), tokenizer


@torch.no_grad()
def evaluate(model: "CLIPModel", tokenizer, count: int = 1000) -> dict[str, float]:
    """Measure retrieval of a caption's own picture among held-out, distinct pictures."""
    scenes = world.sample_scenes(
        count, generator=torch.Generator().manual_seed(9), split="test", second_share=0.0
    )
    code = (((scenes.shape * 8 + scenes.colour) * 2 + scenes.size) * 4 + scenes.background) * 9 + scenes.place
    first = {int(c): i for i, c in reversed(list(enumerate(code)))}
    scenes = scenes[torch.tensor(sorted(first.values()))]
    images = world.render_clip(scenes, 1)[:, 0]
    tokens = tokenizer(world.named_caption(scenes), padding=True, return_tensors="pt")
    out = model(**tokens, pixel_values=normalised(images))
    text, image = out.text_embeds, out.image_embeds
    hit = (text @ image.T).argmax(1) == torch.arange(len(scenes))
    return {"distinct_pictures": len(scenes), "recall_at_1": hit.float().mean().item()}


def save(model: "CLIPModel", tokenizer, folder: str) -> None:
    """Write the Hugging Face folder in fp16."""
    from transformers import CLIPProcessor

    tokenizer.backend_tokenizer.no_padding()  # training on batches has set it
    model.half().save_pretrained(folder)
    CLIPProcessor(image_processor=image_processor(), tokenizer=tokenizer).save_pretrained(folder)

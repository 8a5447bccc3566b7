"""Stage ``clip``: a small CLIP on captions and first frames; its text side also feeds the DiT's pooled vector."""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from .. import world
from . import muon
from .run import Log, Run
from .text import clip_tokenizer

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


def image_processor() -> CLIPImageProcessor:
    """Return the preprocessing of the embedded vision towers: 64x64, CLIP's mean and standard deviation."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=size)


def normalised(images: Tensor) -> Tensor:
    """Normalise (N, 3, 64, 64) images in [0, 1] as the processor does."""
    processor = image_processor()
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    return (images - mean[:, None, None]) / std[:, None, None]


def build(tokenizer) -> CLIPModel:
    """Return the untrained model: text of width 768 in one layer, vision as in ``VISION``."""
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


def _captions(scenes: world.Scenes, generator: torch.Generator) -> list[str]:
    if torch.rand((), generator=generator) < 0.5:
        return world.named_caption(scenes)
    return world.appearance_caption(scenes)


def _embed(model: CLIPModel, tokenizer, captions: list[str], images: Tensor) -> tuple[Tensor, Tensor]:
    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    out = model(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=normalised(images)
    )
    return out.text_embeds, out.image_embeds


def train(total: int = 300, batch: int = 64) -> tuple[CLIPModel, object]:
    """Train for ``total`` steps, resuming from the cache."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    model = build(tokenizer)
    optimizer = muon.optimizers(model, lr=5e-3, adam_lr=1e-3, exclude=("embedding",))
    run = Run("clip", total, {"clip": model}, optimizer, ema_decay=0.98)
    log = Log("clip", 20)
    for step in run.steps():
        generator = torch.Generator().manual_seed(step)
        scenes = world.sample_scenes(batch, generator=generator, split="train")
        images = world.render_clip(scenes, 1)[:, 0]
        text, image = _embed(model, tokenizer, _captions(scenes, generator), images)
        logits = model.logit_scale.exp().clamp(max=100) * text @ image.T
        target = torch.arange(batch)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        run.update(loss)
        log(step, loss=loss.detach(), accuracy=(logits.argmax(1) == target).float().mean())
    model.load_state_dict(run.ema["clip"].shadow)
    return model.eval(), tokenizer


@torch.no_grad()
def evaluate(model: CLIPModel, tokenizer, count: int = 1000) -> dict[str, float]:
    """Measure retrieval of a caption's own picture among held-out, distinct pictures."""
    scenes = world.sample_scenes(
        count, generator=torch.Generator().manual_seed(9), split="test", second_share=0.0
    )
    code = (((scenes.shape * 8 + scenes.colour) * 2 + scenes.size) * 4 + scenes.background) * 9 + scenes.place
    first = {int(c): i for i, c in reversed(list(enumerate(code)))}
    scenes = scenes[torch.tensor(sorted(first.values()))]
    images = world.render_clip(scenes, 1)[:, 0]
    text, image = _embed(model, tokenizer, world.named_caption(scenes), images)
    hit = (text @ image.T).argmax(1) == torch.arange(len(scenes))
    return {"distinct_pictures": len(scenes), "recall_at_1": hit.float().mean().item()}


def save(model: CLIPModel, tokenizer, folder: str) -> None:
    """Write the Hugging Face folder in fp16."""
    model.half().save_pretrained(folder)
    CLIPProcessor(image_processor=image_processor(), tokenizer=tokenizer).save_pretrained(folder)

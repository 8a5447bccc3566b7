"""Stage ``data``: scenes with their latents and text states, computed once by the frozen stages and cached.

A clip is 25 frames (7 latents), so that a training window of 4 latents can start in the middle of a motion.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ...model_patches.encoders.llm import HIDDEN_STATE_INDEX
from ...model_patches.encoders.templates import CROP_START, IMAGE_TOKEN, USER_HEADER, llm_text, vlm_text
from ...model_patches.encoders.vlm import VisionLanguageModel, token_masks
from .. import world
from ..world.scenes import NUM_MOTIONS
from .clip import normalised
from .run import save_atomically, stage_dir
from .taehv import Taehv

CLIP_FRAMES, CLIP_LATENTS, WINDOW_LATENTS = 25, 7, 4
WINDOW_FRAMES = 4 * (WINDOW_LATENTS - 1) + 1


@dataclass(frozen=True)
class Dataset:
    """N scenes. V = len(FAMILIES) captions a scene; L the longest caption; W window starts seen by the VLM.

    latents: (N, 16, 7, 8, 8). states: (N, V, L, D), zero padded. lengths: (N, V). pooled: (N, V, 768).
    image_states: (N, 2, S, D) of the first frame and of the last one of latent ``start`` (N,). null_states: (L0, D) and
    null_pooled (768) of the empty prompt. allowed: (N, V, 16) bool.
    """

    latents: Tensor
    states: Tensor
    lengths: Tensor
    pooled: Tensor
    image_states: Tensor
    start: Tensor
    null_states: Tensor
    null_pooled: Tensor
    allowed: Tensor


@torch.no_grad()
def prompt_batch(vlm: VisionLanguageModel, tokenizer, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Return (B, L, D) zero-padded prompt states, as ``encoders.llm`` gives them one by one, and (B,) lengths.

    Only the layers that feed hidden state [-3] run.
    """
    tokens = tokenizer([llm_text(c) for c in captions], padding=True, return_tensors="pt")
    model = vlm.language_model
    layers = model.layers
    model.layers = layers[: len(layers) + 1 + HIDDEN_STATE_INDEX]
    try:
        # the class records each layer's input, so the last layer's own output is read from a hook
        taken: list[Tensor] = []
        handle = model.layers[-1].register_forward_hook(
            lambda _m, _i, out: taken.append(out[0] if isinstance(out, tuple) else out)
        )
        model(**tokens, use_cache=False)
        handle.remove()
    finally:
        model.layers = layers
    mask = tokens.attention_mask[:, CROP_START:]
    return taken[0][:, CROP_START:] * mask[..., None], mask.sum(1)


@torch.no_grad()
def pooled_batch(clip_model, tokenizer, captions: list[str]) -> Tensor:
    """Return (B, 768) pooled states of captions."""
    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    return clip_model.text_model(**tokens).pooler_output


@torch.no_grad()
def image_batch(vlm: VisionLanguageModel, tokenizer, images: Tensor) -> Tensor:
    """Return (B, S, D) image states of single images (B, 3, 64, 64): ``encoders.vlm.image_states``, batched."""
    features = vlm.image_features(normalised(images))
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    header = tokenizer(USER_HEADER, add_special_tokens=False).input_ids
    ids = tokenizer(vlm_text(1)).input_ids
    is_image, is_kept = token_masks(ids, header, image_token_id=image_id, tokens_per_image=features.shape[1])
    text = vlm.language_model.get_input_embeddings()(torch.tensor([i for i in ids if i != image_id]))
    embeds = text.new_empty(len(images), len(is_image), text.shape[-1])
    embeds[:, ~is_image] = text
    embeds[:, is_image] = features
    return vlm.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, is_kept]


@torch.no_grad()
def encode_clips(vae: Taehv, clips: Tensor) -> Tensor:
    """Return the latents of clips (B, T, 3, 64, 64), two at a time: few enough for the processor's cache."""
    return torch.cat([vae.encode(part) for part in clips.split(2)])


@torch.no_grad()
def decode_clips(vae: Taehv, latents: Tensor) -> Tensor:
    """Return the clips of latents (B, 16, T, 8, 8), two at a time, as in ``encode_clips``."""
    return torch.cat([vae.decode(part) for part in latents.split(2)])


def _captions(scenes: world.Scenes, generator: torch.Generator) -> tuple[list[list[str]], Tensor]:
    named = torch.nn.functional.one_hot(scenes.motion, NUM_MOTIONS).bool()
    opened, allowed = world.open_caption(scenes, generator=generator)
    appearance, allowed_too = world.open_caption(scenes, generator=generator, appearance=True)
    return [world.named_caption(scenes), opened, appearance], torch.stack([named, allowed, allowed_too], 1)


class Encoders:
    """The frozen stages: VAE, LLaVA and CLIP with their tokenizers."""

    def __init__(self, llava: Path, clip: Path, vae: Taehv) -> None:
        from transformers import AutoTokenizer, CLIPModel, LlavaForConditionalGeneration

        self.vlm = VisionLanguageModel(
            LlavaForConditionalGeneration.from_pretrained(llava, use_safetensors=True).float()
        ).eval()
        self.vlm.activation_dtype = torch.float32
        self.llm_tokenizer = AutoTokenizer.from_pretrained(llava, trust_remote_code=False)
        self.clip = CLIPModel.from_pretrained(clip, use_safetensors=True).float().eval()
        self.clip_tokenizer = AutoTokenizer.from_pretrained(clip, trust_remote_code=False)
        self.vae = vae

    @classmethod
    def trained(cls) -> "Encoders":
        """Return the frozen stages from the training cache."""
        return cls(stage_dir("llava") / "folder", stage_dir("clip") / "folder", cls.load_vae())

    @staticmethod
    def load_vae(*, first: bool = False) -> Taehv:
        """Return the trained autoencoder, with the decoder of stage ``vae_decoder`` unless ``first``."""
        vae = Taehv().eval()
        vae.load_state_dict(torch.load(stage_dir("vae") / "checkpoint.pt", weights_only=True)["ema"]["vae"])
        tuned = stage_dir("vae_decoder") / "checkpoint.pt"
        if tuned.exists() and not first:
            vae.decoder.load_state_dict(torch.load(tuned, weights_only=True)["ema"]["vae"])
        return vae

    def encode(self, scenes: world.Scenes, generator: torch.Generator) -> dict[str, Tensor]:
        """Return one batch of ``Dataset`` fields; states padded to 32 tokens."""
        clip = world.render_clip(scenes, CLIP_FRAMES)
        families, allowed = _captions(scenes, generator)
        texts = [prompt_batch(self.vlm, self.llm_tokenizer, captions) for captions in families]
        states = torch.stack([torch.nn.functional.pad(s, (0, 0, 0, 32 - s.shape[1])) for s, _ in texts], 1)
        start = torch.randint(1, CLIP_LATENTS - WINDOW_LATENTS + 1, (len(scenes),), generator=generator)
        middle = clip[torch.arange(len(scenes)), start * 4]
        seen = [image_batch(self.vlm, self.llm_tokenizer, images) for images in (clip[:, 0], middle)]
        return {
            "latents": encode_clips(self.vae, clip).half(),
            "states": states.half(),
            "lengths": torch.stack([n for _, n in texts], 1),
            "pooled": torch.stack(
                [pooled_batch(self.clip, self.clip_tokenizer, c) for c in families], 1
            ).half(),
            "image_states": torch.stack(seen, 1).half(),
            "start": start,
            "allowed": allowed,
        }

    def null(self) -> dict[str, Tensor]:
        """Return the states of the empty prompt."""
        return {
            "null_states": prompt_batch(self.vlm, self.llm_tokenizer, [""])[0][0].half(),
            "null_pooled": pooled_batch(self.clip, self.clip_tokenizer, [""])[0].half(),
        }


def cached_shards(
    folder: Path,
    count: int,
    make: Callable[[slice], dict[str, Tensor]],
    *,
    batch: int = 100,
    available: bool = False,
) -> dict[str, Tensor]:
    """Return ``make`` of all ``count`` rows, joined; every shard of ``batch`` rows is computed once and cached.

    Args:
        available: stop at the first missing shard instead of computing it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for start in range(0, count, batch):
        path = folder / f"{start:06d}.pt"
        if not path.exists():
            if available:
                break
            save_atomically(make(slice(start, min(start + batch, count))), path)
            print(f"data {folder.name}: {min(start + batch, count)} of {count} scenes", flush=True)
        shards.append(torch.load(path, weights_only=True))
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}


def load(
    split: str, count: int, *, seed: int, batch: int = 100, available: bool = False
) -> tuple[Dataset, world.Scenes]:
    """Return the cached dataset of a split, computing what is missing, a shard of ``batch`` scenes at a time.

    Args:
        available: stop at the first missing shard instead of computing it.
    """
    folder = stage_dir(f"data/{split}-{seed}")
    scenes = world.sample_scenes(count, generator=torch.Generator().manual_seed(seed), split=split)
    encoders = functools.cache(Encoders.trained)
    null = folder / "null.pt"
    if not null.exists():
        save_atomically(encoders().null(), null)

    def encode(rows: slice) -> dict[str, Tensor]:
        return encoders().encode(scenes[rows], torch.Generator().manual_seed(seed * 1_000_003 + rows.start))

    joined = cached_shards(folder, count, encode, batch=batch, available=available)
    data = Dataset(
        **{f.name: joined[f.name] for f in fields(Dataset) if f.name in joined},
        **torch.load(null, weights_only=True),
    )
    return data, scenes[slice(0, len(data.latents))]

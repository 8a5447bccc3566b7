"""Models small enough to make many windows in a test: random DiT, random TAEHV, encoders that hash."""

import hashlib

import torch
from magic141.tests.support.tiny_dit import TEXT_WIDTH, tiny_dit
from magic141.tests.support.tiny_vae import open_taehv
from torch import Tensor


class HashedStates:
    """An encoder backend whose states are random but the same for the same words and pictures."""

    def prompt_states(self, prompt: str) -> tuple[Tensor, Tensor]:
        return _drawn(prompt.encode(), (1, 5, TEXT_WIDTH)), _drawn(prompt.encode() + b"/pooled", (1, 768))

    def image_states(self, images: list[Tensor]) -> Tensor:
        return torch.cat(
            [_drawn(image.contiguous().numpy().tobytes(), (1, 4, TEXT_WIDTH)) for image in images], dim=1
        )


def _drawn(key: bytes, shape: tuple[int, ...]) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(key).digest()[:7], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny_models(seed: int = 0, *, vae=None):
    """Return ``Models`` of random weights: MODEL (33 channels), MAGIC141_ENCODERS, VAE (TAEHV if None)."""
    import comfy.sd
    from magic141.model_patches.bridge.encoders.socket import Magic141Encoders
    from magic141.model_patches.bridge.window.make import Models

    model = comfy.sd.load_diffusion_model_state_dict(tiny_dit(33, seed=seed))
    return Models(model, Magic141Encoders(HashedStates()), vae or open_taehv(seed))

"""diffusers' twin of the host's DiT: the same weights in a network that backward works through.

The host's blocks add in place, which plain backward refuses and checkpointed backward gets silently wrong.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..dit.diffusers_config import diffusers_config
from ..dit.keys import host_to_diffusers
from ..store.cancel import import_until_canceled
from .batch import TrainingBatch

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel as Twin

GUIDANCE_PREFIX = "guidance_in."
GUIDANCE_SOURCE = "time_in."
INSTALL = "Training needs two more packages. Install them into ComfyUI's Python: pip install diffusers peft"


def missing_packages() -> str | None:
    """Return what to install before anything can be trained, or None."""
    missing = [name for name in ("diffusers", "peft") if importlib.util.find_spec(name) is None]
    return f"{INSTALL} (missing: {', '.join(missing)})." if missing else None


def require_training_packages() -> None:
    """Import diffusers and peft.

    Raises:
        ImportError: one is missing; names what to install.
    """
    if (problem := missing_packages()) is not None:
        raise ImportError(problem)
    import_until_canceled("diffusers.models.transformers.transformer_hunyuan_video", "peft")


def from_host(
    host: Mapping[str, Tensor], *, dtype: torch.dtype = torch.float32, share: bool = False
) -> "Twin":
    """Return the diffusers twin of a host DiT, in evaluation mode. Loads strictly.

    Args:
        share: keep the given tensors where they have ``dtype`` already, for weights that are never written to:
            files that are mapped into memory are then in memory once, for all processes.
    """
    require_training_packages()
    from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel as Twin

    with torch.device("meta"):
        model = Twin(**diffusers_config(host))
    weights = {
        # a host in inference mode makes tensors that backward refuses; copies made here are plain
        key: value.to(dtype, copy=not share or value.is_inference())
        for key, value in host_to_diffusers(host).items()
    }
    model.load_state_dict(weights, strict=True, assign=True)
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())), "not all was loaded"
    return model.requires_grad_(True).eval()


def takes_image(host: Mapping[str, Tensor]) -> bool:
    """Say whether a host DiT takes known frames and a mask beside the noisy latent."""
    config = diffusers_config(host)
    got, text, image = config["in_channels"], config["out_channels"], 2 * config["out_channels"] + 1
    if got not in (text, image):
        raise ValueError(f"The model has {got} input channels; {text} or {image} are needed.")
    return got == image


def has_guidance(host: Mapping[str, Tensor]) -> bool:
    """Say whether a host DiT has an embedder for the guidance scale."""
    return any(key.startswith(GUIDANCE_PREFIX) for key in host)


def with_guidance(host: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return host weights with a guidance embedder whose output is zero, so that nothing changes at first.

    Source: paper section 3.1, the guidance weight as an extra input to the student.
    """
    added = {}
    for key, value in host.items():
        if key.startswith(GUIDANCE_SOURCE):
            name = GUIDANCE_PREFIX + key.removeprefix(GUIDANCE_SOURCE)
            added[name] = torch.zeros_like(value) if ".out_layer." in name else value.clone()
    return {**host, **added}


@dataclass(frozen=True)
class Conditions:
    """What a model is given beside the noisy latent.

    known: (B, C + 1, T, H, W) known frames and their mask, None for text to video. states (B, L, D), mask (B, L)
    and pooled (B, P): the prompt. guidance: (B,) the host's scale g, or None; ignored by a model without an embedder.
    """

    known: Tensor | None
    states: Tensor
    mask: Tensor
    pooled: Tensor
    guidance: Tensor | None

    @classmethod
    def of(
        cls, batch: TrainingBatch, *, image: bool, empty: bool = False, guidance: Tensor | None = None
    ) -> "Conditions":
        """Return a batch's conditions; with ``empty`` those of the empty prompt and the same known frames."""
        known = known_channels(batch.latents, batch.num_known) if image else None
        if empty:
            return cls(known, batch.null_states, batch.null_mask, batch.null_pooled, guidance)
        return cls(known, batch.states, batch.mask, batch.pooled, guidance)


def known_channels(latents: Tensor, num_known: Tensor) -> Tensor:
    """Return the leading known frames, zero after them, and the mask that is 1 on them: (B, C + 1, T, H, W)."""
    frame = torch.arange(latents.shape[2], device=latents.device)
    mask = (frame < num_known[:, None]).to(latents)[:, None, :, None, None]
    return torch.cat([latents * mask, mask.expand(-1, -1, -1, *latents.shape[-2:])], 1)


def predict_velocity(model: "Twin", noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
    """Return the velocity (B, C, T, H, W) that a twin predicts; sigma (B,)."""
    known = conditions.known
    return model(
        hidden_states=noisy if known is None else torch.cat([noisy, known], 1),
        timestep=sigma * 1000,
        encoder_hidden_states=conditions.states,
        encoder_attention_mask=conditions.mask,
        pooled_projections=conditions.pooled,
        guidance=None if conditions.guidance is None else conditions.guidance * 1000,
        return_dict=False,
    )[0].float()

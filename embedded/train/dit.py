"""Stages ``t2v`` and ``ti2v``: flow matching on diffusers' twin of the host's DiT.

``t2v`` learns still latents (one latent frame: text to image) and clips from text alone. ``ti2v`` starts from it by
the paper's surgery and sees k = 1, 2 or 3 known latents, windows that start in mid-motion, and the VLM's states.
"""

import torch
from diffusers import HunyuanVideoTransformer3DModel
from torch import Tensor, nn

from ...model_patches.diffusers_config import diffusers_config
from ...model_patches.key_table import diffusers_to_host, expected_shapes
from ...model_patches.training.losses import flow_matching_loss
from ...model_patches.training.twin import expand, from_host
from . import muon
from .data import WINDOW_LATENTS, Dataset, load
from .evaluate import sample, score
from .run import Log, Run, stage_dir

HIDDEN, DEPTH, DEPTH_SINGLE, CONTEXT = 128, 2, 5, 128
PATCH = 1  # at width 128 the noise of a 2x2 patch (64 values) would crowd out the picture
LATENT_CHANNELS = 16
TRAIN_SHIFT = 5.0
DROP_CAPTION, DROP_IMAGE_STATES = 0.1, 0.5
ADAM_PARTS = ("x_embedder", "proj_in", "embedder", "norm_out.linear")
ZERO_PARTS = ("norm1.linear", "norm1_context.linear", "norm.linear", "norm_out.linear")


def new_t2v() -> HunyuanVideoTransformer3DModel:
    """Return the untrained 16-channel model; modulations and the output start at zero."""
    shapes = expected_shapes(
        hidden_size=HIDDEN,
        depth=DEPTH,
        depth_single=DEPTH_SINGLE,
        in_channels=LATENT_CHANNELS,
        text_width=CONTEXT,
        patch=PATCH,
    )
    with torch.device("meta"):
        host = {key: torch.empty(shape) for key, shape in shapes.items()}
    model = HunyuanVideoTransformer3DModel(**diffusers_config(host))
    for name, module in model.named_modules():
        is_output = name == "proj_out"
        if isinstance(module, nn.Linear) and (is_output or name.endswith(ZERO_PARTS)):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return model


class Batch:
    """One training batch: clean latents, what is known of them, and padded context with its mask."""

    def __init__(
        self, data: Dataset, generator: torch.Generator, *, size: int, still: bool, image: bool
    ) -> None:
        def chance(share: float) -> Tensor:
            return torch.rand(size, generator=generator) < share

        rows = torch.randint(len(data.latents), (size,), generator=generator)
        length = 1 if still else WINDOW_LATENTS
        middle = chance(0.4) if image else torch.zeros(size, dtype=torch.bool)
        start = torch.where(middle, data.start[rows], 0)
        steps = start[:, None] + torch.arange(length)
        self.latents = data.latents[rows[:, None], :, steps].float().transpose(1, 2)
        self.family = torch.multinomial(
            self.family_weights(image), size, replacement=True, generator=generator
        )
        self.known = self._known(generator, size, length) if image else None
        states, lengths = data.states[rows, self.family].float(), data.lengths[rows, self.family]
        self.pooled = data.pooled[rows, self.family].float()
        dropped = chance(DROP_CAPTION)
        states[dropped] = nn.functional.pad(
            data.null_states, (0, 0, 0, states.shape[1] - len(data.null_states))
        ).float()
        lengths = torch.where(dropped, len(data.null_states), lengths)
        self.pooled[dropped] = data.null_pooled.float()
        mask = torch.arange(states.shape[1]) < lengths[:, None]
        states, mask = states[:, : int(lengths.max())], mask[:, : int(lengths.max())]
        if image and torch.rand((), generator=generator) > DROP_IMAGE_STATES:
            seen = data.image_states[rows, middle.long()].float()
            states = torch.cat([seen, states], 1)
            mask = torch.cat([torch.ones(seen.shape[:2], dtype=torch.bool), mask], 1)
        self.states, self.mask = states, mask
        self.noise = torch.randn(self.latents.shape, generator=generator)
        uniform = torch.rand(size, generator=generator)
        self.sigma = TRAIN_SHIFT * uniform / (1 + (TRAIN_SHIFT - 1) * uniform)

    @staticmethod
    def family_weights(image: bool) -> Tensor:
        return torch.tensor([0.8, 0.2, 0.0] if image else [0.75, 0.0, 0.25])

    @staticmethod
    def _known(generator: torch.Generator, size: int, length: int) -> Tensor:
        count = (
            torch.multinomial(torch.tensor([0.6, 0.2, 0.2]), size, replacement=True, generator=generator) + 1
        )
        return (torch.arange(length) < count[:, None]).float()[:, None, :, None, None]

    def model_input(self) -> Tensor:
        """Return x_sigma, with the known latents and the mask behind it where the model takes them."""
        sigma = self.sigma[:, None, None, None, None]
        noisy = sigma * self.noise + (1 - sigma) * self.latents
        if self.known is None:
            return noisy
        mask = self.known.expand(-1, -1, -1, *noisy.shape[-2:])
        return torch.cat([noisy, self.latents * self.known, mask], 1)


def batch_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the flow matching loss of one batch."""
    velocity = model(
        hidden_states=batch.model_input(),
        timestep=batch.sigma * 1000,
        encoder_hidden_states=batch.states,
        encoder_attention_mask=batch.mask,
        pooled_projections=batch.pooled,
        return_dict=False,
    )[0]
    return flow_matching_loss(velocity, batch.latents, batch.noise)


def _train(
    stage: str, model, total: int, size: int, data: Dataset, *, image: bool, still_share: float, lr: float
):
    optimizers = muon.optimizers(model, lr=lr, adam_lr=1e-3, exclude=ADAM_PARTS)
    run = Run(stage, total, {"dit": model}, optimizers, ema_decay=0.997)
    log = Log(stage, 50)
    model.train()
    for step in run.steps():
        generator = torch.Generator().manual_seed(step)
        still = bool(torch.rand((), generator=generator) < still_share)
        batch = Batch(data, generator, size=size * 2 if still else size, still=still, image=image)
        loss = batch_loss(model, batch)
        run.update(loss)
        log(step, **{"still" if still else "clip": loss.detach(), "n_still": float(still)})
        if (step + 1) % 400 == 0:
            report(stage, run.ema["dit"].shadow, image=image)
    return report(stage, run.ema["dit"].shadow, image=image)


def report(stage: str, weights: dict[str, Tensor], *, image: bool) -> dict[str, float]:
    """Write the averaged weights in the host's names and score them on held-out scenes."""
    from safetensors.torch import save_file

    host = {k: v.to(torch.bfloat16).contiguous() for k, v in diffusers_to_host(weights).items()}
    save_file(host, stage_dir(stage) / "dit.safetensors")
    data, scenes = load("test", 200, seed=7)
    model, figures = from_host(host), {}
    for family in [0, 1] if image else [0]:
        for steps in (4,):
            latents = sample(model, data, steps=steps, image=image, still=not image, family=family)
            scores = score(latents, data, scenes, family=family)
            figures |= {f"{k}_family{family}_{steps}": v for k, v in scores.items()}
    print(stage, figures, flush=True)
    return figures


def train_t2v(total: int = 2800, size: int = 32) -> dict[str, float]:
    """Train text to image and video."""
    torch.manual_seed(0)
    data, _ = load("train", 8000, seed=1, available=True)
    return _train("t2v", new_t2v(), total, size, data, image=False, still_share=0.9, lr=5e-3)


def train_ti2v(total: int = 3000, size: int = 32) -> dict[str, float]:
    """Train image to video from the text-to-video model."""
    from safetensors.torch import load_file

    torch.manual_seed(0)
    data, _ = load("train", 8000, seed=1, available=True)
    model = expand(from_host(load_file(stage_dir("t2v") / "dit.safetensors")))
    return _train("ti2v", model, total, size, data, image=True, still_share=0.0, lr=4e-3)

"""Stages ``t2v``, ``ti2v`` and ``t2v_clips``: flow matching on diffusers' twin of the host's DiT.

``t2v`` learns still latents most of the time (one latent frame: text to image), and clips from text alone. ``ti2v``
starts from it with the paper's added input channels and sees k = 1, 2 or 3 known latents, windows that start in
mid-motion, and the VLM's states. ``t2v_clips`` continues ``t2v`` with clips most of the time, until objects move as the
text says.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from diffusers import HunyuanVideoTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...model_patches.dit.channels import expand_input_channels
from ...model_patches.dit.diffusers_config import diffusers_config
from ...model_patches.dit.keys import diffusers_to_host, expected_shapes
from ...model_patches.training.losses import add_noise, denoised_estimate
from ...model_patches.training.parallel import this_process
from ...model_patches.training.sampling import draw_sigma
from ...model_patches.training.stages import mixed_conditions
from ...model_patches.training.twin import Conditions, from_host, predict_velocity
from .. import world
from ..world.scenes import NUM_MOTIONS
from . import muon
from .data import Dataset, Encoders, load
from .drift import Wear, load_drift
from .futures import Futures, load_futures
from .handovers import PLAYED_EVERY, HandOverPool, HandOvers, as_first_windows
from .motion_head import MotionHead
from .player import Player, Sampling
from .run import Log, Run, stage_dir
from .source import FAMILIES, NAMED, OPEN, HeldOutSource, WorldSource
from .vae import psnr_db

HIDDEN, DEPTH, DEPTH_SINGLE, CONTEXT = 128, 2, 5, 128
PATCH = 1  # at width 128 the noise of a 2x2 patch (64 values) would crowd out the picture
LATENT_CHANNELS = 16
TRAIN_SHIFT = 5.0
CHOICE_SIGMAS, CHOICE_SHARE = (0.5, 0.95), 0.8
"""Noise levels at which one of several futures is chosen, and how often clips with several are drawn there."""
DROP_CAPTION, DROP_IMAGE_STATES = 0.1, 0.5
REPORT_STEPS, REPORT_EVERY = 4, 1200
HANDED_FROM = 10_000
"""The step from which long videos are made in training: before it the model would lose the object at once."""
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


@dataclass(frozen=True)
class Noised:
    """Noised latents at each clip's sigma, the model's conditions, and the target.

    motions: (B, 16), how likely each motion is; None if no futures are known.
    """

    noisy: Tensor
    target: Tensor
    sigma: Tensor
    conditions: Conditions
    motions: Tensor | None = None

    @classmethod
    def draw(
        cls,
        source: WorldSource,
        size: int,
        generator: torch.Generator,
        *,
        still: bool,
        futures: Futures | None = None,
        wear: Wear | None = None,
        handed: HandOvers | None = None,
    ) -> "Noised":
        """Return random windows, or random first frames with ``still``; some clips have the empty prompt.

        Most clips that allow several futures get a noise level at which one is chosen. The target is the clean clip, or
        the mean of the futures where ``futures`` are known and the caption allows several.

        Args:
            wear: adds the errors of a long video to the known latents of windows in mid-motion.
            handed: hand-overs of the model's own long videos, which replace some windows.
        """
        windows = source.windows(torch.randint(len(source), (size,), generator=generator), generator)
        places = index = torch.empty(0, dtype=torch.long)
        if handed is not None:
            windows, places, index = handed.draw(windows, generator)
        rows = windows.rows
        batch = source.window_batch(windows)
        seen = (
            batch
            if wear is None
            else wear.add_to(source, as_first_windows(windows, places), batch, generator)
        )
        if handed is not None:
            batch = handed.truth(batch, places, index)
            seen = handed.with_made(seen, places, index, image_states=source.image_states)
        clean = batch.latents[:, :, :1] if still else batch.latents
        prompted, empty = (Conditions.of(seen, image=source.image, empty=e) for e in (False, True))
        dropped = torch.rand(size, generator=generator) < DROP_CAPTION
        noise = torch.randn(clean.shape, generator=generator)
        sigma = draw_sigma(size, TRAIN_SHIFT, generator)
        several = (windows.is_open & ~dropped & (not still)).nonzero()[:, 0]
        sigma[several] = _choice_sigma(sigma[several], generator)
        noisy = add_noise(clean, noise, sigma)
        if futures is None:
            return cls(noisy, clean, sigma, mixed_conditions(prompted, empty, dropped))
        mean, likelihood = futures.posterior(rows[several], noisy[several], sigma[several])
        target = clean.index_copy(0, several, mean)
        motions = source.data.allowed[rows, NAMED].float().index_copy(0, several, likelihood)
        if handed is not None:
            motions[places] = nn.functional.one_hot(handed.motion[index], NUM_MOTIONS).float()
        return cls(noisy, target, sigma, mixed_conditions(prompted, empty, dropped), motions)

    def loss(self, model: nn.Module) -> Tensor:
        """Return the mean squared error of a model's estimate of the clean latents.

        It is the flow matching loss weighted by sigma squared: at low sigmas the velocity's error is mostly noise that
        cannot be predicted, and few steps at shift 5 are mostly at high sigmas.
        """
        velocity = predict_velocity(model, self.noisy, self.sigma, self.conditions)
        return nn.functional.mse_loss(denoised_estimate(self.noisy, velocity, self.sigma), self.target)


def _choice_sigma(sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise levels, most of them drawn again from those at which one future is chosen."""
    low, high = CHOICE_SIGMAS
    drawn = low + (high - low) * torch.rand(len(sigma), generator=generator)
    return torch.where(torch.rand(len(sigma), generator=generator) < CHOICE_SHARE, drawn, sigma)


def _train(
    stage: str,
    make_model: Callable[[], nn.Module],
    *,
    total: int,
    size: int,
    image: bool,
    still_share: float,
    family_shares: tuple[float, float, float],
    lr: float,
) -> dict[str, float]:
    torch.manual_seed(0)
    model = make_model()
    data, scenes = load("train", 8000, seed=1, available=True)
    futures = load_futures(data, scenes) if image else None
    wear = Wear(model, load_drift(data, scenes)) if image else None
    modules: dict[str, nn.Module] = {"dit": model}
    optimizers = muon.optimizers(model, lr=lr, adam_lr=1e-3, exclude=ADAM_PARTS)
    head = MotionHead(model, HIDDEN) if image else None
    if head is not None:
        modules["motion"] = head
        optimizers.append(torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=0.0))
    run = Run(stage, total, modules, optimizers, ema_decay=0.997)
    log = Log(stage, 50)
    model.train()
    place = this_process()
    pool = None
    for step in run.steps():
        if image and step >= HANDED_FROM and (pool is None or step % PLAYED_EVERY == 0):
            pool = pool or HandOverPool(data, scenes, number=place.rank)
            pool.refresh(diffusers_to_host(run.ema["dit"].shadow), step)
        draws = torch.rand(2, generator=torch.Generator().manual_seed(step))
        still, seen = bool(draws[0] < still_share), bool(draws[1] > DROP_IMAGE_STATES)
        source = WorldSource(data, image=image, family_shares=family_shares, image_states=seen)
        share = (size * 2 if still else size) // place.size
        generator = torch.Generator().manual_seed((step + 1) * 1000 + place.rank)
        drawn = Noised.draw(
            source,
            share,
            generator,
            still=still,
            futures=futures,
            wear=wear,
            handed=pool.given if pool else None,
        )
        losses = {"still" if still else "clip": drawn.loss(model)}
        if head is not None:
            losses["motion"] = head.loss(drawn.motions)
        run.update(sum(losses.values()))
        log(step, n_still=float(still), **{name: loss.detach() for name, loss in losses.items()})
        if (step + 1) % REPORT_EVERY == 0 and place.is_first:
            report(stage, run.ema["dit"].shadow, image=image)
    return report(stage, run.ema["dit"].shadow, image=image) if place.is_first else {}


def report(stage: str, weights: dict[str, Tensor], *, image: bool) -> dict[str, float]:
    """Write the averaged weights in the host's names and score them on held-out scenes."""
    host = {k: v.to(torch.bfloat16).contiguous() for k, v in diffusers_to_host(weights).items()}
    save_file(host, stage_dir(stage) / "dit.safetensors")
    data, scenes = load("test", 200, seed=7)
    player, figures = Player(host), {}
    for family in (NAMED, OPEN) if image else (NAMED,):
        batch = HeldOutSource(data, image=image, family=family).batch(torch.arange(len(data.latents)))
        if not image:
            batch = replace(batch, latents=batch.latents[:, :, :1])
        scores = score(player.sample(batch, Sampling(REPORT_STEPS)), data, scenes, family=family)
        figures |= {f"{k}_{FAMILIES[family]}_{REPORT_STEPS}": v for k, v in scores.items()}
    print(stage, figures, flush=True)
    return figures


def _trained_t2v() -> dict[str, Tensor]:
    return load_file(stage_dir("t2v") / "dit.safetensors")


STAGES = {
    "t2v": partial(
        _train,
        "t2v",
        new_t2v,
        total=3800,
        size=32,
        image=False,
        still_share=0.9,
        family_shares=(0.75, 0.0, 0.25),
        lr=5e-3,
    ),
    "ti2v": partial(
        _train,
        "ti2v",
        lambda: from_host(expand_input_channels(_trained_t2v())),
        total=14000,
        size=32,
        image=True,
        still_share=0.0,
        family_shares=(0.2, 0.8, 0.0),
        lr=4e-3,
    ),
    "t2v_clips": partial(
        _train,
        "t2v_clips",
        lambda: from_host(_trained_t2v()),
        total=5000,
        size=24,
        image=False,
        still_share=0.1,
        family_shares=(0.4, 0.4, 0.2),
        lr=3e-3,
    ),
}


@torch.no_grad()
def score(latents: Tensor, data: Dataset, scenes: world.Scenes, *, family: int) -> dict[str, float]:
    """Decode and score; a single latent frame is scored as a picture, more as a clip."""
    frames = Encoders.load_vae().decode(latents)
    truth = world.render_clip(scenes, frames.shape[1])
    if frames.shape[1] == 1:
        reading = world.read_clip(frames)
        right = {
            "colour": reading.colour[:, 0] == scenes.colour,
            "shape": reading.shape[:, 0] == scenes.shape,
            "place": reading.place == scenes.place,
        }
        right["all"] = right["colour"] & right["shape"] & right["place"]
        return {k: round(v.float().mean().item(), 3) for k, v in right.items()}
    scores = world.score_clips(frames, scenes, data.allowed[:, family])
    keys = ("motion_right", "clean", "last_shape_right", "last_colour_right")
    figures = {k: round(scores[k].float().mean().item(), 3) for k in keys}
    return figures | {"first_frame_psnr": round(psnr_db(frames[:, :1], truth[:, :1]).mean().item(), 2)}

"""Make one window of a long video with a MODEL of the HunyuanVideo layout: hand over, condition, sample, decode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...sampler import few_step_sigmas
from ...sizes import FRAMES_PER_LATENT, num_frames_of
from ...store.cancel import until_canceled
from ...window.entries import RunDirectoryBroken
from ...window.plan import Window, attempt_seed
from ...window.run import Clip
from ...window.settings import FIRST_PICTURE, WindowSettings
from ...window.tail import Tail, from_uint8
from ..encoders.conditioning import ClipRequest, image_to_video_conditioning
from ..encoders.socket import Magic141Encoders
from ..sampling import Sampling, sample_clip
from ..vae import decode_continuation, decode_frames, encode_frames, is_taehv, kept_latent_frames

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

PROMPTS_AHEAD = 64
"""How many different prompts are encoded before the first window; each takes 4 MB at 256 tokens."""
RESULTS_OF_A_WINDOW = 3
"""Negative prompt, picture, and the picture of the window before."""

Conditions = tuple[list, list, dict]
"""Positive and negative CONDITIONING, and the empty LATENT."""


class HandOver(StrEnum):
    """How the next window gets the end of the last one.

    LATENT: its last k latent frames as they are. PIXEL: its last frames, encoded again as a clip of their own.
    AUTO: LATENT for TAEHV, whose decoder continues a stream exactly. PIXEL for the HunyuanVideo VAE: its decoder does
    not, and its models were trained on clips whose first latent frame is one picture encoded alone, so both need a clip
    of its own.
    """

    AUTO = "auto"
    LATENT = "latent"
    PIXEL = "pixel"


@dataclass(frozen=True)
class Models:
    """What is connected to model, encoders and vae."""

    model: "ModelPatcher"
    encoders: Magic141Encoders
    vae: "VAE"


def resolve_hand_over(vae, hand_over: str) -> HandOver:
    """Choose the hand-over for a VAE where the user left it open."""
    if HandOver(hand_over) != HandOver.AUTO:
        return HandOver(hand_over)
    return HandOver.LATENT if is_taehv(vae) else HandOver.PIXEL


class WindowMaker:
    """Makes the windows of a run.

    Args:
        models: what is connected to the sockets.
        settings: with the clip's real size and the hand-over resolved.
        start_image: (1, H, W, 3), the first frame of a video made from an image.
        end_images: (1, H, W, 3), by window, the last frames of those that end on a picture.
        callback: for ``sample_clip``, called after each step.
    """

    def __init__(
        self,
        models: Models,
        settings: WindowSettings,
        start_image: Tensor,
        *,
        end_images: Mapping[int, Tensor] | None = None,
        callback: Callable | None = None,
    ) -> None:
        self.models, self.settings, self.callback = models, settings, callback
        self.start_image, self.end_images = start_image, end_images or {}

    def make(self, window: Window, tail: Tail | None, *, attempt: int = 0) -> Clip:
        """Make one window.

        Args:
            tail: the end of what came before; None for the first window of a video made from an image.
            attempt: above 0, another seed is derived.
        """
        vae = self.models.vae
        num_known, num_new = window.num_known_latent_frames, window.num_new_latent_frames
        seed = attempt_seed(self.settings.seed, window.index, first=window.seed, attempt=attempt)
        end_image = self.end_images.get(window.index)
        known = None if tail is None else hand_over_latent(vae, tail, num_known, self.settings.hand_over)
        conditions = self.condition(window, tail, known, end_image)
        sampled = sample_window(self.models.model, self.settings, conditions, seed, self.callback)
        if tail is None or known is None:
            first = conditions[0][0][1]["concat_latent_image"][:, :, :1].to(sampled)
            new = torch.cat([first, sampled[:, :, 1:num_new]], dim=2)
        else:
            new = sampled[:, :, num_known : num_known + num_new]
        frames = decode_window(vae, new, tail, known, self.settings.hand_over)
        return Clip(frames, seed, advance_latents(vae, tail, new, self.settings.overlap))

    def condition(
        self, window: Window, tail: Tail | None, known: Tensor | None, end_image: Tensor | None
    ) -> Conditions:
        """Return the prompt, the frame the window starts from, and the known frames as conditions."""
        num_latent = window.num_latent_frames
        if end_image is not None:  # it stands at the end of what is kept
            num_latent = window.num_new_latent_frames + (
                0 if tail is None else window.num_known_latent_frames
            )
        request = ClipRequest(
            self.settings.width,
            self.settings.height,
            num_frames_of(num_latent),
            window.prompt,
            self.settings.negative_prompt,
            images=self.start_image if tail is None else None,
            end_image=end_image,
            known_latent=known,
            guidance=self.settings.guidance,
            vlm_images=self.seen_picture(tail),
        )
        return image_to_video_conditioning(self.models.encoders, self.models.vae, request)

    def seen_picture(self, tail: Tail | None) -> Tensor:
        """Return the picture that the vision encoder sees, (1, H, W, 3)."""
        if tail is None or self.settings.encoder_looks_at == FIRST_PICTURE:
            return self.start_image
        return from_uint8(tail.frames[-1:])

    def encode_ahead(self, windows: Sequence[Window], tail: Tail | None) -> None:
        """Encode what is already known of windows before the first is made, while the encoders are loaded.

        That is all prompts, and the picture that the next window sees. Each later window loads the encoders again for
        its own picture, or not at all if all windows look at the first picture.
        """
        prompts = list(dict.fromkeys(window.prompt for window in windows))[:PROMPTS_AHEAD]
        encoders = self.models.encoders
        encoders.keep_results(len(prompts) + RESULTS_OF_A_WINDOW)
        picture = self.seen_picture(tail)
        for prompt in until_canceled(prompts):
            encoders.encode(prompt, self.settings.negative_prompt, picture)


def hand_over_latent(vae, tail: Tail, num_known: int, hand_over: str) -> Tensor:
    """Return the known latent frames of the next window, (1, 16, k, h, w)."""
    if resolve_hand_over(vae, hand_over) == HandOver.LATENT:
        return latent_of(tail)[:, :, -num_known:]
    return encode_frames(vae, from_uint8(tail.frames[-num_frames_of(num_known) :]))


def sample_window(
    model, settings: WindowSettings, conditions: Conditions, seed: int, callback: Callable | None
) -> Tensor:
    """Sample a window with the run's schedule."""
    positive, negative, latent = conditions
    sigmas = few_step_sigmas(settings.steps, settings.shift)
    sampling = Sampling(sigmas, seed, settings.sampler, settings.cfg)
    return sample_clip(model, positive, negative, latent, sampling, callback=callback)


def decode_window(vae, new: Tensor, tail: Tail | None, known: Tensor | None, hand_over: str) -> Tensor:
    """Return the frames of a window's new latent frames.

    After a pixel hand-over they are a clip of their own and decoded as one; otherwise they continue the stream.
    """
    if tail is None or known is None:
        return decode_frames(vae, new)
    if resolve_hand_over(vae, hand_over) == HandOver.PIXEL:
        frames = decode_frames(vae, torch.cat([known.to(new), new], dim=2))
        return frames[-FRAMES_PER_LATENT * new.shape[2] :]
    return decode_continuation(vae, latent_of(tail), new, num_before=int(tail.state["num_before"]))


def latent_of(tail: Tail) -> Tensor:
    """Return the last latent frames, (1, 16, n, h, w).

    Raises:
        RunDirectoryBroken: the run folder was changed and holds none.
    """
    if not {"latent", "num_before"} <= tail.state.keys():
        raise RunDirectoryBroken(
            "The run folder's tensors are not those of a window: they hold no latent. Delete the folder or give "
            "this run another name."
        )
    return tail.state["latent"]


def advance_latents(vae, tail: Tail | None, new: Tensor, overlap: int) -> dict[str, Tensor]:
    """Return the state after a window: the latent frames that later windows may need, and the count of all so far."""
    if tail is None:
        return latent_state(vae, new, overlap, num_before=new.shape[2])
    latent = torch.cat([latent_of(tail).to(new), new], dim=2)
    return latent_state(vae, latent, overlap, num_before=int(tail.state["num_before"]) + new.shape[2])


def latent_state(vae, latent: Tensor, overlap: int, *, num_before: int) -> dict[str, Tensor]:
    """Return the state after a latent (1, 16, n, h, w); num_before: latent frames since the stream began."""
    kept = latent[:, :, -max(overlap, kept_latent_frames(vae)) :].clone()
    return {"latent": kept, "num_before": torch.tensor(num_before)}

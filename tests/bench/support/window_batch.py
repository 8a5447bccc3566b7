"""Many long clips at once, for measurements on the shapes world: the window loop with a batch where it has one clip.

Plan, seeds, sampling, anchors and conditions are the pack's own functions. Only the VLM, the VAE (at the width it was
trained at) and the hand-over are written again for a batch; a test holds the frames to the node's own.
"""

from collections.abc import Callable, Iterator

import torch
from magic141.lab import world
from magic141.lab.models.taehv import Taehv
from magic141.model_patches.bridge.encoders.conditioning import empty_latent
from magic141.model_patches.bridge.window.make import HandOver, Models, sample_window
from magic141.model_patches.dit.channels import known_frames_condition
from magic141.model_patches.encoders.context import join_context
from magic141.model_patches.encoders.templates import IMAGE_TOKEN, USER_HEADER, vlm_text
from magic141.model_patches.encoders.vlm import token_masks
from magic141.model_patches.window.measure import measure_window
from magic141.model_patches.window.palette import hold_palette
from magic141.model_patches.window.plan import (
    Window,
    new_latent_frames_for,
    num_frames_of,
    plan_windows,
    window_seed,
    window_sizes,
)
from magic141.model_patches.window.prompts import parse_prompts
from magic141.model_patches.window.run import (
    MAX_REROLLS,
    SEAM_FRAMES,
    Limits,
    Reference,
    from_uint8,
    make_reference,
    times_over_limits,
    to_uint8,
)
from magic141.model_patches.window.settings import FIRST_PICTURE, WindowSettings
from PIL import Image
from torch import Tensor

from ...support.measured import motion_of
from ...support.narrow_vae import StreamingDecoder

LATENT_SCALE = 0.476986
CLIPS_AT_ONCE = 4
"""In the VAE: few enough that activations stay in the processor's cache."""


class ClipBatch:
    """A batch of long clips in the making.

    Args:
        models: the embedded MODEL, encoders and VAE.
        network: the VAE's narrow network (of ``narrow_network``).
        settings: ``hand_over`` must not be AUTO.
        starts: (B, H, W, 3) in [0, 1], the first frames.
        captions: one a clip.
    """

    def __init__(
        self, models: Models, network: Taehv, settings: WindowSettings, starts: Tensor, captions: list[str]
    ) -> None:
        assert settings.hand_over != HandOver.AUTO
        self.models, self.network, self.settings, self.starts = models, network, settings, starts
        self.backend = models.encoders.backend
        self.prompts = [self.backend.prompt_states(caption) for caption in captions]
        self.negative = self.backend.prompt_states(settings.negative_prompt)
        pieces = -(-len(starts) // CLIPS_AT_ONCE)
        self.decoders = [StreamingDecoder(network, LATENT_SCALE) for _ in range(pieces)]
        self.latents: Tensor | None = None
        self.frames = to_uint8(starts[:, None])
        self.references: list[Reference] = []
        self.held: list[tuple[float, float]] = []
        self.seed = self.attempts = 0

    def windows(self, *, seconds: float, seed: int = 0) -> Iterator[tuple[Window, Tensor]]:
        """Make all windows; yield each with its new frames (B, n, H, W, 3) as bytes."""
        self.seed = seed
        shape = {
            "window_latent": self.settings.window_latent,
            "overlap_latent": self.settings.overlap,
            "continues": False,
        }
        sizes = window_sizes(new_latent_frames_for(seconds, fps=world.FPS, continues=False), **shape)
        for window in plan_windows(sizes, **shape, prompts=parse_prompts(""), fps=world.FPS, seed=seed):
            yield window, self._make(window)

    def _make(self, window: Window) -> Tensor:
        if self.latents is None:
            known = self.encode(self.starts[:, None])
            sampled = self._sample(known, window.seed, self._everyone)
            new = torch.cat([known, sampled[:, :, 1 : window.num_new_latent_frames]], dim=2)
            frames = self._decode(new, None)
            self.references = [make_reference(seen) for seen in frames]
            self.held = [motion_of(seen) for seen in frames]
        else:
            new, frames = self._go_on(window)
        self.attempts += len(new)
        return self._advance(new, to_uint8(frames))

    def _go_on(self, window: Window) -> tuple[Tensor, Tensor]:
        """Make a window of every clip behind what there is; again with other seeds of those that have turned."""
        known = self.hand_over(window.num_known_latent_frames)
        before = [dict(decoder.memory) for decoder in self.decoders]
        new = self._new(known, window, window.seed, self._everyone)
        frames = self._shown(new, known)
        over = self._times_over(frames)
        for attempt in range(1, 1 + MAX_REROLLS):
            again = [clip for clip in self._everyone if over[clip] > 1]
            if not again:
                break
            self.attempts += len(again)
            tried = new.clone()
            tried[again] = self._new(known, window, window_seed(self.seed, window.index, attempt), again)
            self._remember(before)
            times = self._times_over(self._shown(tried, known))
            better = [clip for clip in again if times[clip] < over[clip]]
            new[better] = tried[better]
            over = [min(pair) for pair in zip(over, times, strict=True)]
            self._remember(before)
            frames = self._shown(new, known)
        return new, frames

    @property
    def _everyone(self) -> list[int]:
        return list(range(len(self.starts)))

    def _new(self, known: Tensor, window: Window, seed: int, clips: list[int]) -> Tensor:
        """Return the new latent frames of these clips."""
        start, count = window.num_known_latent_frames, window.num_new_latent_frames
        return self._sample(known, seed, clips)[:, :, start : start + count]

    def _shown(self, new: Tensor, known: Tensor) -> Tensor:
        """Return the new frames as a viewer sees them."""
        frames = self._decode(new, known)
        return self._each(frames, self._colored) if self.settings.color_anchor else frames

    def _times_over(self, frames: Tensor) -> list[float]:
        """Return how far every clip's window exceeds the limits, as the node judges it."""
        if not (self.settings.turn_limit or self.settings.reroll_threshold):
            return [0.0] * len(frames)
        return [
            times_over_limits(
                measure_window(
                    seen, reference_lab=reference.lab, before=from_uint8(before), wanted_motion=held
                ),
                Limits(0.0, self.settings.reroll_threshold, self.settings.turn_limit),
            )
            for seen, reference, before, held in zip(
                frames, self.references, self.frames, self.held, strict=True
            )
        ]

    def _remember(self, memories: list[dict[int, Tensor]]) -> None:
        for decoder, memory in zip(self.decoders, memories, strict=True):
            decoder.memory = dict(memory)

    def _each(self, clips: Tensor, change: Callable[[Tensor, Reference], Tensor]) -> Tensor:
        return torch.stack([change(c, r) for c, r in zip(clips, self.references, strict=True)])

    def _colored(self, frames: Tensor, reference: Reference) -> Tensor:
        return hold_palette(frames, reference.palette, self.settings.color_anchor)

    def _advance(self, new: Tensor, frames: Tensor) -> Tensor:
        overlap = self.settings.overlap
        before = new[:, :, :0] if self.latents is None else self.latents
        self.latents = torch.cat([before, new], dim=2)[:, :, -overlap:]
        shown = frames if before.shape[2] == 0 else torch.cat([self.frames, frames], dim=1)
        self.frames = shown[:, -max(num_frames_of(overlap), SEAM_FRAMES) :]
        return frames

    def hand_over(self, num_known: int) -> Tensor:
        """Return the known latent frames of the next window, (B, 16, k, h, w)."""
        assert self.latents is not None
        tail = from_uint8(self.frames[:, -num_frames_of(num_known) :])
        if self.settings.hand_over == HandOver.LATENT:
            return self.latents[:, :, -num_known:]
        return self.encode(tail)

    def encode(self, frames: Tensor) -> Tensor:
        """Encode (B, 4n + 1, H, W, 3) to the host's LATENT, (B, 16, n + 1, h, w)."""
        parts = frames.movedim(-1, 2).split(CLIPS_AT_ONCE)
        return torch.cat([self.network.encode(part) for part in parts]) / LATENT_SCALE

    def _decode(self, new: Tensor, known: Tensor | None) -> Tensor:
        """Return the new latent frames' frames; pixel hand-over decodes every window as a clip of its own."""
        alone = known is not None and self.settings.hand_over == HandOver.PIXEL
        latent = torch.cat([known, new], dim=2) if known is not None and alone else new
        pieces = []
        for decoder, part in zip(self.decoders, latent.split(CLIPS_AT_ONCE), strict=True):
            if alone:
                decoder.forget()
            pieces.append(decoder.decode(part))
        frames = torch.cat(pieces)
        return frames[:, -4 * new.shape[2] :] if known is not None else frames

    def _sample(self, known: Tensor, seed: int, clips: list[int]) -> Tensor:
        """Sample one window of these clips; those whose contexts are equally long go through the model together."""
        images = image_states(self.backend, self._pictures()[clips])
        prompts = [self.prompts[clip] for clip in clips]
        contexts = [join_context(i[None], p) for i, (p, _) in zip(images, prompts, strict=True)]
        known = known[clips]
        groups: dict[int, list[int]] = {}
        for index, context in enumerate(contexts):
            groups.setdefault(context.shape[1], []).append(index)
        sampled = torch.empty(len(clips), *self._empty().shape[1:])
        for number, members in enumerate(groups.values()):
            latent, mask = known_frames_condition(known[members], self.settings.window_latent)
            frames = {"concat_latent_image": latent, "concat_mask": mask}
            pooled = torch.cat([prompts[i][1] for i in members])
            positive = [[torch.cat([contexts[i] for i in members]), frames | {"pooled_output": pooled}]]
            empty = {"samples": self._empty().repeat(len(members), 1, 1, 1, 1)}
            conditions = positive, self._negative(images[members], frames), empty
            sampled[members] = sample_window(
                self.models.model, self.settings, conditions, seed + number, None
            )
        return sampled

    def _negative(self, images: Tensor, frames: dict[str, Tensor]) -> list:
        """Return the conditioning of the negative prompt behind the same pictures."""
        states, pooled = self.negative
        context = join_context(images, states.expand(len(images), -1, -1))
        return [[context, frames | {"pooled_output": pooled.expand(len(images), -1)}]]

    def _empty(self) -> Tensor:
        settings = self.settings
        return empty_latent(settings.width, settings.height, num_frames_of(settings.window_latent))

    def _pictures(self) -> Tensor:
        """Return what the VLM sees, (B, 1, H, W, 3) as bytes: the start of each window, or the first of all."""
        if self.settings.encoder_looks_at == FIRST_PICTURE:
            return to_uint8(self.starts[:, None])
        return self.frames[:, -1:]


def image_states(backend, pictures: Tensor) -> Tensor:
    """Return the VLM's states of many clips' pictures, (B, L, D); pictures: (B, n, H, W, 3) as bytes."""
    vlm, tokenizer = backend.vlm, backend.tokenizer
    images = [Image.fromarray(picture.numpy()) for picture in pictures.flatten(0, 1)]
    pixels = backend.image_processor(images=images, return_tensors="pt")["pixel_values"]
    features = vlm.image_features(pixels)
    token_ids = tokenizer(vlm_text(pictures.shape[1])).input_ids
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    is_image, is_kept = token_masks(
        token_ids,
        tokenizer(USER_HEADER, add_special_tokens=False).input_ids,
        image_token_id=image_token,
        tokens_per_image=features.shape[1],
    )
    text = vlm.language_model.get_input_embeddings()(torch.tensor([i for i in token_ids if i != image_token]))
    embeds = text.new_empty(len(pictures), len(is_image), text.shape[-1])
    embeds[:, ~is_image] = text
    embeds[:, is_image] = features.unflatten(0, pictures.shape[:2]).flatten(1, 2).to(text.dtype)
    states = vlm.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return states[:, is_kept].float()

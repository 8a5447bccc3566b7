"""Encode videos and captions to the shards of a training set, with the host's VAE and our encoders."""

from pathlib import Path

import comfy.latent_formats
import torch
from comfy.sd import VAE
from torch import Tensor

from ...encoders.context import check_finite
from ...sizes import resize_cover_crop
from ...store.cancel import stop_if_canceled, until_canceled
from ...training.dataset import SetSettings
from ...training.shards import ShardFacts, ShardStore, frames_seen
from ...training.videos import VideoUnusable, read_windows
from ...window.entries import digest
from ..encoders.socket import Magic141Encoders, as_uint8
from ..vae import encode_frames

METHOD_VERSION, VIEWS_VERSION = 1, 2
"""Raise the first when a video gives other tensors, the second when the VLM sees other frames: shards are remade."""


class SetEncoder:
    """Makes the shards that are missing, and counts the videos it encoded."""

    def __init__(
        self, shards: ShardStore, settings: SetSettings, encoders: Magic141Encoders, vae: VAE
    ) -> None:
        self.shards = shards
        self.settings, self.encoders, self.vae = settings, encoders, vae
        self.num_videos = 0

    def video(self, path: Path, sha256: str) -> tuple[str, ShardFacts]:
        """Return a video's key and facts, encoding it if its shard is not there.

        Args:
            sha256: of the file, as it is now.

        Raises:
            VideoUnusable: it cannot be read or encoded.
        """
        key = self._video_key(sha256)
        facts = self.shards.video_facts(key)
        if facts is None:
            facts = self._encode_video(path, key)
            self.num_videos += 1
        return key, facts

    def caption(self, caption: str) -> str:
        """Return the key of a caption's shard, encoding it if it is not there."""
        key = digest([METHOD_VERSION, caption, self.settings.encoders])[:32]
        if not self.shards.holds_caption(key):
            stop_if_canceled()
            states, pooled = self.encoders.backend.prompt_states(caption)
            check_finite(states, "LLM")
            self.shards.save_caption(key, states[0], check_finite(pooled, "CLIP text encoder")[0])
        return key

    def _video_key(self, sha256: str) -> str:
        s = self.settings
        made_of = [METHOD_VERSION, sha256, s.width, s.height, s.num_frames, s.fps, s.max_windows, s.vae]
        return digest([*made_of, f"{VIEWS_VERSION} {s.encoders}" if s.with_image_states else ""])[:32]

    def _encode_video(self, path: Path, key: str) -> ShardFacts:
        latents: list[Tensor] = []
        states: list[Tensor] = []
        size = (0, 0)
        for window in read_windows(path, self.settings):
            size = (window.shape[2], window.shape[1])
            latents.append(self._latent(window))
            if self.settings.with_image_states:  # the VLM sees frames whole, the VAE cropped ones
                states.append(self._image_states(window))
        tensors = {"latents": torch.stack(latents)} | (
            {"image_states": torch.stack(states)} if states else {}
        )
        facts = ShardFacts(len(latents), *size)
        self.shards.save_video(key, tensors, facts)
        return facts

    def _image_states(self, window: Tensor) -> Tensor:
        """Return the VLM's states of a window (V, S, D), a frame at a time as when sampling."""
        frames = [window[number : number + 1] for number in frames_seen(len(window))]
        states = [self.encoders.backend.image_states(as_uint8(frame)) for frame in until_canceled(frames)]
        return torch.cat([check_finite(state, "VLM").cpu() for state in states])

    def _latent(self, window: Tensor) -> Tensor:
        """Return a window's latent (16, T, h, w), scaled as the model wants it."""
        frames = resize_cover_crop(window, self.settings.width, self.settings.height)
        latent = comfy.latent_formats.HunyuanVideo().process_in(encode_frames(self.vae, frames))
        if not torch.isfinite(latent).all():
            raise VideoUnusable(
                "the VAE gave values that are not finite; is it the right VAE, in bf16 or fp32?"
            )
        return latent[0].cpu()

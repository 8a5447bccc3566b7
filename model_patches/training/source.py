"""Batches from a training set on disk, for training on a folder of videos."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..sizes import num_latent_frames
from .batch import TrainingBatch
from .dataset import SetVideo, TrainingSet
from .shards import MOST_KNOWN

KNOWN_SHARES = (0.0, 0.6, 0.2, 0.2)
"""How often 0, 1, 2 ... leading latent frames are known: mostly one, sometimes more, to learn to continue clips."""
TEXT_TO_VIDEO = (1.0,)


class VideoFolderSource:
    """A ``ClipSource`` over a complete training set; every read opens the shards it needs and keeps none.

    Args:
        training_set: what Build Training Set made.
        known_shares: how often 0, 1, 2 ... leading latent frames are known; scaled to sum to 1.
        with_image_states: put the VLM's states before the prompt's, where the set has them.

    Raises:
        ValueError: the set is empty or its build was interrupted, or no window has as many frames as may be known.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        *,
        known_shares: Sequence[float] = KNOWN_SHARES,
        with_image_states: bool = True,
    ) -> None:
        self.set = training_set
        self.known_shares = torch.tensor(known_shares, dtype=torch.float32)
        self.with_image_states = with_image_states and training_set.settings.with_image_states
        name = training_set.directory.name
        if not training_set.complete:
            raise ValueError(
                f"The training set '{name}' is not complete: building it was interrupted. Run Build Training Set "
                "again; it goes on where it stopped."
            )
        if not len(training_set):
            raise ValueError(f"The training set '{name}' is empty. Run Build Training Set again.")
        num_latents = num_latent_frames(training_set.settings.num_frames)
        if num_latents == 1 and self.known_shares[1:].sum() > 0:
            raise ValueError(
                f"The windows of '{name}' are single frames. An image-to-video model is given the first frame, so "
                "nothing is left to learn. Build the set with num_frames 5 or more."
            )
        self.known_shares = self.known_shares[:num_latents]
        if self.with_image_states and self.known_shares[MOST_KNOWN + 1 :].sum() > 0:
            raise ValueError(
                f"known_shares is {list(known_shares)}; the VLM has seen windows of up to {MOST_KNOWN} known latent "
                "frames. Give no more shares than for these, or with_image_states False."
            )
        null = training_set.load_caption(training_set.null_key)
        self._null_states, self._null_pooled = null["states"].float(), null["pooled"].float()

    def __len__(self) -> int:
        return len(self.set)

    def content(self) -> str:
        """Return a digest of all that can be learned from it; see ``KnownContent``."""
        return "/".join([self.set.content(), str(self.known_shares.tolist()), str(self.with_image_states)])

    def notes(self) -> list[str]:
        """Return sentences on what a person should know of the set."""
        if self.set.version > 1:
            return []
        name = f"The training set '{self.set.directory.name}' was built by an older version"
        notes = [f"{name} and has no checksums, so that damage to it goes unnoticed."]
        if self.with_image_states:
            notes.append(
                f"{name}: for windows that continue a video, the VLM was shown the first frame; in use it is shown "
                "the last known one."
            )
        return [
            *notes,
            "Run Build Training Set with 'replace' on to renew it; a changed set is trained on anew.",
        ]

    def batch(self, rows: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Return the windows ``rows`` (B,), each with one of its captions and some known frames; see ``ClipSource``."""
        windows = [self.set.windows[row] for row in rows.tolist()]
        captions = [self._caption(video, generator) for video, _ in windows]
        num_known = torch.multinomial(self.known_shares, len(windows), replacement=True, generator=generator)
        clips = [
            self._clip(video, number, known)
            for (video, number), known in zip(windows, num_known.tolist(), strict=True)
        ]
        views = [view for _, view in clips]
        states, mask = _padded([_join(v, c["states"].float()) for v, c in zip(views, captions, strict=True)])
        null_states, null_mask = _padded([_join(view, self._null_states) for view in views])
        return TrainingBatch(
            latents=torch.stack([latents for latents, _ in clips]),
            num_known=num_known,
            states=states,
            mask=mask,
            pooled=torch.stack([caption["pooled"].float() for caption in captions]),
            null_states=null_states,
            null_mask=null_mask,
            null_pooled=self._null_pooled.expand(len(windows), -1),
        )

    def _clip(self, video: SetVideo, number: int, num_known: int) -> tuple[Tensor, Tensor | None]:
        """Return a window's latent, and what the VLM sees: its last known frame, or its first where none is known."""
        tensors = self.set.load_video(video)
        latents = tensors["latents"][number].float()
        if not self.with_image_states:
            return latents, None
        views = tensors["image_states"][number].float()
        if views.ndim == 2:  # a set of version 1: of the first frame alone
            return latents, views
        return latents, views[max(num_known, 1) - 1]

    def _caption(self, video: SetVideo, generator: torch.Generator) -> dict[str, Tensor]:
        choice = int(torch.randint(len(video.caption_keys), (1,), generator=generator))
        return self.set.load_caption(video.caption_keys[choice])


def _join(image_states: Tensor | None, states: Tensor) -> Tensor:
    return states if image_states is None else torch.cat([image_states, states])


def _padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return rows (L_i, D) as (B, L, D) padded with zeros, and their mask (B, L) bool."""
    lengths = torch.tensor([len(row) for row in rows])
    states = pad_sequence(rows, batch_first=True)
    return states, torch.arange(states.shape[1]) < lengths[:, None]

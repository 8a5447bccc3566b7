"""What a training reads: batches of clips with their conditions, and where batches come from."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class TrainingBatch:
    """B clips with their conditions; L tokens a prompt, padded.

    latents: (B, C, T, H, W) clean, scaled as the model wants them. num_known: (B,) known leading latent frames,
    0 for text to video. states (B, L, D), mask (B, L) bool and pooled (B, P) are the prompt's; the null fields
    are the empty prompt's, with lengths of their own.

    A source may give a subclass with more tensors or None in it, for a loss of its own.
    """

    latents: Tensor
    num_known: Tensor
    states: Tensor
    mask: Tensor
    pooled: Tensor
    null_states: Tensor
    null_mask: Tensor
    null_pooled: Tensor

    def __len__(self) -> int:
        return self.latents.shape[0]

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device, with floating tensors as float32."""
        return self._each(lambda tensor: _moved(tensor, device))

    def __getitem__(self, index: Tensor) -> Self:
        """Return the clips that a mask or an index tensor selects."""
        return self._each(lambda tensor: tensor[index])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {k: None if v is None else change(v) for k, v in values.items()}
        return type(self)(**changed)


def _moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.to(device, dtype, copy=tensor.is_inference())  # backward refuses inference tensors


class ClipSource(Protocol):
    """A data set: anything that knows its length and makes a batch of given rows."""

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Return the clips ``rows`` (B,); whatever is drawn at random comes from ``generator`` alone."""
        ...


@runtime_checkable
class KnownContent(Protocol):
    """A data set that can tell whether its content has changed, so that a run on other content is not resumed."""

    def content(self) -> str:
        """Return a digest of all that can be learned from it."""
        ...

"""The end of a window, which the next window continues, and how it is kept on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

STATE = "tail.state."
"""Prefix of the names under which the journal keeps the tensors of a tail's state."""


@dataclass(frozen=True)
class Tail:
    """The end of the video so far: its last frames (m, H, W, 3) uint8, and what else the next window is made from."""

    frames: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)


def start_frames(tail: Tail, num_known: int) -> Tensor:
    """Return the frames that the next window knows, (k, H, W, 3) uint8, including those held back for it."""
    held_back = tail.state.get("held_back", tail.frames[:0])
    return torch.cat([tail.frames, held_back])[-num_known:]


def tail_tensors(tail: Tail) -> dict[str, Tensor]:
    """Write a tail as the journal's tensors."""
    return {"tail.frames": tail.frames, **{STATE + name: value for name, value in tail.state.items()}}


def read_tail(tensors: Mapping[str, Tensor]) -> Tail:
    """Return the tail that ``tail_tensors`` wrote."""
    state = {name.removeprefix(STATE): value for name, value in tensors.items() if name.startswith(STATE)}
    return Tail(tensors["tail.frames"], state)


def from_uint8(frames: Tensor) -> Tensor:
    """Return frames in [0, 1]."""
    return frames.float() / 255

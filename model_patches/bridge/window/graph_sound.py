"""Join the sound that the windows of a graph came with."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from ...store.cancel import until_canceled
from ...store.sound_pieces import fit_length, read_sound, samples_at, write_wav
from ...window.clips import GraphWindow
from ...window.store import WindowStore
from ...window.tail import STATE, read_tail
from .start import Material


def joined_sound(
    store: WindowStore, windows: list[GraphWindow], material: Material, *, fps: float
) -> Path | None:
    """Write the sound of the continued video and of all windows to a file; None if the windows have no sound.

    Raises:
        ValueError: windows of different sample rates.
    """
    if not any(store.journal.holds(entry.index, f"{STATE}sound") for entry in store.entries):
        return None
    rates = {int(state["sound_rate"]) for state in states(store) if "sound_rate" in state}
    if len(rates) > 1:
        raise ValueError(f"The windows' sound has different rates ({sorted(rates)}). Make all windows anew.")
    (rate,) = rates
    channels = max(state["sound"].shape[0] for state in states(store) if "sound" in state)
    path = store.folder / "sound.part.wav"  # removed by the next run if this one is killed
    pieces = window_pieces(store, windows, rate=rate, channels=channels, fps=fps)
    if material.lead_in is not None:
        before = read_sound(material.lead_in, rate=rate, channels=channels)
        pieces = chain([fit_length(before, samples_at(material.lead_in_frames, fps, rate))], pieces)
    write_wav(path, pieces, rate=rate, channels=channels)
    return path


def window_pieces(
    store: WindowStore, windows: list[GraphWindow], *, rate: int, channels: int, fps: float
) -> Iterator[Tensor]:
    """Yield the sound of every window, silence for one without."""
    for window, state in zip(windows, states(store), strict=True):
        end = samples_at(window.start_frame + window.num_new_frames, fps, rate)
        silence = torch.zeros(channels, end - samples_at(window.start_frame, fps, rate), dtype=torch.int16)
        yield state.get("sound", silence)


def states(store: WindowStore) -> Iterator[dict[str, Tensor]]:
    """Yield what is kept of every finished window besides its frames, one window at a time."""
    for entry in until_canceled(store.entries):
        yield read_tail(store.journal.tensors(entry.index)).state

"""Judge a clip: stream its frames once past all measures."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ...judge.catalog import LACKS, MEASURES, NEEDS_TWO_FRAMES, PROMPT, START
from ...judge.plain import PlainMeasures, psnr, ssim
from ...judge.report import Judgment
from ...sizes import check_pictures, resize_cover_crop
from ...store.cancel import Progress, until_canceled
from .clips import Clip
from .models import Models, Wanted, Watchers

MOST_AT_ONCE, PIXELS_AT_ONCE = 8, 8_000_000
"""Frames, and pixels of them, that are in memory together."""


def judge_clip(clip: Clip, wanted: Wanted, models: Models, *, progress: Progress) -> Judgment:
    """Measure a clip in one pass.

    Args:
        progress: called with (frames done, frames expected); may raise to stop.

    Raises:
        ValueError: the clip is damaged, or has no frame that can be measured.
    """
    wanted, notes = _checked(wanted)
    plain, watchers, first = PlainMeasures(), Watchers(), None
    for frames in _chunks(until_canceled(clip.frames())):
        if first is None:
            first = frames[0].float() / 255
            watchers = models.watchers(wanted, fps=clip.fps, size=(frames.shape[1], frames.shape[2]))
        for frame in frames:
            plain.add(frame)
        watchers.add(frames)
        done = len(plain.labs)
        progress(done, max(done, clip.expected) if clip.expected else 0)
    if first is None:
        raise ValueError(" ".join(["The clip has no frame that can be measured.", *clip.notes]))
    height, width = first.shape[:2]
    judgment = Judgment(len(plain.labs), width, height, clip.fps)
    judgment.values = plain.values(clip.fps) | _start_values(first, wanted.start) | watchers.values()
    judgment.curves, judgment.moments = plain.curves(), plain.moments(clip.fps)
    judgment.notes = [*notes, *clip.notes]
    judgment.missing = {
        name: watchers.missing.get(name) or _why_not(name, wanted)
        for name in MEASURES
        if name not in judgment.values
    }
    return judgment


def _checked(wanted: Wanted) -> tuple[Wanted, list[str]]:
    """Return what to compare with, without a start picture that cannot be used, and a note on why."""
    if wanted.start is None:
        return wanted, []
    start = wanted.start[:1, ..., :3]
    try:
        check_pictures(start, "start_image")
    except ValueError as error:
        return Wanted(None, wanted.prompt), [f"Measured without the start picture: {error}"]
    return Wanted(start.float().clamp(0, 1).cpu(), wanted.prompt), []


def _chunks(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield frames (T, H, W, 3), as many at once as memory should hold."""
    held: list[Tensor] = []
    for frame in frames:
        held.append(frame)
        if len(held) == MOST_AT_ONCE or len(held) * frame.shape[0] * frame.shape[1] >= PIXELS_AT_ONCE:
            yield torch.stack(held)
            held = []
    if held:
        yield torch.stack(held)


def _start_values(first: Tensor, start: Tensor | None) -> dict[str, float]:
    if start is None:
        return {}
    fitted = resize_cover_crop(start, first.shape[1], first.shape[0])[0]
    return {"start_psnr": psnr(first, fitted), "start_ssim": ssim(first, fitted)}


def _why_not(name: str, wanted: Wanted) -> str:
    """Return why a measure, whose model is there, was not taken."""
    wants = MEASURES[name].wants
    if (wants == START and wanted.start is None) or (wants == PROMPT and not wanted.prompt.strip()):
        return LACKS[wants]
    return f"The clip needs {'two' if name in NEEDS_TWO_FRAMES else 'four'} frames or more for it."

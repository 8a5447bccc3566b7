"""Judge a clip: read its frames once and give them to all measures."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ...judge.catalog import LEAST_FRAMES, MEASURES, PROMPT, REMEDIES, START
from ...judge.plain import PlainMeasures, psnr, ssim
from ...judge.report import Judgment
from ...judge.watch import flow_step
from ...sizes import check_pictures, resize_cover_crop
from ...store.cancel import Progress, until_canceled
from .clips import Clip
from .models import ClipInputs, Models, Watchers

MOST_AT_ONCE, PIXELS_AT_ONCE = 8, 8_000_000
"""At most so many frames, and about so many of their pixels, are in memory together."""


def judge_clip(clip: Clip, inputs: ClipInputs, models: Models, *, progress: Progress) -> Judgment:
    """Measure a clip in one pass.

    Args:
        progress: called with (frames done, frames expected); may raise to stop.

    Raises:
        ValueError: the clip is damaged, or has no frame that can be measured.
    """
    inputs, notes = _without_bad_start(inputs)
    plain, watchers, first = PlainMeasures(), Watchers(), None
    for frames in _batches(until_canceled(clip.frames())):
        if first is None:
            first = frames[0].float() / 255
            watchers = models.watchers(inputs, fps=clip.fps, size=(frames.shape[1], frames.shape[2]))
        for frame in frames:
            plain.add(frame)
        watchers.add(frames)
        done = len(plain.labs)
        progress(done, max(done, clip.expected) if clip.expected else 0)
    if first is None:
        raise ValueError(" ".join(["The clip has no frame that can be measured.", *clip.notes]))
    height, width = first.shape[:2]
    judgment = Judgment(len(plain.labs), width, height, clip.fps)
    judgment.values = plain.values(clip.fps) | _start_values(first, inputs.start) | watchers.values()
    judgment.curves, judgment.moments = plain.curves(), plain.moments(clip.fps)
    judgment.notes = [*notes, *clip.notes]
    judgment.missing = {
        name: watchers.missing.get(name)
        or _reason_missing(name, inputs, fps=clip.fps, has_bad_start=bool(notes))
        for name in MEASURES
        if name not in judgment.values
    }
    return judgment


def _without_bad_start(inputs: ClipInputs) -> tuple[ClipInputs, list[str]]:
    """Return what the clip was made from, without a start picture that cannot be used, and a note on why."""
    if inputs.start is None:
        return inputs, []
    start = inputs.start[:1, ..., :3]
    try:
        check_pictures(start, "start_image")
    except ValueError as error:
        return ClipInputs(None, inputs.prompt), [f"Measured without the start picture: {error}"]
    return ClipInputs(start.float().clamp(0, 1).cpu(), inputs.prompt), []


def _batches(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield frames (T, H, W, 3), as many at once as should be in memory."""
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
    resized = resize_cover_crop(start, first.shape[1], first.shape[0])[0]
    return {"start_psnr": psnr(first, resized), "start_ssim": ssim(first, resized)}


def _reason_missing(name: str, inputs: ClipInputs, *, fps: float, has_bad_start: bool) -> str:
    """Return why a measure was not taken although its model is available."""
    measure = MEASURES[name]
    if measure.wants == START and has_bad_start:
        return "The start picture cannot be used; the notes say why."
    if (measure.wants == START and inputs.start is None) or (
        measure.wants == PROMPT and not inputs.prompt.strip()
    ):
        return REMEDIES[measure.wants]
    least = 1 + flow_step(fps) if "raft" in measure.needs else LEAST_FRAMES.get(name, 2)
    return f"The clip needs {least} frames or more for it."

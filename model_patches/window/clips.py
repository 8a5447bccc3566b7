"""Plan a long video as clips that any graph makes: frames in, frames out. Pure functions over numbers and frames.

A clip has ``length`` frames. The first ``num_known`` of them are handed to the graph, which returns them at the
beginning of the clip. They are part of the video already, except for a picture that the video begins with.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .directions import read_directions
from .plan import Planned, window_seed
from .prompts import assign_prompts, parse_prompts

KNOWN_DIFFERENCE = 0.1
"""If the known frames come back with a mean difference above this, the graph has most likely not used them."""


@dataclass(frozen=True)
class ClipSizes:
    """How many frames a clip has, and how many of them are known beforehand.

    drop_new: new frames that are left out after the known ones. blend: known frames that fade from how they were to
    how the graph returned them.
    """

    length: int
    num_known: int
    drop_new: int = 0
    blend: int = 0

    def __post_init__(self) -> None:
        if self.num_known < 1:
            raise ValueError(f"known_frames is {self.num_known}; a window needs at least 1 to continue from.")
        if self.num_new < 1:
            dropped = f" and drop_new {self.drop_new}" if self.drop_new else ""
            raise ValueError(
                f"window_length is {self.length} frames, known_frames {self.num_known}{dropped}, so a window would "
                "add nothing new. Make the window longer, or let it know fewer frames."
            )
        if self.blend and self.drop_new:
            raise ValueError("blend and drop_new of Window Save exclude each other. Set one of them to 0.")
        if self.blend > min(self.num_known, self.num_new - 1):
            raise ValueError(
                f"blend is {self.blend} frames; at most the {self.num_known} known_frames of Window Start can fade, "
                f"and fewer than the {self.num_new} new ones. Set blend lower, or known_frames higher."
            )

    @property
    def num_new(self) -> int:
        """Return how many frames a whole clip adds to a video."""
        return self.length - self.num_known - self.drop_new


@dataclass(frozen=True)
class GraphWindow(Planned):
    """A window that a graph makes as a clip.

    num_skipped: frames at the beginning of the clip that are not written. num_blended: of the written frames, the
    first ones, which fade from the known frames. num_held_back: frames after the written ones, from which the next
    window fades.
    """

    length: int
    num_known: int
    num_skipped: int
    num_blended: int = 0
    num_held_back: int = 0


def count_frames(sizes: ClipSizes, length: float, *, in_windows: bool, fps: float, continues: bool) -> int:
    """Return how many new frames a video of ``length`` seconds or windows has."""
    if not in_windows:
        return max(1, round(length * fps))
    first = sizes.num_new if continues else sizes.length
    return first + (max(1, round(length)) - 1) * sizes.num_new


def plan_clips(
    sizes: ClipSizes, num_frames: int, *, continues: bool, prompts: str, fps: float, seed: int
) -> list[GraphWindow]:
    """Return the clips of a video; the last one is cut to fit.

    Args:
        num_frames: new frames of the video.
        continues: the first clip continues earlier frames instead of beginning with a picture.
        prompts: the text of the prompts box.
    """
    first = sizes.num_new if continues else sizes.length
    count = 1 + max(0, -(-(num_frames - first) // sizes.num_new))
    seams = [first + index * sizes.num_new - sizes.blend for index in range(count - 1)]
    spans = list(pairwise([0, *seams, num_frames]))
    directions = read_directions(prompts)
    directions.check(count)
    texts = assign_prompts(parse_prompts(prompts), [(start / fps, end / fps) for start, end in spans])
    return [
        GraphWindow(
            index=i,
            length=sizes.length,
            num_known=sizes.num_known if continues or i else 1,
            num_skipped=sizes.num_known + sizes.drop_new - sizes.blend * (i > 0) if continues or i else 0,
            start_frame=start,
            num_new_frames=end - start,
            prompt=texts[i],
            seed=directions.seeds.get(i, window_seed(seed, i)),
            num_blended=sizes.blend if i else 0,
            num_held_back=sizes.blend if i < count - 1 else 0,
        )
        for i, (start, end) in enumerate(spans)
    ]


def check_clip(frames: Tensor, clip: GraphWindow, *, width: int, height: int) -> None:
    """Refuse what a graph returned if it is not the clip it was asked for.

    Args:
        frames: (T, H, W, 3) as they came back.

    Raises:
        ValueError: too few frames, another size, or NaN.
    """
    where = f"Window {clip.index + 1}"
    if frames.ndim != 4 or frames.shape[-1] < 3:
        raise ValueError(f"{where} came back in the shape {tuple(frames.shape)}; an IMAGE batch is needed.")
    if len(frames) < clip.num_skipped + clip.num_new_frames + clip.num_held_back:
        raise ValueError(
            f"{where} came back with {len(frames)} frames; window_length is {clip.length}. Connect length of Window "
            "Start to the node that makes the empty clip, and give Window Save the whole clip with its known frames."
        )
    if tuple(frames.shape[1:3]) != (height, width):
        raise ValueError(
            f"{where} came back as {frames.shape[2]}x{frames.shape[1]} pixels; the video is {width}x{height}. Connect "
            "width and height of Window Start, or set them to what the graph makes."
        )
    if not all(math.isfinite(extreme) for extreme in frames.aminmax()):  # eight times as fast as isfinite
        raise ValueError(
            f"{where} came back with values that are no numbers (NaN), which shows as black. The model most likely ran "
            "in a precision it cannot take: load it or the VAE in bf16 or fp32."
        )


def new_frames(frames: Tensor, clip: GraphWindow, known: Tensor) -> Tensor:
    """Return the frames of a clip that are new to the video, RGB in [0, 1], with those held back for the next one.

    Args:
        known: the frames that were handed out; blended frames fade from the last of them.
    """
    count = clip.num_new_frames + clip.num_held_back
    new = in_range(frames[clip.num_skipped : clip.num_skipped + count, ..., :3].float().cpu())
    if blended := clip.num_blended:
        share = torch.arange(1, blended + 1)[:, None, None, None] / (blended + 1)
        new = torch.cat([torch.lerp(known[-blended:], new[:blended], share), new[blended:]])
    return new


def in_range(frames: Tensor) -> Tensor:
    """Return frames clamped to [0, 1], without a copy if they are in that range already."""
    low, high = frames.aminmax()
    return frames if low >= 0 and high <= 1 else frames.clamp(0, 1)


def check_speed(clip_fps: float | None, fps: float) -> None:
    """Refuse a clip whose frame rate is not the video's; a clip of pictures has none.

    Raises:
        ValueError: names both rates.
    """
    if clip_fps is not None and abs(clip_fps - fps) > fps / 2000:
        raise ValueError(
            f"Your graph makes a video of {clip_fps:.6g} frames a second, and fps of Window Start is {fps:g}. "
            f"Set fps to {clip_fps:.6g}, or connect fps of Window Start to Create Video."
        )


def known_difference(frames: Tensor, known: Tensor) -> float:
    """Return the mean difference between the frames that were handed out and how they came back."""
    count = min(len(frames), len(known))
    return float((frames[:count, ..., :3].float().cpu() - known[:count].float().cpu()).abs().mean())

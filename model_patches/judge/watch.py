"""Measure a clip with models: every watcher is given the frames as they are read and returns its measures at the end.

Formulas: VBench (Huang et al., CVPR 2024) and VBench++ (Huang et al., 2024). Frames are (T, 3, H, W), 0 to 255.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Protocol

from torch import Tensor

from .models import Clip, Dino, Flow, ImagingQuality, Lpips, Rater

FLOW_FPS = 8
"""Motion is measured between frames at this rate."""
FAST_PX, FAST_SIDE_PX = 6.0, 256
"""Faster motion counts as fast, in a picture with that shorter side."""
FAST_STEPS, PER_FRAMES = 4, 16
"""A clip is dynamic if so many steps per so many frames are fast."""
I2V_BEST, I2V_MEAN, I2V_WORST = 0.4, 0.3, 0.3
"""Weights of VBench-I2V: likeness to the start picture, mean and worst likeness to the frame before."""


class Watcher(Protocol):
    """Takes frames as they are read, on its model's device, and returns its measures at the end."""

    def add(self, frames: Tensor) -> None: ...
    def values(self) -> dict[str, float]: ...


class Likeness:
    """Cosines of the features of frames with those of the frame before, of the first one and of the start picture."""

    def __init__(self, start: Tensor | None = None) -> None:
        self.start, self.first, self.last = start, None, None
        self.to_start: list[float] = []
        self.to_first: list[float] = []
        self.to_last: list[float] = []

    def add(self, features: Tensor) -> None:
        """Take unit features (T, D) of the next frames."""
        for feature in features.float():
            if self.start is not None:
                self.to_start.append(_cosine(self.start[0], feature))
            if self.first is None or self.last is None:
                self.first = feature
            else:
                self.to_first.append(_cosine(self.first, feature))
                self.to_last.append(_cosine(self.last, feature))
            self.last = feature

    def consistency(self) -> float:
        """Return the mean likeness to the frame before and to the first one. Two frames or more."""
        return (fmean(self.to_last) + fmean(self.to_first)) / 2

    def to_start_picture(self) -> float:
        """Return VBench-I2V's likeness to the start picture. Two frames or more."""
        steady = I2V_MEAN * fmean(self.to_last) + I2V_WORST * min(self.to_last)
        return I2V_BEST * max(self.to_start) + steady


def _cosine(one: Tensor, other: Tensor) -> float:
    return max(0.0, float(one @ other))


class SubjectWatcher:
    def __init__(self, module: Dino, start: Tensor | None) -> None:
        self.module, self.start = module, start
        self.subject, self.i2v = Likeness(), Likeness()

    def add(self, frames: Tensor) -> None:
        self.subject.add(self.module.subject(frames))
        if self.start is not None:
            if self.i2v.start is None:
                self.i2v.start = self.module.i2v_subject(self.start.to(frames))
            self.i2v.add(self.module.i2v_subject(frames))

    def values(self) -> dict[str, float]:
        if not self.subject.to_last:
            return {}
        values = {"subject_consistency": self.subject.consistency()}
        return values if self.start is None else values | {"i2v_subject": self.i2v.to_start_picture()}


class SceneWatcher:
    """With CLIP: whether the background stays, and how well the frames fit the prompt, given as tokens."""

    def __init__(self, module: Clip, start: Tensor | None, tokens: Mapping[str, Tensor] | None) -> None:
        self.module, self.start, self.tokens = module, start, tokens
        self.likeness, self.prompt_scores, self.text = Likeness(), [], None

    def add(self, frames: Tensor) -> None:
        if self.start is not None and self.likeness.start is None:
            self.likeness.start = self.module.pictures(self.start.to(frames))
        if self.tokens is not None and self.text is None:
            self.text = self.module.text({name: each.to(frames.device) for name, each in self.tokens.items()})
        features = self.module.pictures(frames)
        self.likeness.add(features)
        if self.text is not None:
            self.prompt_scores += (100 * features @ self.text[0]).clamp_min(0).tolist()

    def values(self) -> dict[str, float]:
        values = {"prompt_fit": fmean(self.prompt_scores)} if self.prompt_scores else {}
        if self.likeness.to_last:
            values["background_consistency"] = self.likeness.consistency()
            if self.start is not None:
                values["i2v_background"] = self.likeness.to_start_picture()
        return values


class ScoreWatcher:
    """The mean of a score that a model gives every picture."""

    def __init__(self, module: Rater | ImagingQuality, measure: str) -> None:
        self.module, self.measure = module, measure
        self.scores: list[float] = []

    def add(self, frames: Tensor) -> None:
        self.scores += self.module(frames).tolist()

    def values(self) -> dict[str, float]:
        return {self.measure: fmean(self.scores)}


def flow_step(fps: float) -> int:
    """Return how many frames lie between two whose motion is measured."""
    return max(1, round(fps / FLOW_FPS))


class FlowWatcher:
    """With RAFT: motion between frames an eighth of a second apart."""

    def __init__(self, module: Flow, fps: float) -> None:
        self.module, self.every = module, flow_step(fps)
        self.steps: list[float] = []
        self.num_frames, self.last = 0, None

    def add(self, frames: Tensor) -> None:
        for frame in frames:
            if self.num_frames % self.every == 0:
                if self.last is not None:
                    self.steps.append(self.module(self.last.to(frames), frame[None]))
                self.last = frame[None].clone()
            self.num_frames += 1

    def values(self) -> dict[str, float]:
        if not self.steps or self.last is None:
            return {}
        limit = FAST_PX * min(self.last.shape[-2:]) / FAST_SIDE_PX
        needed = max(1, round(FAST_STEPS * (len(self.steps) + 1) / PER_FRAMES))
        fast = sum(step > limit for step in self.steps)
        return {"dynamic_degree": float(fast >= needed), "flow_px": fmean(self.steps)}


class StartWatcher:
    """With LPIPS: the first frame against the start picture, which has its size."""

    def __init__(self, module: Lpips, start: Tensor) -> None:
        self.module, self.start, self.distance = module, start, None

    def add(self, frames: Tensor) -> None:
        if self.distance is None:
            self.distance = self.module(frames[:1], self.start.to(frames))

    def values(self) -> dict[str, float]:
        return {} if self.distance is None else {"start_lpips": self.distance}

"""The models whose files exist, under the host's memory management, each with its watcher."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from ...encoders.clip import tokenize_pooled
from ...encoders.folders import load_tokenizer
from ...judge import models, sets, watch
from ...judge.catalog import MEASURES
from ...sizes import resize_cover_crop
from ..encoders.managed import host_managed, load_managed
from ..progress import stop_if_canceled
from .files import find_model, read_weights

ACTIVATION_BYTES = 512
"""Memory for activations, for each pixel of the frames that a model sees at once."""
LOADERS: dict[str, Callable[[], nn.Module]] = {
    "dino": lambda: models.Dino(models.pretrained("ViTModel", find_model("dino"), add_pooling_layer=False)),
    "clip_b32": lambda: models.Clip(models.pretrained("CLIPModel", find_model("clip_b32"))),
    "clip_l14": lambda: models.Rater(
        models.Clip(models.pretrained("CLIPModel", find_model("clip_l14"))), read_weights("aesthetic")
    ),
    "musiq": lambda: models.ImagingQuality(read_weights("musiq")),
    "raft": lambda: models.Flow(read_weights("raft")),
    "lpips": lambda: models.Lpips(read_weights("alexnet"), read_weights("lpips")),
    "inception": lambda: sets.Inception(read_weights("inception")),
    "videomae": lambda: sets.VideoFeatures(models.pretrained("VideoMAEModel", find_model("videomae"))),
}
OF_SETS = ("inception", "videomae")
"""Models that compare sets of clips and measure nothing of one clip."""


@dataclass(frozen=True)
class ClipInputs:
    """What a clip was made from, to compare it with. start: (1, H, W, 3) in [0, 1]. prompt: empty for none."""

    start: Tensor | None = None
    prompt: str = ""


class Models:
    """Loads each model when it is first needed, and keeps it for the next clip.

    Attributes:
        features: of whole folders, by folder and model.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}  # the host's patcher, or the error if there is none
        self.features: dict[tuple[str, str], Tensor] = {}

    def patcher(self, name: str) -> Any:
        """Return the host's patcher of a model.

        Raises:
            FileNotFoundError: its file is missing; says where it belongs.
            ValueError: its file is wrong.
        """
        if isinstance(loaded := self._load(name), Exception):
            raise loaded
        return loaded

    def _load(self, name: str) -> Any:
        if name not in self._loaded:
            try:
                self._loaded[name] = _managed(LOADERS[name]())
            except (FileNotFoundError, ValueError) as error:
                self._loaded[name] = error
        return self._loaded[name]

    def available(self) -> list[str]:
        """Return the models for single clips that can be loaded."""
        names = [name for name in LOADERS if name not in OF_SETS]
        return [name for name in names if not isinstance(self._load(name), Exception)]

    def watchers(self, inputs: ClipInputs, *, fps: float, size: tuple[int, int]) -> "Watchers":
        """Return a watcher for every available model, for a clip of this frame rate and (height, width)."""
        start = None if inputs.start is None else _pictures(inputs.start)
        makers: dict[str, Callable[[Any], watch.Watcher]] = {
            "dino": lambda module: watch.SubjectWatcher(module, start),
            "clip_b32": lambda module: watch.SceneWatcher(module, start, _tokens(inputs.prompt)),
            "clip_l14": lambda module: watch.ScoreWatcher(module, "aesthetic_quality"),
            "musiq": lambda module: watch.ScoreWatcher(module, "imaging_quality"),
            "raft": lambda module: watch.FlowWatcher(module, fps),
        }
        if inputs.start is not None:
            resized = _pictures(resize_cover_crop(inputs.start, size[1], size[0]))
            makers["lpips"] = lambda module: watch.StartWatcher(module, resized)
        watchers = Watchers()
        for name, make in makers.items():
            try:
                patcher = self.patcher(name)
                watchers.running[name] = (patcher, make(patcher.model))
            except (FileNotFoundError, ValueError) as error:
                watchers.missing |= dict.fromkeys(measures_of(name), str(error))
        return watchers


class Watchers:
    """The watchers of one clip; one that fails is removed.

    Attributes:
        running: (patcher, watcher) by the model's name.
        missing: why a measure is not taken.
    """

    def __init__(self) -> None:
        self.running: dict[str, tuple[Any, watch.Watcher]] = {}
        self.missing: dict[str, str] = {}

    @torch.no_grad()
    def add(self, frames: Tensor) -> None:
        """Give frames (T, H, W, 3) uint8 to all watchers."""
        for name, (patcher, watcher) in list(self.running.items()):
            try:
                watcher.add(frames_on(patcher, frames))
            except ValueError as error:
                self._leave_out(name, str(error))
            except comfy.model_management.OOM_EXCEPTION:
                self._leave_out(
                    name, "There was not enough memory. Make the clip smaller, or unload other models."
                )

    def _leave_out(self, name: str, why: str) -> None:
        del self.running[name]
        self.missing |= dict.fromkeys(measures_of(name), why)

    def values(self) -> dict[str, float]:
        return {
            name: value for _, watcher in self.running.values() for name, value in watcher.values().items()
        }


def frames_on(patcher: Any, frames: Tensor) -> Tensor:
    """Return frames (T, H, W, 3) uint8 as pictures (T, 3, H, W), 0 to 255, on the device of their model."""
    pixels = frames.shape[0] * frames.shape[1] * frames.shape[2]
    return frames.to(load_managed(patcher, pixels * ACTIVATION_BYTES)).movedim(-1, 1).float()


def measures_of(model: str) -> list[str]:
    """Return the measures that need a model."""
    return [name for name, measure in MEASURES.items() if model in measure.needs]


def _managed(module: nn.Module) -> Any:
    """Put a module under the host's management, and check for a cancel before each of its layers."""
    for child in module.modules():
        child.register_forward_pre_hook(lambda *_: stop_if_canceled())
    return host_managed(module)


def _pictures(images: Tensor) -> Tensor:
    return images.movedim(-1, 1).mul(255).round()


def _tokens(prompt: str) -> dict[str, Tensor] | None:
    return tokenize_pooled(load_tokenizer(find_model("clip_b32")), prompt) if prompt.strip() else None

"""Draw scenes: one row of factor indices for each scene, so that a batch is a few integer tensors."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

SIDE_PX = 64
FPS = 24
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (0.90, 0.12, 0.12),
    "green": (0.10, 0.75, 0.20),
    "blue": (0.20, 0.40, 1.00),
    "yellow": (0.98, 0.90, 0.10),
    "orange": (1.00, 0.55, 0.05),
    "purple": (0.62, 0.15, 0.80),
    "cyan": (0.10, 0.88, 0.92),
    "white": (1.00, 1.00, 1.00),
}
BACKGROUNDS = {
    "black": (0.03, 0.03, 0.03),
    "gray": (0.45, 0.45, 0.45),
    "navy": (0.05, 0.06, 0.30),
    "brown": (0.35, 0.20, 0.10),
}
SIZES = {"small": 8.0, "large": 12.0}  # radius in pixels
SPEEDS = {"slowly": 1.0, "fast": 2.0}  # pixels a frame
_D = 0.5**0.5
DIRECTIONS = {  # unit vectors, x to the right and y down
    "right": (1.0, 0.0),
    "down right": (_D, _D),
    "down": (0.0, 1.0),
    "down left": (-_D, _D),
    "left": (-1.0, 0.0),
    "up left": (-_D, -_D),
    "up": (0.0, -1.0),
    "up right": (_D, -_D),
}
NUM_MOTIONS = len(DIRECTIONS) * len(SPEEDS)
PLACES = (  # row major, three rows of three
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
SECOND_RADIUS_PX = 4.5
PLACE_JITTER_PX = 3.0


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes; every field has shape (B,), ``jitter`` (B, 2) and ``second_xy`` (B, 2) in pixels.

    ``second_colour`` is -1 where there is no second object.
    """

    shape: Tensor
    colour: Tensor
    size: Tensor
    background: Tensor
    place: Tensor
    direction: Tensor
    speed: Tensor
    jitter: Tensor
    second_shape: Tensor
    second_colour: Tensor
    second_xy: Tensor

    def __len__(self) -> int:
        return self.shape.shape[0]

    def __getitem__(self, index) -> "Scenes":
        """Return the scenes that ``index`` (a slice, mask or index tensor) selects."""
        return Scenes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @property
    def start_px(self) -> Tensor:
        """Return the object's centre at frame 0, (B, 2) as (x, y) in pixels."""
        cell = SIDE_PX / 3
        column, row = self.place % 3, self.place // 3
        return torch.stack([(column + 0.5) * cell, (row + 0.5) * cell], dim=1) + self.jitter

    @property
    def velocity_px(self) -> Tensor:
        """Return the velocity, (B, 2) as (x, y) in pixels a frame."""
        return velocities_px()[self.motion]

    @property
    def radius_px(self) -> Tensor:
        """Return the object's radius in pixels, (B,)."""
        return torch.tensor(list(SIZES.values()))[self.size]

    @property
    def motion(self) -> Tensor:
        """Return direction and speed as one index below ``NUM_MOTIONS``, (B,)."""
        return self.direction * len(SPEEDS) + self.speed

    def moving(self, motion: Tensor) -> "Scenes":
        """Return the scenes with other motions (B,), as ``motion``."""
        return replace(self, direction=motion // len(SPEEDS), speed=motion % len(SPEEDS))


def velocities_px() -> Tensor:
    """Return the velocity of every motion, (NUM_MOTIONS, 2) as (x, y) in pixels a frame."""
    unit, speed = torch.tensor(list(DIRECTIONS.values())), torch.tensor(list(SPEEDS.values()))
    return (unit[:, None] * speed[:, None]).flatten(0, 1)


def concatenate(parts: list[Scenes]) -> Scenes:
    """Join batches of scenes into one."""
    return Scenes(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Scenes)})


def held_out(scenes: Scenes) -> Tensor:
    """Return which combinations of factors are held out from training, (B,) bool; about a tenth."""
    code = (
        scenes.shape * 3
        + scenes.colour * 7
        + scenes.direction * 11
        + scenes.speed * 5
        + scenes.background * 3
    )
    return code % 10 == 0


def sample_scenes(
    count: int, *, generator: torch.Generator, split: str = "all", second_share: float = 0.15
) -> Scenes:
    """Draw scenes with uniform factors.

    Args:
        count: number of scenes.
        generator: source of randomness.
        split: "train" (no held-out combination), "test" (held-out combinations only) or "all".
        second_share: share of scenes with a second, smaller object.

    Raises:
        ValueError: ``split`` is none of the three.
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f"split is {split!r}; wanted 'train', 'test' or 'all'")
    parts, have = [], 0
    while have < count:
        drawn = _sample_any(max(count, 64), generator, second_share)
        if split != "all":
            drawn = drawn[held_out(drawn) == (split == "test")]
        parts.append(drawn)
        have += len(drawn)
    return concatenate(parts)[slice(0, count)]


def _sample_any(count: int, generator: torch.Generator, second_share: float) -> Scenes:
    def integers(high: int) -> Tensor:
        return torch.randint(high, (count,), generator=generator)

    colour = integers(len(COLOURS))
    has_second = torch.rand(count, generator=generator) < second_share
    other = (colour + 1 + integers(len(COLOURS) - 1)) % len(COLOURS)
    return Scenes(
        shape=integers(len(SHAPES)),
        colour=colour,
        size=integers(len(SIZES)),
        background=integers(len(BACKGROUNDS)),
        place=integers(len(PLACES)),
        direction=integers(len(DIRECTIONS)),
        speed=integers(len(SPEEDS)),
        jitter=(torch.rand(count, 2, generator=generator) * 2 - 1) * PLACE_JITTER_PX,
        second_shape=integers(len(SHAPES)),
        second_colour=torch.where(has_second, other, -1),
        second_xy=torch.rand(count, 2, generator=generator) * SIDE_PX,
    )

"""What long clips of the shapes world show: is the object alive, its way kept, are seams seen, do colours drift.

Clips come window by window; kept are the tracks, the first window and the last second, never the whole video.
"""

import torch
from magic141.lab import world
from magic141.lab.models.taehv import Taehv
from magic141.lab.world.measure import steps_of, true_mass_px
from magic141.model_patches.measures import delta_e, srgb_to_lab
from magic141.model_patches.window.plan import Window
from torch import Tensor

PRESENT = (0.5, 1.7)
"""Area over the true area within which an object counts as present."""

NEAR_COLOUR = 0.35
"""Distance in RGB within which a pixel still shows the object's colour."""

MOVING_PX = 0.5 * min(world.SPEEDS.values())
"""Pixels a frame below which an object stands still; every object of the world moves."""

SEAM_REACH = 6
"""Steps on either side of a seam that it is compared with."""


class ClipReader:
    """Reads B clips as their windows are made.

    Args:
        scenes: the truth of every clip.
        is_open: (B,) bool, the clips whose caption leaves the direction open.
    """

    def __init__(self, scenes: world.Scenes, is_open: Tensor) -> None:
        self.scenes, self.is_open = scenes, is_open
        self.tracks: list[Tensor] = []
        self.present: list[Tensor] = []
        self.seams: list[int] = []
        self.first = self.last = torch.empty(0)

    def add(self, window: Window, frames: Tensor) -> None:
        """Take a window's new frames, (B, n, H, W, 3) as bytes."""
        seen = frames.float().movedim(-1, 2) / 255
        reading = world.read_clip(seen, with_shape="none")
        self.tracks.append(reading.centroid_px)
        self.present.append(is_present(reading.mass_px, self.scenes))
        if window.index == 0:
            self.first = self.last = frames
            return
        self.seams.append(window.start_frame)
        self.last = torch.cat([self.last, frames], dim=1)[:, -world.FPS :]

    def figures(self) -> dict[str, float]:
        """Return the figures over all clips."""
        track, present = torch.cat(self.tracks, dim=1), torch.cat(self.present, dim=1)
        length = self.first.shape[1]
        first, last = direction(track[:, :length]), direction(track[:, -length:])
        goes = moves(track[:, -length:], present[:, -length:])
        lives = alive(self.last, self.scenes)
        begun, ended = (seen_colours(frames, self.scenes) for frames in (self.first, self.last))
        named = ~self.is_open
        values = {
            "object_alive_60s": lives,
            "object_alive_named_60s": lives[named],
            "object_alive_open_60s": lives[self.is_open],
            "direction_persistence": (goes & (first == last))[self.is_open],
            "direction_as_named_60s": (goes & (last == self.scenes.direction))[named],
            "seams_ok_share": good_seams(track, present, self.seams),
            "drift_delta_e_60s": colour_distance(begun, ended),
            "error_delta_e_60s": colour_distance(true_colours(self.scenes), ended),
        }
        return {name: float(value.float().mean()) for name, value in values.items()}


def alive(frames: Tensor, scenes: world.Scenes) -> Tensor:
    """Tell whether the object is there with its colour and shape in most of these frames, (B,) bool.

    Args:
        frames: (B, T, H, W, 3) as bytes; all are read, since the four of a latent frame are not equally well drawn.
    """
    reading = world.read_clip(frames.float().movedim(-1, 2) / 255)
    right = is_present(reading.mass_px, scenes)
    right &= (reading.colour == scenes.colour[:, None]) & (reading.shape == scenes.shape[:, None])
    return right.float().mean(1) > 0.5


def is_present(mass_px: Tensor, scenes: world.Scenes) -> Tensor:
    """Tell whether something of the object's size is there; mass_px and result: (B, T)."""
    share = mass_px / true_mass_px(scenes)[:, None]
    return (share > PRESENT[0]) & (share < PRESENT[1])


def moves(track: Tensor, present: Tensor) -> Tensor:
    """Tell whether an object is there and goes somewhere, (B,): nothing and a frozen object keep no direction."""
    pace = steps_of(track).mean(1).norm(dim=-1)
    return (pace >= MOVING_PX) & (present.float().mean(1) > 0.5)


def direction(track: Tensor) -> Tensor:
    """Return the nearest of the eight directions of a track (B, T, 2), (B,)."""
    return world.motion_of(track)[0] // len(world.SPEEDS)


def good_seams(track: Tensor, present: Tensor, seams: list[int]) -> Tensor:
    """Tell of every seam whether the object's step across it is within 0.5 to 2 times its steps inside windows.

    A seam without an object on both sides, or beside which the object stands still, is no good one.

    Args:
        track: (B, T, 2), the object's centroid on the torus.
        present: (B, T) bool.
        seams: the first frame of every window but the first.

    Returns:
        (B, number of seams) bool; compared is with the median of the steps beside the seam that cross none.
    """
    steps = steps_of(track).norm(dim=-1)
    crossing = {seam - 1 for seam in seams}
    good = []
    for seam in sorted(crossing):
        reach = range(max(0, seam - SEAM_REACH), min(steps.shape[1], seam + SEAM_REACH + 1))
        inside = steps[:, [step for step in reach if step not in crossing]].median(1).values
        shown = present[:, seam] & present[:, seam + 1] & (inside >= MOVING_PX)
        good.append(shown & (steps[:, seam] >= 0.5 * inside) & (steps[:, seam] <= 2 * inside))
    return torch.stack(good, dim=1)


def seen_colours(frames: Tensor, scenes: world.Scenes) -> Tensor:
    """Return the colours of background and object in these frames, (B, 2, 3); a lost object has the background's.

    Args:
        frames: (B, T, H, W, 3) as bytes.
    """
    frames = frames.float() / 255
    true_background, true_colour = true_colours(scenes).unbind(1)
    background = frames.flatten(1, 3).median(1).values
    near = (frames - true_colour[:, None, None, None]).norm(dim=-1)
    far = (frames - true_background[:, None, None, None]).norm(dim=-1)
    weight = ((near < far) & (near < NEAR_COLOUR)).float()[..., None]
    area = weight.sum((1, 2, 3))
    colour = (frames * weight).sum((1, 2, 3)) / area.clamp_min(1)
    lost = area[:, 0] < 0.2 * true_mass_px(scenes) * frames.shape[1]
    return torch.stack([background, torch.where(lost[:, None], background, colour)], dim=1)


@torch.no_grad()
def true_drift(network: Taehv, scenes: world.Scenes, *, first_frames: int, seconds: float) -> Tensor:
    """Return the drift of the true videos, as the VAE shows them, (B,): what no hand-over can be expected to beat.

    Args:
        first_frames: how many begin, 4n + 1.
    """

    def shown(num_frames: int, first_frame: int) -> Tensor:
        clips = world.render_clip(scenes, num_frames, first_frame=first_frame)
        seen = torch.cat([network.decode(network.encode(clip[None])) for clip in clips])
        return (seen.clamp(0, 1) * 255).round().to(torch.uint8).movedim(2, -1)

    last = shown(world.FPS + 1, round(seconds * world.FPS) - world.FPS - 1)[:, 1:]
    return colour_distance(seen_colours(shown(first_frames, 0), scenes), seen_colours(last, scenes))


def true_colours(scenes: world.Scenes) -> Tensor:
    """Return the colours of background and object, (B, 2, 3)."""
    backgrounds = torch.tensor(list(world.BACKGROUNDS.values()))[scenes.background]
    return torch.stack([backgrounds, torch.tensor(list(world.COLOURS.values()))[scenes.colour]], dim=1)


def colour_distance(before: Tensor, after: Tensor) -> Tensor:
    """Return the mean delta E of background and object, (B,)."""
    return delta_e(srgb_to_lab(before), srgb_to_lab(after)).mean(1)

"""Sizes the model was trained at, and how a picture is fitted to one: resize to cover, then center crop."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SIZE_MULTIPLE_PX = 16
FRAMES_PER_LATENT = 4
LATENT_CHANNELS = 16
SPATIAL_COMPRESSION = 8
MIN_PICTURE_PX = 8
MAX_OVERHANG = 4

# (width, height) in pixels. Source: DA-Group-PKU/Magic-1-For-1, datasets/test_image.py.
BUCKETS = {
    "540p": ((544, 960), (624, 832), (720, 720), (832, 624), (960, 544)),
    "720p": ((704, 1248), (832, 1104), (960, 960), (1104, 832), (1248, 704)),
}


def nearest_bucket(width: int, height: int, family: str) -> tuple[int, int]:
    """Return the (width, height) in pixels of the bucket whose aspect ratio is nearest to a picture's.

    Args:
        family: "540p" or "720p".
    """
    return min(BUCKETS[family], key=lambda size: abs(size[0] / size[1] - width / height))


def plan_cover_crop(
    width: int, height: int, target: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Plan the smallest resize that covers a target size without distortion, and the center crop after it.

    Args:
        width, height: the picture's, in pixels.
        target: (width, height) in pixels.
    Returns:
        The size to resize to, and where to cut the target: (width, height) and (left, top) in pixels.
    """
    scale = max(target[0] / width, target[1] / height)
    resized = (max(target[0], round(width * scale)), max(target[1], round(height * scale)))
    return resized, ((resized[0] - target[0]) // 2, (resized[1] - target[1]) // 2)


def resize_cover_crop(frames: Tensor, width: int, height: int) -> Tensor:
    """Resize frames to cover a size and crop their center.

    Args:
        frames: (N, H, W, 3) in [0, 1].
    Returns:
        (N, height, width, 3) in [0, 1]; the very same frames if they have that size already.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    frames = _trim_overhang(frames, width, height)
    size, (left, top) = plan_cover_crop(frames.shape[2], frames.shape[1], (width, height))
    resized = F.interpolate(frames.movedim(-1, 1), size=size[::-1], mode="bicubic", antialias=True)
    return resized[:, :, top : top + height, left : left + width].movedim(1, -1).clamp(0.0, 1.0)


def _trim_overhang(frames: Tensor, width: int, height: int) -> Tensor:
    """Cut off most of what the center crop would remove: a strip of 1 x 1,000,000 px, resized, would fill terabytes.

    Args:
        frames: (N, H, W, 3).
    Returns:
        The center of each frame; resized to cover, it is at most four times the target on its long side.
    """
    rows, columns = frames.shape[1:3]
    kept_rows = min(rows, math.ceil(MAX_OVERHANG * columns * height / width))
    kept_columns = min(columns, math.ceil(MAX_OVERHANG * rows * width / height))
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return frames[:, top : top + kept_rows, left : left + kept_columns]


def num_latent_frames(length: int) -> int:
    """Return the latent frames T of a clip of 4 * (T - 1) + 1 frames."""
    return (length - 1) // FRAMES_PER_LATENT + 1


def num_frames_of(num_latent_frames: int) -> int:
    """Return the pixel frames that a clip of so many latent frames decodes to; 0 for none."""
    return FRAMES_PER_LATENT * (num_latent_frames - 1) + 1 if num_latent_frames > 0 else 0


def latent_shape(width: int, height: int, length: int) -> tuple[int, int, int, int, int]:
    """Return the shape (1, 16, T, height / 8, width / 8) of a clip's latent.

    Args:
        width, height: in pixels.
        length: in frames, 4n + 1.
    """
    ratio = SPATIAL_COMPRESSION
    return 1, LATENT_CHANNELS, num_latent_frames(length), height // ratio, width // ratio


def check_clip_size(width: int, height: int, length: int) -> None:
    """Refuse a clip size the model cannot make.

    Raises:
        ValueError: a side is not a multiple of 16, or the length is not 4n + 1.
    """
    for name, value in (("width", width), ("height", height)):
        if value < SIZE_MULTIPLE_PX or value % SIZE_MULTIPLE_PX:
            nearest = max(SIZE_MULTIPLE_PX, round(value / SIZE_MULTIPLE_PX) * SIZE_MULTIPLE_PX)
            raise ValueError(f"{name} is {value} px; it must be a multiple of 16. The nearest is {nearest}.")
    check_frame_count(length, "length")


def check_frame_count(count: int, name: str) -> None:
    """Refuse a number of frames that is not 4n + 1.

    Raises:
        ValueError: names the two counts around it.
    """
    if count < 1 or (count - 1) % FRAMES_PER_LATENT:
        below = max(1, (count - 1) // FRAMES_PER_LATENT * FRAMES_PER_LATENT + 1)
        raise ValueError(
            f"{name} is {count} frames; it must be 4n + 1 (1, 5, 9 ... 81, 121), because the VAE packs the first "
            f"frame alone and then four at a time. Use {below} or {below + FRAMES_PER_LATENT}."
        )


def check_pictures(pictures: Tensor, name: str) -> None:
    """Refuse an IMAGE batch no encoder can read.

    Args:
        pictures: (N, H, W, C) in [0, 1].
    Raises:
        ValueError: it has alpha or another number of channels than 3, is tiny, or holds NaN.
    """
    if pictures.ndim != 4 or pictures.shape[0] == 0:
        raise ValueError(f"{name} has shape {tuple(pictures.shape)}; an IMAGE batch (N, H, W, 3) is needed.")
    if pictures.shape[-1] != 3:
        what = "an alpha channel" if pictures.shape[-1] == 4 else f"{pictures.shape[-1]} channels"
        raise ValueError(
            f"{name} has {what}; 3 channels (RGB) are needed. Put 'Split Image with Alpha' in between, and composite "
            "over a background if the transparent parts matter."
        )
    height, width = pictures.shape[1:3]
    if min(height, width) < MIN_PICTURE_PX:
        raise ValueError(
            f"{name} is {width} x {height} px; at least {MIN_PICTURE_PX} px a side are needed to see anything in it. "
            "Connect a larger picture."
        )
    if not torch.isfinite(pictures).all():
        raise ValueError(f"{name} holds values that are not finite (NaN). Look at the node it comes from.")

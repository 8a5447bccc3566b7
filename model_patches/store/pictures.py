"""Read picture files of any origin: refuse broken ones, never block on one or run out of memory."""

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
# Pillow chooses by content, not by name; without this list an EPS called .png would start Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 512 * 1024**2


class PictureError(ValueError):
    """Why one picture file cannot be used; the text is for people."""


def is_picture_name(name: str) -> bool:
    """Say whether the name of a file is that of a picture."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        PictureError: not a regular file (a pipe would block for ever), empty, too large, or unreadable.
    """
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise PictureError("not a regular file")
        if info.st_size > MAX_FILE_BYTES:
            raise PictureError(
                f"{info.st_size / 2**20:.0f} MiB, more than the {MAX_FILE_BYTES // 2**20} MiB limit"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise PictureError("the file is gone") from None
    except OSError as error:
        raise PictureError(f"cannot be opened: {error.strerror or error}") from None
    if not data:
        raise PictureError("the file is empty")
    return data


def decode(data: bytes, *, at_least_px: int | None = None) -> tuple[Image.Image, str]:
    """Decode the bytes of a picture file.

    Args:
        data: the file.
        at_least_px: let a JPEG be decoded smaller, as long as its short side stays at or above this.

    Returns:
        The RGB picture, upright (EXIF rotation applied), the first frame of an animation; and a note on what was
        simplified ("animated, 12 frames: the first is used"), or "".

    Raises:
        PictureError: not a picture, more than ``MAX_PIXELS``, or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit of pixels is checked before anything is decoded
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                _check_pixels(image)
                note = _note(image)
                if at_least_px is not None:
                    image.draft("RGB" if image.mode != "CMYK" else "CMYK", (2 * at_least_px, 2 * at_least_px))
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image)), note
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError("announces far more pixels than any picture has (a decompression bomb?)") from None
    except UnidentifiedImageError:
        raise PictureError("not a picture that Pillow can read") from None
    except MemoryError:
        raise PictureError("does not fit into memory") from None
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged input
        raise PictureError(f"damaged: {error or type(error).__name__}") from None


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return an RGB picture as (1, H, W, 3) float32 in [0, 1]."""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).float().div_(255)[None]


def to_uint8(frames: torch.Tensor) -> torch.Tensor:
    """Round frames in [0, 1] to bytes, on the CPU."""
    return frames.detach().float().clamp(0, 1).mul(255).round().byte().cpu()


def to_image(frame: torch.Tensor) -> Image.Image:
    """Return one (H, W, C) frame in [0, 1] as an RGB picture; alpha is dropped."""
    return Image.fromarray(to_uint8(frame[..., :3]).numpy(), "RGB")


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # AVIF is optional in Pillow


def _check_pixels(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{width}x{height} is {width * height / 1e6:.0f} megapixels, more than the {MAX_PIXELS / 1e6:.0f} allowed"
        )
    if width < 1 or height < 1:
        raise PictureError(f"has no pixels ({width}x{height})")


def _note(image: Image.Image) -> str:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        return f"animated, {frames} frames: the first is used"
    if image.mode == "CMYK":
        return "CMYK: converted to RGB without its color profile"
    return ""


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.float32)
        return Image.fromarray((values / 257).clip(0, 255).round().astype(np.uint8), "L").convert("RGB")
    if image.mode == "F":
        values = np.asarray(image)
        scale = 255.0 if np.nanmax(values) <= 1 else 1.0
        gray = np.nan_to_num(values * scale).clip(0, 255).astype(np.uint8)
        return Image.fromarray(gray, "L").convert("RGB")
    return image.convert("RGB")

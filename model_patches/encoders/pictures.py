"""A picture as CLIP's vision towers were shown it in training."""

from PIL import Image


def clip_square(picture: Image.Image, side: int) -> Image.Image:
    """Return the center square of a picture whose short side is resized to ``side``.

    On 8-bit pixels, with Pillow's bicubic filter, the long side rounded down: pixel for pixel what transformers' PIL
    processor of CLIP makes.

    Args:
        side: in pixels.
    """
    short = min(picture.size)
    width, height = (side if length == short else int(side * length / short) for length in picture.size)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))

"""Resize and crop a picture as in the training of CLIP's vision towers."""

from PIL import Image


def clip_square(picture: Image.Image, side: int, *, short_side: int | None = None) -> Image.Image:
    """Resize a picture by its short side and return the center square.

    On 8-bit pixels, with Pillow's bicubic filter, the long side rounded down: the same pixels as from transformers' PIL
    processor of CLIP.

    Args:
        side: of the square, in pixels.
        short_side: what the short side is resized to, in pixels; ``side`` if None.
    """
    shortest = min(picture.size)
    width, height = ((short_side or side) * length // shortest for length in picture.size)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))

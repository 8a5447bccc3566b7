"""A picture fitted to the vision tower: pixel for pixel what transformers' processor makes, in every version of it."""

import numpy as np
import pytest
from magic141.model_patches.encoders.folders import load_image_processor
from magic141.model_patches.encoders.pictures import clip_square
from magic141.model_patches.sizes import BUCKETS
from PIL import Image

SIDE = 336
SIZES = [*BUCKETS["540p"], *BUCKETS["720p"], (336, 336), (337, 336), (64, 64), (40, 3000), (1001, 999)]


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    from transformers import CLIPImageProcessor

    folder = tmp_path_factory.mktemp("llava")
    square = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
    return load_image_processor(folder)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_pixel_is_the_processors(processor, width, height):
    shown = picture(width, height)
    theirs = processor(images=shown, do_rescale=False, do_normalize=False, return_tensors="np")[
        "pixel_values"
    ][0]
    assert np.array_equal(np.asarray(clip_square(shown, SIDE)), theirs.transpose(1, 2, 0))


def test_the_processor_works_with_pillow_whatever_is_installed(processor):
    """Pillow's bicubic at 960 x 544; torchvision's differs from it by up to 200 levels on this pattern."""
    shown = picture(960, 544)
    by_hand = shown.resize((592, SIDE), Image.Resampling.BICUBIC).crop((128, 0, 464, SIDE))
    theirs = processor(images=shown, do_rescale=False, do_normalize=False, return_tensors="np")[
        "pixel_values"
    ][0]
    assert np.array_equal(np.asarray(by_hand), theirs.transpose(1, 2, 0))

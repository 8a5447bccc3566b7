"""Sizes: the nearest bucket, resize to cover and centre crop, and what is refused before any work."""

import pytest
import torch
from magic141.model_patches.sizes import (
    BUCKETS,
    check_clip_size,
    check_pictures,
    nearest_bucket,
    num_latent_frames,
    plan_cover_crop,
    resize_cover_crop,
)


@pytest.mark.parametrize(
    ("picture", "family", "bucket"),
    [
        ((1920, 1080), "540p", (960, 544)),
        ((1080, 1920), "720p", (704, 1248)),
        ((500, 500), "540p", (720, 720)),
        ((4000, 3000), "720p", (1104, 832)),
        ((10000, 100), "540p", (960, 544)),
    ],
)
def test_nearest_bucket(picture, family, bucket):
    assert nearest_bucket(*picture, family) == bucket


def test_every_bucket_is_a_multiple_of_16():
    assert all(side % 16 == 0 for family in BUCKETS.values() for size in family for side in size)


@pytest.mark.parametrize("picture", [(640, 480), (480, 640), (64, 64), (1000, 17), (961, 545)])
def test_cover_crop_covers_without_distortion(picture):
    target = (96, 64)
    resized, offset = plan_cover_crop(*picture, target)
    assert resized[0] >= 96
    assert resized[1] >= 64
    assert 96 in resized or 64 in resized
    assert all(0 <= o <= r - t for o, r, t in zip(offset, resized, target, strict=True))


def test_the_centre_is_kept():
    picture = torch.zeros(1, 64, 192, 3)
    picture[:, :, 64:128] = 1.0
    assert torch.equal(resize_cover_crop(picture, 64, 64), torch.ones(1, 64, 64, 3))


@pytest.mark.parametrize("shape", [(1, 1_000_000), (1_000_000, 1)])
def test_a_very_long_strip_takes_no_more_memory_than_others(shape):
    """Resized whole, it would be a thousand million pixels long."""
    rows, columns = shape
    strip = torch.zeros(1, rows, columns, 3)
    middle = (slice(max(0, side // 2 - 8), side // 2 + 8) for side in shape)
    strip[:, *middle] = 1.0
    fitted = resize_cover_crop(strip, 1000, 1000)
    assert fitted.shape == (1, 1000, 1000, 3)
    assert fitted.min() > 0.99


def test_a_picture_of_the_right_size_is_not_touched():
    picture = torch.rand(2, 64, 96, 3)
    assert resize_cover_crop(picture, 96, 64) is picture


@pytest.mark.parametrize(("length", "latents"), [(1, 1), (5, 2), (13, 4), (81, 21), (121, 31), (129, 33)])
def test_latent_lengths(length, latents):
    assert num_latent_frames(length) == latents


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((60, 64, 13), "width is 60 px; it must be a multiple of 16. The nearest is 64"),
        ((64, 0, 13), "height is 0 px"),
        ((64, 64, 12), "length is 12 frames; it must be 4n .* Use 9 or 13"),
        ((64, 64, 0), "Use 1 or 5"),
    ],
)
def test_impossible_sizes_are_named(size, message):
    with pytest.raises(ValueError, match=message):
        check_clip_size(*size)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (torch.zeros(1, 64, 64, 4), "image has an alpha channel; 3 channels"),
        (torch.zeros(1, 64, 64, 1), "image has 1 channels"),
        (torch.zeros(1, 1, 1, 3), "image is 1 x 1 px; at least 8 px"),
        (torch.zeros(0, 64, 64, 3), "image has shape"),
        (torch.full((1, 64, 64, 3), float("nan")), "not finite"),
    ],
)
def test_unreadable_pictures_are_named(pictures, message):
    with pytest.raises(ValueError, match=message):
        check_pictures(pictures, "image")

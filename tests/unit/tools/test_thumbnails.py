"""Every workflow has a moving thumbnail, made of the frames of a video in their order."""

import io

import pytest
from magic141.tools.templates import TITLES, WORKFLOWS, template
from magic141.tools.thumbnails import MOST_BYTES, NOTE, SIDE_PX, STAND_INS, encode, evenly, thumbnail
from PIL import Image


@pytest.mark.parametrize("name", TITLES)
def test_every_workflow_has_a_thumbnail_that_moves(name):
    path = template(name).with_suffix(".jpg")
    with Image.open(path) as picture:
        assert picture.size == (SIDE_PX, SIDE_PX)
        assert picture.format == "WEBP"
        assert picture.n_frames > 1
    assert path.stat().st_size <= MOST_BYTES


def test_no_thumbnail_is_of_nothing():
    assert {path.stem for path in WORKFLOWS.glob("*.jpg")} == set(TITLES.values())
    assert set(STAND_INS) | set(STAND_INS.values()) <= set(TITLES)


def grays(count: int, size: tuple[int, int] = (64, 64)) -> list[Image.Image]:
    return [Image.new("RGB", size, (index * 4,) * 3) for index in range(count)]


def test_it_goes_from_the_first_frame_to_the_last():
    middles = [picture.getpixel((SIDE_PX // 2, SIDE_PX // 2))[0] // 4 for picture in thumbnail(grays(60))]
    assert middles[0] == 0
    assert middles[-1] == 59
    assert middles == sorted(middles)
    assert len(thumbnail(grays(13))) == 13


def test_a_wide_frame_is_shown_whole():
    (picture, *_) = thumbnail([Image.new("RGB", (132, 64), "#ffffff")])
    assert picture.getpixel((0, SIDE_PX // 2)) == picture.getpixel((SIDE_PX - 1, SIDE_PX // 2)) == (255,) * 3
    assert picture.getpixel((SIDE_PX // 2, 5)) != (255,) * 3


def test_a_note_takes_a_band_of_its_own():
    plain, noted = thumbnail(grays(13))[0], thumbnail(grays(13), NOTE)[0]
    assert plain.size == noted.size
    assert (
        plain.crop((0, SIDE_PX - 20, SIDE_PX, SIDE_PX)).tobytes()
        != noted.crop((0, SIDE_PX - 20, SIDE_PX, SIDE_PX)).tobytes()
    )


def test_it_plays_and_is_small_whatever_it_shows():
    turning = [
        Image.radial_gradient("L").resize((64, 64)).rotate(9 * step).convert("RGB") for step in range(12)
    ]
    data = encode(
        thumbnail(
            [Image.blend(frame, Image.effect_noise((64, 64), 60).convert("RGB"), 0.2) for frame in turning]
        )
    )
    assert len(data) <= MOST_BYTES
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.n_frames > 1


def test_frames_are_spread_evenly():
    assert evenly(list(range(13)), 4) == [0, 4, 8, 12]
    assert evenly([7], 4) == [7, 7, 7, 7]

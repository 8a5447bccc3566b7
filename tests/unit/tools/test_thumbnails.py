"""Every workflow has a thumbnail, and it is made of the frames of a video in their order."""

import pytest
from magic141.tools.thumbnails import NOTE, SIDE_PX, STAND_INS, WORKFLOWS, evenly, thumbnail
from PIL import Image

FILES = sorted(WORKFLOWS.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_workflow_has_a_thumbnail(path):
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.size == (SIDE_PX, SIDE_PX)
        assert picture.format == "JPEG"
    assert path.with_suffix(".jpg").stat().st_size < 100_000


def test_no_thumbnail_is_of_nothing():
    assert {path.stem for path in WORKFLOWS.glob("*.jpg")} == {path.stem for path in FILES}
    assert set(STAND_INS) | set(STAND_INS.values()) <= {path.stem for path in FILES}


def grays(count: int, size: tuple[int, int] = (64, 64)) -> list[Image.Image]:
    return [Image.new("RGB", size, (index * 4,) * 3) for index in range(count)]


def test_frames_go_from_the_first_to_the_last_in_reading_order():
    picture = thumbnail(grays(13))
    quarter = SIDE_PX // 4
    places = [(quarter, quarter), (3 * quarter, quarter), (quarter, 3 * quarter), (3 * quarter, 3 * quarter)]
    assert [picture.getpixel(place)[0] // 4 for place in places] == [0, 4, 8, 12]


def test_a_long_video_shows_nine_frames_and_two_clips_stand_side_by_side():
    assert thumbnail(grays(60)).getpixel((SIDE_PX - 20, SIDE_PX - 20))[0] == 59 * 4
    wide = thumbnail(grays(13, (132, 64)))
    assert wide.getpixel((20, SIDE_PX // 4))[0] == wide.getpixel((SIDE_PX - 20, SIDE_PX // 4))[0] == 0
    assert wide.getpixel((20, 3 * SIDE_PX // 4))[0] == 48


def test_a_note_takes_a_band_of_its_own():
    plain, noted = thumbnail(grays(13)), thumbnail(grays(13), NOTE)
    assert plain.size == noted.size
    assert plain.getpixel((SIDE_PX // 4, SIDE_PX - 10)) != noted.getpixel((SIDE_PX // 4, SIDE_PX - 10))


def test_frames_are_spread_evenly():
    assert evenly(list(range(13)), 4) == [0, 4, 8, 12]
    assert evenly([7], 4) == [7, 7, 7, 7]

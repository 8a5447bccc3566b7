"""Holding the colors of a clip to a palette: drift is taken back, what enters, leaves or is new is left alone."""

import pytest
import torch
from magic141.model_patches.window.palette import hold_palette, read_palette

SKY, GRASS, BALL = (torch.tensor(color) for color in ([0.5, 0.7, 0.9], [0.2, 0.5, 0.2], [0.9, 0.3, 0.1]))


def scene(*, sky=SKY, ball=BALL, ball_px=8, horizon=24, frames=2) -> torch.Tensor:
    """Return frames of 48 x 48 pixels: sky above grass, and a square ball."""
    picture = sky.expand(48, 48, 3).clone()
    picture[horizon:] = GRASS
    picture[4 : 4 + ball_px, 4 : 4 + ball_px] = ball
    return picture.repeat(frames, 1, 1, 1)


def test_the_palette_is_where_pixels_crowd():
    noise = 0.02 * torch.randn(2, 48, 48, 3, generator=torch.Generator().manual_seed(0))
    palette = read_palette(scene() + noise)
    assert len(palette.colors) == 3
    for wanted, share in ((GRASS, 24 / 48), (SKY, 24 / 48 - 64 / 48**2), (BALL, 64 / 48**2)):
        off = (palette.colors - wanted).norm(dim=-1)
        assert off.min() < 0.02
        assert palette.shares[off.argmin()] == pytest.approx(share, rel=0.2)


@pytest.mark.parametrize(("ball_px", "horizon"), [(8, 24), (20, 24), (5, 30), (8, 12)])
def test_a_drifted_color_comes_back_however_much_is_seen_of_each(ball_px, horizon):
    drift = torch.tensor([-0.03, 0.02, 0.01])
    drifted = scene(ball=BALL + drift, ball_px=ball_px, horizon=horizon)
    held = hold_palette(drifted, read_palette(scene()), 1.0)
    assert (held - scene(ball_px=ball_px, horizon=horizon)).abs().max() < 2 / 255
    half = hold_palette(drifted, read_palette(scene()), 0.5)
    assert (half[:, 5, 5] - (BALL + drift / 2)).abs().max() < 2 / 255


def test_every_color_is_moved_by_its_own_drift():
    drifted = scene(sky=SKY + 0.03, ball=BALL - torch.tensor([0.03, 0.0, 0.0]))
    held = hold_palette(drifted, read_palette(scene()), 1.0)
    assert (held - scene()).abs().max() < 2 / 255


def test_nothing_that_did_not_drift_is_changed():
    same = scene()
    assert (hold_palette(same, read_palette(same), 1.0) - same).abs().max() < 1e-5
    assert hold_palette(same, read_palette(scene(ball=BALL + 0.1)), 0.0) is same


def test_a_flat_color_keeps_its_bytes_while_an_object_grows():
    sky = torch.tensor([100.49, 150.49, 200.49]) / 255
    frames = scene(sky=sky, ball_px=20)
    held = hold_palette(frames, read_palette(scene(sky=sky)), 1.0)
    assert torch.equal((held * 255).round(), (frames * 255).round())


def test_a_color_that_is_gone_moves_nothing_and_a_new_one_stays():
    new = torch.tensor([0.9, 0.9, 0.2])
    held = hold_palette(scene(ball=new), read_palette(scene()), 1.0)
    assert (held - scene(ball=new)).abs().max() < 2 / 255


def test_a_gradient_stays_without_steps():
    ramp = torch.linspace(0, 1, 256)[None, None, :, None].expand(1, 8, 256, 3)
    held = hold_palette(ramp.contiguous(), read_palette(scene(sky=torch.tensor([0.55, 0.5, 0.45]))), 1.0)
    assert held.diff(dim=2).min() > -1 / 255, "brighter stays brighter"
    assert held.diff(dim=2).max() < 3 / 255


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (3, 16, 16, 4)])
def test_small_clips_and_more_channels(shape):
    frames = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    held = hold_palette(frames, read_palette(frames), 1.0)
    assert held.shape == frames.shape
    assert torch.equal(held[..., 3:], frames[..., 3:])
    assert held.isfinite().all()


def test_colors_stay_between_black_and_white():
    """Dark and light ones that drifted inwards are moved back, and no further than the ends."""
    noise = 0.02 * torch.randn(2, 48, 48, 3, generator=torch.Generator().manual_seed(0))
    dark, light = torch.full((3,), 0.02), torch.full((3,), 0.98)
    before = (scene(sky=light, ball=dark, ball_px=20) + noise).clamp(0, 1)
    drifted = (scene(sky=light - 0.05, ball=dark + 0.05, ball_px=20) + noise).clamp(0, 1)
    held = hold_palette(drifted, read_palette(before), 1.0)
    assert held[:, 10, 10].mean() < drifted[:, 10, 10].mean() - 0.02
    assert (held.min(), held.max()) == (0, 1)


def test_full_channels_are_colors_of_their_own():
    """1.0 belongs to the highest level, not to the lowest of the next channel."""
    picture = torch.zeros(1, 8, 8, 3)
    picture[:, :4] = torch.tensor([0.51, 1.0, 0.01])
    picture[:, 4:] = torch.tensor([0.57, 0.01, 0.01])
    palette = read_palette(picture)
    assert sorted(palette.colors[:, 1].round(decimals=1).tolist()) == [0.0, 1.0]


def test_colors_beyond_black_and_white_count_as_these():
    """An upscaler's overshoot at the edges."""
    beyond = scene(sky=torch.tensor([1.2, 1.2, 1.2]), ball=torch.tensor([-0.2, -0.2, -0.2]))
    palette, wanted = read_palette(beyond), read_palette(beyond.clamp(0, 1))
    assert torch.equal(palette.colors, wanted.colors)
    drifted = beyond * 0.97
    held = hold_palette(drifted, wanted, 1.0)
    torch.testing.assert_close(
        held, hold_palette(drifted.clamp(0, 1), wanted, 1.0).clamp(0, 1), atol=0.01, rtol=0
    )


def test_large_frames_are_read_at_some_of_their_pixels_the_same_every_time():
    large = scene().repeat_interleave(8, 1).repeat_interleave(8, 2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    palette = read_palette(large)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(read_palette(large).shares, palette.shares)
    small = read_palette(scene())
    torch.testing.assert_close(palette.colors, small.colors, atol=1e-3, rtol=0)
    torch.testing.assert_close(palette.shares, small.shares, atol=5e-3, rtol=0)
    assert not torch.equal(palette.shares, small.shares), "not all pixels are read"


@pytest.mark.parametrize(("share", "moved"), [(0.05, 0.0), (0.2, 0.5), (0.4, 1.0)])
def test_a_color_counts_by_how_much_of_it_is_left(share, moved):
    """None below a tenth of its former size, all above three tenths."""
    drift = torch.tensor([0.0, 0.04, 0.0])
    before = SKY.expand(100, 100, 3).clone()
    after = before.clone()
    before[:50, :20] = BALL
    after[: int(50 * share), :20] = BALL + drift
    held = hold_palette(after[None], read_palette(before[None]), 1.0)
    assert float((after[0, 0] - held[0, 0, 0])[1]) == pytest.approx(0.04 * moved, abs=0.004)


def test_specks_begin_no_color_of_the_palette():
    picture = SKY.expand(100, 100, 3).clone()
    picture[0, :19] = GRASS
    assert len(read_palette(picture[None]).colors) == 1
    picture[0, :21] = GRASS
    assert len(read_palette(picture[None]).colors) == 2


def test_colors_twice_the_radius_apart_are_two():
    def palette(apart: float):
        picture = torch.full((100, 100, 3), 0.3)
        picture[:40, :, 0] += apart
        return read_palette(picture[None])

    assert len(palette(0.235).colors) == 1
    assert len(palette(0.245).colors) == 2


@pytest.mark.parametrize(("pixels", "colors"), [(20, 2), (19, 1)])
def test_a_color_begins_with_two_pixels_of_a_thousand(pixels, colors):
    picture = SKY.expand(100, 100, 3).clone()
    picture[0, :pixels] = GRASS
    assert len(read_palette(picture[None]).colors) == colors


@pytest.mark.parametrize(("apart", "moved"), [(0.2, 1.0), (0.6, 0.0)])
def test_what_is_near_a_color_moves_with_it_and_what_is_far_stays(apart, moved):
    speck = torch.tensor([0.5, 0.5, 0.5]) - torch.tensor([apart, 0.0, 0.0]).clamp(max=0.5)
    speck[1] -= max(0.0, apart - 0.5) + (0.3 if apart > 0.5 else 0)
    before = torch.full((100, 100, 3), 0.5)
    after = before + torch.tensor([0.0, 0.0, 0.04])
    after[0, :9] = speck
    held = hold_palette(after[None], read_palette(before[None]), 1.0)
    assert float((after[0, 4] - held[0, 0, 4])[2]) == pytest.approx(0.04 * moved, abs=0.006)


@pytest.mark.parametrize(
    ("drift", "moved"), [(0.11, True), (0.13, False), (0.6 / 255, True), (0.4 / 255, False)]
)
def test_drifts_too_large_or_too_small_move_nothing(drift, moved):
    before = torch.full((16, 16, 3), 0.5)
    after = before + torch.tensor([drift, 0.0, 0.0])
    held = hold_palette(after[None], read_palette(before[None]), 1.0)
    left = (held[0] - before).abs().max()
    assert float(left) == pytest.approx(0.0 if moved else drift, abs=drift / 5)

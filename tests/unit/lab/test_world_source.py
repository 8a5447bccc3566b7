"""The shapes world as a training set, and judging a model on it, with made-up latents and states."""

import torch
from magic141.lab import world
from magic141.lab.experiment.features import FeatureNet
from magic141.lab.experiment.guidance_error import guidance_errors
from magic141.lab.experiment.judge import (
    Player,
    Sampling,
    judge,
    measure_coverage,
    reference_features,
    summarise,
)
from magic141.lab.models.drift import (
    MOST_MELTED,
    MOST_PACE,
    MOST_TURNED_DEG,
    Melting,
    melted,
    melted_scenes,
    swerved,
    swerved_way,
    with_model_errors,
)
from magic141.lab.models.source import NAMED, OPEN, HeldOutSource, Windows, WorldSource
from magic141.model_patches.training.losses import per_clip
from magic141.model_patches.training.twin import from_host, with_guidance
from magic141.tests.support.made_up_world import COUNT, SCENES, dataset
from magic141.tests.support.tiny_dit import TEXT_WIDTH, tiny_dit


def decode(latents: torch.Tensor) -> torch.Tensor:
    """Return (B, 13, 3, 64, 64) of any four latents: the truth of nothing, but frames."""
    frames = latents[:, :3].sigmoid().repeat_interleave(4, 2)[:, :, 3:].transpose(1, 2)
    return frames.repeat_interleave(8, -1).repeat_interleave(8, -2)


def test_training_windows():
    data = dataset()
    source = WorldSource(data, image=True, family_shares=(0.0, 1.0, 0.0))
    rows = torch.arange(COUNT).repeat(8)
    batch = source.batch(rows, torch.Generator().manual_seed(2))
    assert batch.latents.shape == (48, 16, 4, 8, 8)
    assert set(batch.num_known.tolist()) == {1, 2, 3}
    assert torch.equal(batch.mask.sum(1), 5 + data.lengths[rows, OPEN])
    assert batch.null_states.shape == (48, 5 + 2, TEXT_WIDTH)
    windows = source.windows(rows, torch.Generator().manual_seed(2))
    assert set(windows.start.tolist()) == {0, 1, 2, 3}
    for i, (row, start) in enumerate(zip(rows.tolist(), windows.start.tolist(), strict=True)):
        assert torch.equal(batch.latents[i], data.latents[row, :, start : start + 4].float())
        last_known = start + windows.num_known[i] - 1
        assert start == 0 or last_known == data.start[row]
        seen = data.image_states[row, min(start, 1)].float()
        assert torch.equal(batch.states[i, :5], seen)
        assert torch.equal(batch.null_states[i, :5], seen)


def melting() -> Melting:
    generator = torch.Generator().manual_seed(9)
    return Melting(
        torch.randn(COUNT, 16, 7, 8, 8, generator=generator).half(),
        torch.randn(COUNT, 5, TEXT_WIDTH, generator=generator).half(),
    )


def test_scenes_melt_into_other_shapes_in_the_same_place_and_motion():
    scenes = world.sample_scenes(400, generator=torch.Generator().manual_seed(0))
    into = melted_scenes(scenes, torch.Generator().manual_seed(1))
    assert (into.shape != scenes.shape).all()
    assert 0.4 < (into.colour != scenes.colour).float().mean() < 0.6
    had, has = scenes.second_colour >= 0, into.second_colour >= 0
    assert 0.4 < (had != has).float().mean() < 0.6
    assert (into.second_colour[has & ~had] != scenes.colour[has & ~had]).all()
    for name in ("place", "jitter", "direction", "speed", "size", "background"):
        assert torch.equal(getattr(into, name), getattr(scenes, name))


def test_windows_in_mid_motion_have_begun_to_melt():
    source = WorldSource(dataset(), image=True, family_shares=(0.0, 1.0, 0.0))
    windows = source.windows(torch.arange(COUNT).repeat(20), torch.Generator().manual_seed(2))
    batch, others = source.window_batch(windows), melting()
    told = melted(others, source, windows, batch, torch.Generator().manual_seed(3))
    changed = (told.latents != batch.latents).flatten(1).any(1)
    assert not changed[windows.start == 0].any()
    assert 0.4 < changed[windows.start > 0].float().mean() < 0.8
    for i in changed.nonzero()[:, 0].tolist():
        row, start = windows.rows[i], windows.start[i]
        into = others.latents[row, :, start : start + 4].float()
        shares = (told.latents[i] - batch.latents[i]) / (into - batch.latents[i])
        share = shares.nanmedian()
        assert 0 < share < MOST_MELTED
        assert torch.allclose(told.latents[i], batch.latents[i].lerp(into, share), atol=1e-4)
        seen = others.image_states[row].float() if share > MOST_MELTED / 2 else batch.states[i, :5]
        assert torch.equal(told.states[i, :5], seen)
        assert torch.equal(told.null_states[i, :5], seen)
    assert torch.equal(told.states[:, 5:], batch.states[:, 5:])


def test_objects_swerve_back_to_their_own_way():
    scenes = world.sample_scenes(200, generator=torch.Generator().manual_seed(0))
    bend = torch.full((200,), 8)
    way = swerved_way(scenes, bend, torch.Generator().manual_seed(1))
    assert torch.allclose(way[:, 8], scenes.start_px + 8 * scenes.velocity_px, atol=1e-3)
    steps, own = way.diff(dim=1), scenes.velocity_px[:, None]
    turned = torch.rad2deg(torch.acos(torch.cosine_similarity(steps, own, dim=-1).clamp(-1, 1)))
    pace = steps.norm(dim=-1) / own.norm(dim=-1)
    assert MOST_TURNED_DEG / 4 < turned.mean() < turned.max() <= MOST_TURNED_DEG + 0.1
    assert 1 / MOST_PACE <= pace.min() + 1e-3 < pace.max() <= MOST_PACE + 1e-3
    assert pace.std() > 0.05


def test_windows_in_mid_motion_know_objects_that_have_swerved():
    source = WorldSource(dataset(), image=True, family_shares=(0.0, 1.0, 0.0))
    windows = source.windows(torch.arange(COUNT).repeat(20), torch.Generator().manual_seed(2))
    batch = source.window_batch(windows)
    ways = torch.randn(COUNT, 16, 4, 8, 8, generator=torch.Generator().manual_seed(4)).half()
    told = swerved(ways, windows, batch, torch.Generator().manual_seed(3))
    changed = (told.latents != batch.latents).flatten(1).any(1)
    assert not changed[windows.start == 0].any()
    assert 0.6 < changed[windows.start > 0].float().mean() < 0.9
    for i in changed.nonzero()[:, 0].tolist():
        row, start, known = windows.rows[i], int(windows.start[i]), int(windows.num_known[i])
        assert torch.equal(told.latents[i, :, :known], ways[row, :, start : start + known].float())
        assert torch.equal(told.latents[i, :, known:], batch.latents[i, :, known:])


def test_windows_in_mid_motion_know_what_a_model_has_made():
    source = WorldSource(dataset(), image=True, family_shares=(0.0, 1.0, 0.0))
    windows = source.windows(torch.arange(COUNT).repeat(8), torch.Generator().manual_seed(2))
    batch, model = source.window_batch(windows), from_host(tiny_dit(patch=1))
    told = with_model_errors(model, source, windows, batch, torch.Generator().manual_seed(3))
    changed = (told.latents != batch.latents).flatten(2).any(2).any(1)
    middle = windows.start > 0
    assert not changed[~middle].any()
    assert 0.5 < changed[middle].float().mean() < 1
    assert torch.equal(told.latents[:, :, 3:], batch.latents[:, :, 3:])
    again = with_model_errors(model, source, windows, batch, torch.Generator().manual_seed(3))
    assert torch.equal(told.latents, again.latents)


def test_a_model_that_finds_the_clip_wears_nothing():
    source = WorldSource(dataset(), image=True, family_shares=(0.0, 1.0, 0.0))
    windows = Windows(
        torch.arange(4),
        torch.ones(4, dtype=torch.long),
        torch.ones(4, dtype=torch.long),
        torch.tensor([1, 2, 3, 2]),
    )
    batch = source.window_batch(windows)
    earlier = source.window_batch(Windows(windows.rows, windows.family, windows.start - 1, windows.start))

    def model(hidden_states: torch.Tensor, timestep: torch.Tensor, **_) -> tuple[torch.Tensor]:
        return ((hidden_states[:, :16] - earlier.latents) / per_clip(timestep / 1000, earlier.latents),)

    told = with_model_errors(model, source, windows, batch, torch.Generator().manual_seed(3))
    assert torch.allclose(told.latents, batch.latents, atol=1e-4)


def test_text_to_video_knows_no_frame_and_sees_no_image():
    data = dataset()
    source = WorldSource(data, image=False, family_shares=(0.5, 0.0, 0.5))
    batch = source.batch(torch.arange(COUNT), torch.Generator().manual_seed(2))
    assert batch.num_known.tolist() == [0] * COUNT
    assert torch.equal(batch.latents, data.latents[:, :, :4].float())
    assert batch.null_states.shape[1] == 2


def test_the_same_generator_gives_the_same_batch():
    source = WorldSource(dataset(), image=True, family_shares=(0.5, 0.5, 0.0))
    one, two = (source.batch(torch.arange(4), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.latents, two.latents)
    assert torch.equal(one.states, two.states)


def test_judging_a_model():
    source = HeldOutSource(dataset(), image=True, family=OPEN)
    player, net = Player(tiny_dit(patch=1), precision="float32"), FeatureNet()
    judged = judge(player, source, SCENES, decode, net, Sampling(2, guidance_w=1.0))
    again = judge(player, source, SCENES, decode, net, Sampling(2, guidance_w=1.0))
    assert all(torch.equal(judged[name], again[name]) for name in judged)
    row = summarise(judged, reference_features(source, decode, net))
    assert row["clips"] == COUNT
    assert row["clean_rate_low"] <= row["clean_rate"] <= row["clean_rate_high"]
    assert row["tiny_frechet"] >= 0
    measure_coverage(player, source, SCENES, decode, Sampling(1), prompts=1, samples=2)


def test_a_model_of_text_alone_is_judged():
    source = HeldOutSource(dataset(), image=False, family=NAMED)
    judged = judge(
        Player(tiny_dit(16, patch=1)), source, SCENES, decode, None, Sampling(1, sampler="renoise")
    )
    assert "features" not in judged


def test_guidance_error_of_a_student_that_ignores_guidance_is_one():
    teacher = tiny_dit(patch=1)
    errors = guidance_errors(
        teacher, with_guidance(teacher), HeldOutSource(dataset(), image=True, family=OPEN)
    )
    assert all(abs(value - 1) < 1e-3 for value in errors.values())
    assert "cfg_rel_error_max" in errors

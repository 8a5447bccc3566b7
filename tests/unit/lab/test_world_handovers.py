"""Hand-overs of a model's own long videos as training windows, with made-up latents."""

from dataclasses import replace

import pytest
import torch
from magic141.lab import world
from magic141.lab.experiment import run as experiment
from magic141.lab.experiment.students import few_step
from magic141.lab.models import handovers
from magic141.lab.models.answers import AnsweredSource
from magic141.lab.models.drift import DriftingSource
from magic141.lab.models.handovers import (
    HANDED_SHARE,
    KNOWN,
    HandOvers,
    LongVideos,
    nearest_allowed,
    played_hand_overs,
)
from magic141.lab.models.player import Sampling
from magic141.lab.models.source import OPEN, WorldSource
from magic141.lab.world.measure import centroid_offset_px
from magic141.model_patches.dit.keys import diffusers_to_host
from magic141.model_patches.training.twin import from_host
from magic141.tests.support.tiny_dit import tiny_dit
from safetensors.torch import save_file

from .test_world_source import COUNT, SCENES, dataset

NUM = 5


def hand_overs() -> HandOvers:
    generator = torch.Generator().manual_seed(5)
    return HandOvers(
        rows=torch.tensor([0, 1, 2, 3, 4]),
        family=torch.full((NUM,), OPEN),
        motion=torch.arange(NUM),
        turned_deg=torch.tensor([0.0, 10.0, 20.0, 30.0, 90.0]),
        made=torch.randn(NUM, 16, KNOWN, 8, 8, generator=generator).half(),
        latents=torch.randn(NUM, 16, 4, 8, 8, generator=generator).half(),
        image_states=torch.randn(NUM, 5, dataset().states.shape[-1], generator=generator).half(),
    )


def test_hand_overs_take_the_place_of_windows_of_two_known_latents():
    source = WorldSource(dataset(), image=True, family_shares=(0.5, 0.5, 0.0))
    before = source.windows(torch.arange(COUNT).repeat(100), torch.Generator().manual_seed(2))
    after, places, index = hand_overs().draw(before, torch.Generator().manual_seed(3))
    assert (before.num_known[places] == KNOWN).all()
    assert abs(len(places) / (before.num_known == KNOWN).sum() - HANDED_SHARE) < 0.1
    assert torch.equal(after.rows[places], index)
    assert (after.family[places] == OPEN).all()
    assert (after.start[places] > 0).all()
    others = torch.ones(len(before.rows), dtype=torch.bool).index_fill(0, places, False)
    assert torch.equal(after.rows[others], before.rows[others])
    assert torch.equal(after.start[others], before.start[others])


def test_hand_overs_of_turned_objects_are_drawn_more_often():
    source = WorldSource(dataset(), image=True, family_shares=(0.5, 0.5, 0.0), known_shares=(0.0, 1.0, 0.0))
    before = source.windows(torch.arange(COUNT).repeat(400), torch.Generator().manual_seed(2))

    def shares(given: HandOvers, turned_share: float | None) -> torch.Tensor:
        drawn = given.draw(before, torch.Generator().manual_seed(3), turned_share=turned_share)
        return torch.bincount(drawn[2], minlength=NUM) / len(drawn[2])

    alike, turned = torch.full((NUM,), 1 / NUM), torch.tensor([0.1, 0.1, 0.35, 0.35, 0.1])
    straight = replace(hand_overs(), turned_deg=torch.zeros(NUM))
    for given, share, wanted in (
        (hand_overs(), None, alike),
        (hand_overs(), 0.7, turned),
        (straight, 0.7, alike),
    ):
        assert torch.allclose(shares(given, share), wanted, atol=0.04)


def test_a_window_knows_what_was_made_and_the_truth_is_the_answer():
    given, data = hand_overs(), dataset()
    source = WorldSource(data, image=True, family_shares=(0.0, 1.0, 0.0))
    index, places = torch.tensor([3, 1]), torch.tensor([1, 2])
    windows = given.windows(torch.tensor([0, 3, 1]))
    batch = source.window_batch(windows)
    truth = given.truth(batch, places, index)
    told = given.with_made(batch, places, index, image_states=True)
    assert torch.equal(truth.latents[places], given.latents[index].float())
    assert torch.equal(told.latents[places, :, :KNOWN], given.made[index].float())
    assert torch.equal(told.latents[places, :, KNOWN:], given.latents[index, :, KNOWN:].float())
    assert torch.equal(told.states[places, :5], given.image_states[index].float())
    assert torch.equal(told.null_states[places, :5], given.image_states[index].float())
    assert torch.equal(told.states[:, 5:], batch.states[:, 5:])
    for name in ("latents", "states"):
        assert torch.equal(getattr(told, name)[0], getattr(batch, name)[0])
    blind = replace(source.window_batch(windows), states=batch.states)
    assert torch.equal(given.with_made(blind, places, index, image_states=False).states, blind.states)


def test_objects_go_on_in_the_nearest_way_that_the_caption_allows():
    scenes = world.sample_scenes(200, generator=torch.Generator().manual_seed(0), second_share=0.0)
    _, allowed = world.open_caption(scenes, generator=torch.Generator().manual_seed(1))
    turned = torch.deg2rad(torch.tensor(40.0))
    x, y = scenes.velocity_px.unbind(1)
    came = torch.stack([x * turned.cos() - y * turned.sin(), x * turned.sin() + y * turned.cos()], 1)
    track = (scenes.start_px[:, None] + came[:, None] * torch.arange(9)[None, :, None]) % world.SIDE_PX
    assert torch.equal(nearest_allowed(track, allowed), scenes.motion)


def test_centroids_are_read_where_objects_are():
    scenes = world.sample_scenes(60, generator=torch.Generator().manual_seed(0), second_share=0.0)
    read = world.read_clip(world.render_clip(scenes, 1), with_shape="none").centroid_px[:, 0]
    assert torch.allclose(read - centroid_offset_px(scenes), scenes.start_px % world.SIDE_PX, atol=0.1)


class PixelVae:
    """Latents that are small pictures: the first frame, then every fourth."""

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(clips[:, ::4].flatten(0, 1), 8).unflatten(0, (len(clips), -1))
        return torch.cat([small.transpose(1, 2)] * 6, 1)[:, :16]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        frames = latents[:, :3].transpose(1, 2).repeat_interleave(4, 1)[:, 3:]
        return frames.repeat_interleave(8, -1).repeat_interleave(8, -2)


@pytest.fixture
def encoders(monkeypatch):
    """Return encoders of a world whose every object is followed."""
    states = torch.randn(COUNT, 5, dataset().states.shape[-1], generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(handovers, "image_batch", lambda _vlm, _tokenizer, images: states[: len(images)])
    monkeypatch.setattr(handovers, "PRESENT", (-1.0, torch.inf))
    return type("Encoders", (), {"vae": PixelVae(), "vlm": None, "llm_tokenizer": None})()


def tiny_weights() -> dict[str, torch.Tensor]:
    return diffusers_to_host(from_host(tiny_dit(patch=1)).state_dict())


def test_long_videos_are_played_and_drawn_on(encoders):
    videos, weights, rows = LongVideos(dataset(), SCENES, encoders), tiny_weights(), torch.arange(4)
    first, second = videos.play(weights, rows, Sampling(2), windows=2, seed=1)
    again = next(iter(videos.play(weights, rows, Sampling(2), windows=1, seed=1)))
    for given in (first, second):
        assert torch.equal(given.rows, rows)
        assert given.made.shape == (4, 16, 2, 8, 8)
        assert given.latents.shape == (4, 16, 4, 8, 8)
    assert torch.equal(first.made, again.made)
    assert not torch.equal(first.made, second.made)
    assert ((first.turned_deg >= 0) & (first.turned_deg <= 180)).all()
    joined = HandOvers.joined([first, second])
    assert len(joined) == 8


def test_long_videos_are_played_once(encoders, monkeypatch, tmp_path):
    monkeypatch.setattr(handovers.Encoders, "trained", lambda: encoders)
    monkeypatch.setattr(handovers, "POOL_CLIPS", 2)

    def play() -> HandOvers:
        return played_hand_overs(
            tiny_weights(),
            dataset(),
            SCENES,
            Sampling(1),
            tmp_path / "of a student",
            videos=3,
            windows=2,
            open_share=1.0,
        )

    played = play()
    assert len(played) == 6
    assert (played.family == OPEN).all()
    monkeypatch.setattr(handovers.Encoders, "trained", None)
    assert torch.equal(play().made, played.made)


def test_a_student_learns_from_the_long_videos_of_the_one_before(encoders, monkeypatch, tmp_path):
    monkeypatch.setattr(handovers.Encoders, "trained", lambda: encoders)
    monkeypatch.setattr(experiment, "PLAYED_WINDOWS", 2)
    bench = experiment.Experiment.__new__(experiment.Experiment)
    bench.seed, bench.folder, bench.drift = 0, tmp_path, None
    bench.train_set, bench.train_scenes = dataset(), SCENES
    student = replace(few_step("ti2v", 2), start="before", long_videos=3)

    def source(weights: dict[str, torch.Tensor]):
        save_file(weights, tmp_path / "before.safetensors")
        return bench.source(student, student.config(seed=0, updates=1, batch_size=2))

    first = source(tiny_weights())
    assert isinstance(first, AnsweredSource)
    assert len(first.handed) == 6
    monkeypatch.setattr(handovers.Encoders, "trained", None)
    assert torch.equal(source(tiny_weights()).handed.made, first.handed.made)
    monkeypatch.setattr(handovers.Encoders, "trained", lambda: encoders)
    other = {key: 1.1 * value for key, value in tiny_weights().items()}
    assert not torch.equal(source(other).handed.made, first.handed.made)
    student = replace(student, long_videos=0)
    assert isinstance(source(other), DriftingSource)

"""The clips of a model that makes no error: true ones, whose futures are drawn from those a caption allows."""

import pytest
import torch
from magic141.lab import world
from magic141.lab.experiment.features import FeatureNet
from magic141.lab.experiment.judge import other_future_features, render_futures
from magic141.lab.models.data import decode_clips, encode_clips
from magic141.lab.models.shipped import shipped_vae_weights
from magic141.lab.models.source import NAMED, OPEN, HeldOutSource
from magic141.lab.models.taehv import narrow_network
from magic141.lab.world.measure import motion_of
from magic141.tests.support.made_up_world import SCENES, dataset


@pytest.fixture(scope="module")
def vae():
    return narrow_network(shipped_vae_weights())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_scenes_are_drawn_with_another_motion():
    assert torch.equal(render_futures(SCENES, SCENES.motion), world.render_clip(SCENES, 13))
    motion = (SCENES.motion + 5) % 16
    clips = render_futures(SCENES, motion)
    assert torch.equal(clips[:, 0], world.render_clip(SCENES, 1)[:, 0])
    alone = SCENES.second_colour < 0
    assert alone.any()
    read, _ = motion_of(world.read_clip(clips[alone], with_shape="none").centroid_px)
    assert torch.equal(read, motion[alone])


def test_a_caption_that_allows_one_future_gets_the_truth(vae):
    net, source = FeatureNet(), HeldOutSource(dataset(), image=True, family=NAMED)
    again = decode_clips(vae, encode_clips(vae, world.render_clip(SCENES, 13)))
    with torch.no_grad():
        wanted = net.features(again)
    torch.testing.assert_close(other_future_features(source, SCENES, vae, net, seeded(1)), wanted)


def test_an_open_caption_gets_futures_by_chance(vae):
    net, source = FeatureNet(), HeldOutSource(dataset(), image=True, family=OPEN)
    one, same, other = (other_future_features(source, SCENES, vae, net, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)

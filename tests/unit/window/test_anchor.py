"""Anchoring of latent statistics."""

import pytest
import torch
from magic141.model_patches.window.anchor import anchor_latent, latent_statistics


@pytest.fixture
def drifted():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(2, 16, 4, 8, 8, generator=generator)
    return first, torch.randn(2, 16, 3, 8, 8, generator=generator) * 1.4 + 0.3


def test_full_strength_gives_the_reference_statistics(drifted):
    first, later = drifted
    anchored = latent_statistics(anchor_latent(later, latent_statistics(first), 1.0))
    wanted = latent_statistics(first)
    torch.testing.assert_close(anchored.mean, wanted.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(anchored.std, wanted.std, atol=1e-4, rtol=1e-4)


def test_zero_strength_changes_nothing_and_half_goes_half_way(drifted):
    first, later = drifted
    reference = latent_statistics(first)
    assert anchor_latent(later, reference, 0.0) is later
    half = latent_statistics(anchor_latent(later, reference, 0.5)).mean
    torch.testing.assert_close(half, (reference.mean + latent_statistics(later).mean) / 2, atol=1e-5, rtol=0)


def test_a_flat_channel_stays_finite():
    flat = torch.zeros(1, 1, 2, 4, 4)
    assert anchor_latent(flat, latent_statistics(torch.randn(1, 1, 2, 4, 4)), 1.0).isfinite().all()


def test_strength_outside_its_range_is_refused(drifted):
    with pytest.raises(ValueError, match="anchor strength"):
        anchor_latent(drifted[1], latent_statistics(drifted[0]), 1.5)

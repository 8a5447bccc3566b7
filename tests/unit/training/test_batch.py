"""A batch on its way to the device: precision, rows, and what a subclass adds."""

from dataclasses import dataclass

import pytest
import torch
from magic141.model_patches.training.batch import TrainingBatch
from magic141.tests.support.tiny_source import TinySource
from torch import Tensor


@dataclass(frozen=True)
class WithRewards(TrainingBatch):
    rewards: Tensor | None = None
    weights: Tensor | None = None


def batch(dtype: torch.dtype = torch.float32) -> WithRewards:
    values = vars(TinySource().batch(torch.arange(3), torch.Generator().manual_seed(0)))
    made = {k: v.to(dtype) if v.is_floating_point() else v for k, v in values.items()}
    return WithRewards(**made, rewards=torch.arange(3).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_tensors_become_float32_and_others_stay(dtype):
    before, moved = batch(dtype), batch(dtype).to("cpu")
    assert isinstance(moved, WithRewards)
    for name, value in vars(moved).items():
        original = getattr(before, name)
        if original is None:
            assert value is None
        else:
            assert value.dtype == (torch.float32 if original.is_floating_point() else original.dtype), name
            assert torch.equal(value, original.to(value.dtype))
    assert batch().to("meta").latents.is_meta


def test_rows_are_chosen_by_number_or_mask():
    whole = batch()
    for index in (torch.tensor([2, 0]), torch.tensor([True, False, True])):
        chosen = whole[index]
        assert len(chosen) == 2
        assert torch.equal(chosen.latents, whole.latents[index])
        assert torch.equal(chosen.mask, whole.mask[index])
        assert torch.equal(chosen.rewards, whole.rewards[index])
        assert chosen.weights is None


def test_only_what_backward_refuses_is_copied():
    plain = batch()
    assert plain.to("cpu").latents is plain.latents
    with torch.inference_mode():
        made = batch()
    moved = made.to("cpu")
    weight = torch.ones((), requires_grad=True)
    (weight * moved.latents).sum().backward()
    assert torch.equal(weight.grad, made.latents.sum())

"""The few-step schedule."""

import pytest
import torch
from magic141.model_patches.schedule import few_step_sigmas


def test_four_steps_at_shift_five():
    assert torch.allclose(few_step_sigmas(4), torch.tensor([1.0, 0.9375, 0.833333, 0.625, 0.0]), atol=1e-6)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 8, 16, 28, 56, 1000])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 7.0])
def test_descends_from_one_to_zero(num_steps, shift):
    sigmas = few_step_sigmas(num_steps, shift)
    assert sigmas.shape == (num_steps + 1,)
    assert sigmas.dtype == torch.float32
    assert sigmas[0] == 1.0
    assert sigmas[-1] == 0.0
    assert (sigmas.diff() < 0).all()


def test_shift_one_is_even():
    assert torch.allclose(few_step_sigmas(10, 1.0).diff(), torch.tensor(-0.1))


@pytest.mark.parametrize(
    ("num_steps", "shift", "said"),
    [(0, 5.0, "steps is 0"), (4, 0.0, "shift is 0"), (4, float("nan"), "shift is nan")],
)
def test_bad_values_are_named(num_steps, shift, said):
    with pytest.raises(ValueError, match=said):
        few_step_sigmas(num_steps, shift)

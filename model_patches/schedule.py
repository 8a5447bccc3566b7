"""The few-step schedule: linear in time, shifted towards noise, in closed form for any number of steps."""

import torch
from torch import Tensor

DEFAULT_SHIFT = 5.0
DEFAULT_STEPS = 4


def few_step_sigmas(num_steps: int, shift: float = DEFAULT_SHIFT) -> Tensor:
    """Return the noise levels of ``num_steps`` denoising steps.

    Args:
        num_steps: 1 or more.
        shift: s in sigma' = s*sigma / (1 + (s-1)*sigma); 1 leaves the steps even.
    Returns:
        (num_steps + 1,) float32, from 1 down to 0. Four steps at shift 5: 1, 0.9375, 0.8333, 0.625, 0.
    Raises:
        ValueError: fewer than one step, or a shift that is not positive.
    Source: Magic141 inference code, FlowMatchDiscreteScheduler.
    """
    if num_steps < 1:
        raise ValueError(f"steps is {num_steps}; at least 1 is needed.")
    if not shift > 0:
        raise ValueError(f"shift is {shift}; it must be greater than 0 (this model was trained for 5).")
    sigmas = torch.linspace(1.0, 0.0, num_steps + 1, dtype=torch.float64)
    return (shift * sigmas / (1.0 + (shift - 1.0) * sigmas)).float()

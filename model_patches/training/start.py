"""Start a student from other weights than its teacher's, such as the same model with a few-step LoRA on it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..dit.keys import host_to_diffusers
from .adapters import STUDENT, adapter_parameters

MOST_LOST = 0.1
"""Share of the difference, by its norm, that may be lost: rounding a few-step LoRA to 16 bits loses less."""
SPARE = 8
"""Extra directions to project on, so that the wanted ones are found accurately."""


def check_same_layout(teacher: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not of the teacher's shapes.

    Raises:
        ValueError: names a weight that the teacher does not have, or has in another shape.
    """
    for key, weight in start.items():
        if key not in teacher or teacher[key].shape != weight.shape:
            wanted = tuple(teacher[key].shape) if key in teacher else "no such weight"
            raise ValueError(
                f"The student to start from is another model than its teacher: {key} is {tuple(weight.shape)} there,"
                f" the teacher has {wanted}. Start from the same model with a LoRA on it, or from a fine-tune of it."
            )


@torch.no_grad()
def start_adapters(model: nn.Module, teacher: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
    """Set a twin's student adapters to the difference between two host state dicts of one layout.

    Rows of the factors A keep the length that peft draws them with, so that a learning rate means the same.

    Args:
        teacher: what the twin was built from.
        start: what the student should be; missing keys are the teacher's.

    Raises:
        ValueError: the difference has a higher rank than the adapters, or lies in weights without one.
    """
    parameters = adapter_parameters(model, STUDENT)
    down, up = f".lora_A.{STUDENT}.weight", f".lora_B.{STUDENT}.weight"
    changed = {
        k: weight for k, weight in start.items() if not torch.equal(weight.float(), teacher[k].float())
    }
    before = host_to_diffusers({key: teacher[key] for key in changed})
    lost = total = 0.0
    for key, weight in host_to_diffusers(changed).items():
        module = key.removesuffix(".weight")
        if module + down not in parameters:
            raise ValueError(
                f'The student to start from differs in {key}, which a LoRA cannot change. Set train to "full".'
            )
        a, b = parameters[module + down], parameters[module + up]
        difference = weight.to(a) - before[key].to(a)
        left, sizes, right = leading_directions(difference, a.shape[0])
        length = 3**-0.5  # of a row of A that peft draws, uniformly within 1 / sqrt(inputs)
        a[: len(sizes)] = right * length
        b[:, : len(sizes)] = left * sizes / length
        squared = float(difference.square().sum())
        lost, total = lost + max(0.0, squared - float(sizes.square().sum())), total + squared
    share = (lost / total) ** 0.5 if total else 0.0
    if share > MOST_LOST:
        raise ValueError(
            f"A LoRA of this rank holds too little of the student to start from: {share:.2f} of the difference would be"
            f' lost. Raise rank (a LoRA that was made here needs its own), or set train to "full".'
        )


def leading_directions(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first ``rank`` singular vectors and values of a matrix (M, N): (M, r), (r,) and (r, N).

    Random projections find them, in a second or two for a layer of a 13B model and alike in every process.
    Source: Halko, Martinsson and Tropp, "Finding structure with randomness", 2011.
    """
    rank = min(rank, *matrix.shape)
    with torch.random.fork_rng(devices=[matrix.device] if matrix.is_cuda else []):
        torch.manual_seed(0)
        left, sizes, right = torch.svd_lowrank(matrix, q=min(rank + SPARE, *matrix.shape), niter=2)
    return left[:, :rank], sizes[:rank], right[:, :rank].T

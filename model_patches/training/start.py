"""A student that starts elsewhere than at its teacher: at the same model with a few-step LoRA on it, say."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..key_table import host_to_diffusers
from .adapters import STUDENT, adapter_parameters

FACTORS = ".lora_A.{0}.weight", ".lora_B.{0}.weight"
MOST_LOST = 0.1
"""Of a difference, by its norm: rounding to 16 bits loses less of what a few-step LoRA does, a too low rank more."""


def check_same_layout(teacher: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not of the teacher's shapes.

    Raises:
        ValueError: names a weight that the teacher has not, or has in another shape.
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

    Factors A have rows of the length that they are drawn with, so that rates mean what they mean from zero.

    Args:
        teacher: what the twin was built from.
        start: what the student should be; keys that are missing are as the teacher's.

    Raises:
        ValueError: the difference is of a higher rank than the adapters', or in weights that have none.
    """
    parameters = adapter_parameters(model, STUDENT)
    down, up = (suffix.format(STUDENT) for suffix in FACTORS)
    changed = {key: weight for key, weight in start.items() if not _same(weight, teacher[key])}
    before = host_to_diffusers({key: teacher[key] for key in changed})
    lost = total = 0.0
    for key, weight in host_to_diffusers(changed).items():
        module = key.removesuffix(".weight")
        if module + down not in parameters:
            raise ValueError(
                f'The student to start from has another {key}, which a LoRA does not change. Set train to "full".'
            )
        difference = weight.float() - before[key].float()
        a, b = parameters[module + down], parameters[module + up]
        left, sizes, right = torch.linalg.svd(difference, full_matrices=False)
        rank = min(a.shape[0], len(sizes))
        length = 3**-0.5  # of a row that peft draws, evenly within 1 / sqrt(inputs)
        a[:rank] = right[:rank] * length
        b[:, :rank] = left[:, :rank] * sizes[:rank] / length
        lost, total = lost + float(sizes[rank:].square().sum()), total + float(sizes.square().sum())
    share = (lost / total) ** 0.5 if total else 0.0
    if share > MOST_LOST:
        raise ValueError(
            f"A LoRA of this rank holds too little of the student to start from: {share:.2f} of the difference would be"
            f' lost. Raise rank (a LoRA that was made here needs its own), or set train to "full".'
        )


def _same(weight: Tensor, other: Tensor) -> bool:
    return torch.equal(weight.float(), other.float())

"""The files of the experiment's students: weights, and what they were trained from."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...model_patches.store.files import atomic_file
from ...model_patches.training.config import check_same_run

LORA = "_lora.safetensors"
"""Suffix of a student's LoRA, which a stock loader adds to the teacher."""
MADE_OF = "made_of"
"""Key, in a student's file and in a row, of what it depends on: a folder must not mix teachers, plans or settings."""

SHIPPED = "shipped"
"""Key, in a student's file, of the file in the pack that it was unpacked from: its settings are not known."""

START = "start"
"""Key, in a student's file, of the weights that it started from."""


def save_model(weights: Mapping[str, Tensor], path: Path, made_of: Mapping[str, object]) -> None:
    """Write weights, whole or not at all, with what they were made of."""
    with atomic_file(path) as part:
        save_file({k: v.contiguous() for k, v in weights.items()}, part, {MADE_OF: json.dumps(made_of)})


def read_made_of(path: Path) -> dict[str, object]:
    """Return what a student's file says it was made of; empty if it does not say."""
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get(MADE_OF, "{}"))


def check_same_student(found: Mapping[str, object], wanted: Mapping[str, object], path: Path) -> None:
    """Refuse a student's file that was made of something else; of an unpacked one only the teacher is known.

    Raises:
        ValueError: names what differs.
    """
    if SHIPPED in found:
        found, wanted = ({"weights": made["weights"]} for made in (found, wanted))
    elif not (START in found and START in wanted):
        found, wanted = ({k: v for k, v in made.items() if k != START} for made in (found, wanted))
    check_same_run(found, wanted, path)

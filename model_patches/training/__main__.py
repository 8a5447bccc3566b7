"""Train from the command line, in one process or, under ``torchrun``, in many.

python -m magic141.model_patches.training dmd2 --weights DIT.safetensors --data SET --run FOLDER --out LORA.safetensors
torchrun --nproc-per-node 8 -m magic141.model_patches.training dmd2 ... --set batch_size=16 --set precision=bfloat16
"""

import argparse
import dataclasses
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..dit.checkpoint import identify, is_lora
from ..dit.stream import save_tensors
from ..dit.weights_file import load_torch_zip, read_header
from ..store.files import atomic_file
from .adapters import changed_by_lora
from .batch import ClipSource
from .config import OLD_NAMES, STAGES, DistillConfig
from .distill import StepReport, Task, TrainedModel, distill

FLAGS = {"true": True, "false": False}


def parse_setting(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE into the type that the setting has.

    Raises:
        ValueError: no such setting, or a value of another type.
    """
    name, _, value = text.partition("=")
    name = OLD_NAMES.get(name, name)
    kinds = {field.name: type(field.default) for field in dataclasses.fields(DistillConfig)}
    if name not in kinds:
        raise ValueError(f"No such setting: {name}. There are: {', '.join(kinds)}.")
    if kinds[name] is bool:
        if value not in FLAGS:
            raise ValueError(f"{name} is {value!r}; wanted true or false.")
        return name, FLAGS[value]
    try:
        return name, kinds[name](value)
    except ValueError:
        raise ValueError(f"{name} is {value!r}; wanted a number like {kinds[name](3)}.") from None


def open_source(name: str) -> ClipSource:
    """Return a training set: a folder that Build Training Set wrote, or ``module:function`` that makes a source."""
    module, colon, function = name.partition(":")
    if colon and not Path(name).exists():
        return getattr(importlib.import_module(module), function)()
    from .dataset import TrainingSet
    from .source import VideoFolderSource

    return VideoFolderSource(TrainingSet.open(Path(name)))


def read_host_weights(path: Path) -> dict[str, Tensor]:
    """Return a DiT's weights in the host's names, whoever wrote the file.

    Raises:
        ValueError: another architecture, or quantized weights.
    """
    from safetensors.torch import load_file

    checkpoint = identify(read_header(path))
    stored = load_file(path) if path.suffix == ".safetensors" else load_torch_zip(path)
    weights = {name: stored[key] for key, name in checkpoint.renames.items()}
    if quantized := [name for name, value in weights.items() if value.element_size() < 2]:
        raise ValueError(
            f"{path.name} is quantized ({quantized[0]}); training needs fp16, bf16 or fp32 weights."
        )
    return weights


def read_start(path: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a student starts with: the weights that a LoRA changes, or those of another file of the model.

    Raises:
        ValueError: the file is neither.
    """
    from safetensors.torch import load_file

    if path.suffix == ".safetensors" and is_lora(read_header(path).tensors):
        return changed_by_lora(weights, load_file(path))
    return read_host_weights(path)


def print_step(report: StepReport) -> None:
    """Print a step's losses, once, whatever the number of processes."""
    if os.environ.get("RANK", "0") == "0":
        losses = ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())
        motion = "" if report.motion is None else f", motion {report.motion:.2f}"
        print(f"step {report.step} of {report.total}: {losses}{motion}", flush=True)


def write(model: TrainedModel, out: Path) -> None:
    """Write a LoRA, or all weights where the model was trained in full."""
    if os.environ.get("RANK", "0") == "0":
        out.parent.mkdir(parents=True, exist_ok=True)
        tensors = model.lora() if model.config.train == "lora" else model.full()
        with atomic_file(out) as temporary:
            save_tensors(temporary, tensors, {"magic141": json.dumps({"steps": model.step})})
        print("\n".join([*model.notes, f"wrote {out}"]), flush=True)


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--weights", type=Path, required=True, help="DiT to start from, a .safetensors file")
    parser.add_argument(
        "--start", type=Path, help="where the student starts: a LoRA made here, or a fine-tune"
    )
    parser.add_argument("--data", required=True, help="training set folder, or module:function")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints and log; resumes")
    parser.add_argument("--out", type=Path, required=True, help="LoRA or model to write")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; repeatable"
    )
    args = parser.parse_args()
    settings = dict(parse_setting(text) for text in args.set)
    config = DistillConfig(**{**settings, "stage": args.stage})
    weights = read_host_weights(args.weights)
    start = read_start(args.start, weights) if args.start else {}
    model = distill(Task(config, open_source(args.data), weights, start), args.run, on_step=print_step)
    write(model, args.out)


if __name__ == "__main__":
    main()

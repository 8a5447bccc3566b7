"""Train a few-step, a guidance-distilled or a plain flow-matching model from a host DiT's weights."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..dit.keys import diffusers_to_host
from ..store.cancel import ignoring_cancel
from .adapters import STUDENT, lora_for_host, merge_lora
from .batch import ClipSource, KnownContent
from .checkpoint import RunFolder, fingerprint
from .config import SET_CONTENT, DistillConfig
from .networks import Networks, build_networks, starting_weights
from .parallel import gathered, join_processes, quick_precision, shard
from .trainer import StepReport, Task, Trainer
from .twin import require_training_packages


@dataclass(frozen=True)
class TrainedModel:
    """What training made, averaged over steps (EMA).

    base: the weights it started from, in the host's names. weights: what was learned, in the twin's names.
    step: updates that were done; fewer than ``config.total_steps`` where it was stopped. notes: sentences on what a
    person should know, such as damaged checkpoints that were skipped.
    """

    config: DistillConfig
    base: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    step: int
    notes: tuple[str, ...]

    def lora(self) -> dict[str, Tensor]:
        """Return the LoRA that stock LoraLoaderModelOnly opens on the starting weights.

        Raises:
            ValueError: the model was trained in full.
        """
        if self.config.train != "lora":
            raise ValueError('The model was trained in full and is no LoRA: use full(), or train "lora".')
        return lora_for_host(self.weights, STUDENT)

    def full(self) -> dict[str, Tensor]:
        """Return all weights in the host's names, in the precision of the starting weights."""
        if self.config.train == "lora":
            return merge_lora(self.base, self.lora())
        host = diffusers_to_host(self.weights)
        return {key: value.to(self.base[key].dtype).contiguous() for key, value in host.items()}


def distill(
    task: Task,
    run_dir: Path,
    *,
    on_step: Callable[[StepReport], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    lock: bool = True,
) -> TrainedModel:
    """Train, or go on training, a student; every process of a ``torchrun`` calls this alike.

    Args:
        run_dir: where checkpoints and the log lie. A run of the same task is resumed.
        on_step: called after every step, in every process.
        should_stop: asked before every step and, in one process, inside its updates; a checkpoint is saved first.
        lock: let no other run use ``run_dir`` meanwhile; False where the caller has seen to it.
    Raises:
        ImportError: diffusers or peft is missing; says how to install them.
        ValueError: the folder is in use, damaged or holds another run, the disk is full, or settings, weights and
            data do not fit together.
        TrainingDiverged: a loss is not finite; the last good checkpoint stays.
    """
    require_training_packages()
    base = starting_weights(task.config, task.weights)
    folder = RunFolder(run_dir)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        join_processes(task.config) as processes,
        folder.hold(processes) if lock else nullcontext(),
    ):
        folder.open(task.config, processes, **identity(task))
        if task.config.precision == "auto":
            precision = quick_precision(processes.device)
            task = replace(task, config=replace(task.config, precision=precision))
        sharded = processes.size > 1 and task.config.sharded
        # FSDP takes a block at a time to the device and keeps its share: whole networks need not fit there
        networks = build_networks(
            task.config, task.weights, "cpu" if sharded else processes.device, task.start
        )
        check_fit(networks, task.source)
        if sharded:
            shard(networks.modules, processes)
        trainer = Trainer(task, networks, processes, folder)
        with ignoring_cancel():  # a cancel inside a step would lose what is not saved
            trainer.run(on_step, should_stop)
        weights = {name: gathered(value).cpu() for name, value in trainer.average.items()}
        return TrainedModel(task.config, base, weights, trainer.step, tuple(folder.notes))


def identity(task: Task) -> dict[str, Any]:
    """Return what must be the same, beside the settings, when a run is resumed."""
    start = {"start": fingerprint(task.start)} if task.start else {}
    content = {SET_CONTENT: task.source.content()} if isinstance(task.source, KnownContent) else {}
    data = {"clips": len(task.source), **content}
    return {"weights": fingerprint(task.weights), **data, **start, **task.identity}


def check_fit(networks: Networks, source: ClipSource) -> None:
    """Check one batch against the networks before anything is trained.

    Raises:
        ValueError: the data set is empty, or clips, prompts and model do not fit together.
    """
    if len(source) == 0:
        raise ValueError("The data set holds no clips.")
    batch = source.batch(torch.zeros(1, dtype=torch.long), torch.Generator().manual_seed(0))
    twin = networks.student.model.config
    wanted = {
        "latent channels": (batch.latents.shape[1], twin["out_channels"]),
        "text width": (batch.states.shape[-1], twin["text_embed_dim"]),
        "pooled text width": (batch.pooled.shape[-1], twin["pooled_projection_dim"]),
    }
    if wrong := [
        f"{name} {got}, the model takes {want}" for name, (got, want) in wanted.items() if got != want
    ]:
        raise ValueError(f"The data set was made for another model: {'; '.join(wrong)}.")
    if not networks.image and bool((batch.num_known > 0).any()):
        raise ValueError(
            "The data set has clips with known first frames, and the weights are text-to-video. Set expand_input"
            ' (stage "flow", train "full"), or build the data set for text-to-video.'
        )

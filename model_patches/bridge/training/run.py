"""Distill a MODEL on a training set: train its weights, write a LoRA or a checkpoint, return the patched MODEL."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from comfy.sd import VAE
from torch import Tensor

from ...dit.stream import save_tensors
from ...plots import plot_training
from ...store.disk import KeptElsewhere, check_writable
from ...store.files import atomic_file
from ...store.pictures import to_tensor
from ...training.checkpoint import RunFolder
from ...training.config import DistillConfig, current_names
from ...training.dataset import TrainingSet
from ...training.distill import Task, TrainedModel, distill
from ...training.parallel import this_process
from ...training.source import KNOWN_SHARES, TEXT_TO_VIDEO, VideoFolderSource
from ...training.twin import require_training_packages, takes_image
from ..loading import ATTACHMENT, load_magic141_model
from .dataset import set_directory
from .folder import (
    ID_NOTE,
    RUN_KEY,
    check_run,
    check_target,
    identity,
    is_of_other_data,
    move_aside,
    note_run,
    read_note,
    run_directory,
    target_path,
)
from .report import training_report
from .watch import TrainingWatch, compare_clips
from .weights import changed_weights, free_devices, student_weights, with_lora


@dataclass(frozen=True)
class Outcome:
    """A finished training: the trained MODEL, its file's name, curves and clips (IMAGE), the report."""

    model: comfy.model_patcher.ModelPatcher
    file_name: str
    curves: Tensor
    samples: Tensor
    report: str


def make_config(*, precision: str = "auto", **settings: Any) -> DistillConfig:
    """Return the trainer's configuration with these settings and the host's device.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 where the device is fast at it.

    Raises:
        ValueError: one of them is impossible; the message says which.
    """
    device = comfy.model_management.get_torch_device()
    if precision == "auto":
        fast = device.type != "cpu" and comfy.model_management.should_use_bf16(device)
        precision = "bfloat16" if fast else "float32"
    return DistillConfig(device=str(device), precision=precision, **current_names(settings))


def distill_model(
    model: comfy.model_patcher.ModelPatcher,
    vae: VAE,
    set_name: str,
    config: DistillConfig,
    *,
    run_name: str,
    tell: Callable[[str], None],
    node_id: str | None = None,
    student: comfy.model_patcher.ModelPatcher | None = None,
) -> Outcome:
    """Train a student of a MODEL, or continue where an earlier run of this name and these settings stopped.

    Args:
        set_name: a training set's name.
        config: from ``make_config``.
        run_name: of the run's folder in output/magic141_distill and of the file that comes out.
        tell: shows a line of text on the node.
        student: what the training starts from instead of the model, such as the same model with LoRAs on it.

    Raises:
        ImportError: a training package is missing; says how to install it.
        ValueError: model, set, settings or an earlier run of that name do not fit; nothing is overwritten.
        InterruptProcessingException: canceled; a checkpoint is on disk.
    """
    require_training_packages()
    tell("reading the weights")
    free_devices()
    log = RunFolder(run_directory(run_name))
    # the host runs nodes in inference mode, in which nothing can be differentiated
    with torch.inference_mode(False), torch.enable_grad(), log.hold(this_process()):
        job = prepare(model, set_name, config, run_name, student)
        fps = job.source.set.settings.fps
        watch = TrainingWatch(job.run_dir, vae, fps=fps, read_log=log.read_log, node_id=node_id)
        tell("preparing the networks")
        trained = distill(
            Task(config, job.source, job.weights, job.start),
            job.run_dir,
            on_step=watch.on_step,
            should_stop=watch.should_stop,
            lock=False,
        )
        learned, job = save_trained(trained, job)
    watch.raise_if_canceled()
    comfy.model_management.soft_empty_cache()
    result = with_lora(model, learned) if config.train == "lora" else load_magic141_model(job.target)[0]
    tell("sampling clips, before and after")
    samples = compare_clips(student or model, result, vae, job.source, config)
    history = log.read_log()
    report = training_report(
        trained,
        data=f"'{job.set_name}' ({len(job.source)} windows)",
        file=f"models/{job.target.parent.name}/{job.target.name}",
        first_step=watch.first_step,
        seconds=watch.seconds,
        history=history,
        notes=job.notes,
    )
    curves = to_tensor(plot_training(history, total_steps=config.total_steps))
    return Outcome(result, job.target.name, curves, samples, report)


@dataclass(frozen=True)
class Job:
    """What a run works with: the set, its clips, weights, its folder, its file, its identity, and notes for the report.

    weights: of the model. start: weights that the student starts with instead.
    """

    set_name: str
    source: VideoFolderSource
    weights: dict[str, Tensor]
    start: dict[str, Tensor]
    run_dir: Path
    target: Path
    run_id: str
    notes: tuple[str, ...]


def prepare(
    model: comfy.model_patcher.ModelPatcher,
    set_name: str,
    config: DistillConfig,
    run_name: str,
    student: comfy.model_patcher.ModelPatcher | None = None,
) -> Job:
    """Collect what a run needs, and refuse unusable inputs before training starts.

    A run of this name on other data is moved aside, and a new one begins.

    Raises:
        ValueError, FileNotFoundError: one of them cannot be used.
    """
    training_set, run_dir = TrainingSet.open(set_directory(set_name)), run_directory(run_name)
    saved = check_run(run_dir, config, set_name)
    weights = student_weights(model)
    start = {} if student is None else changed_weights(student, model)
    source = open_source(training_set, model, weights, config)
    run_id = identity(config, source.content(), weights, start)
    old_id = identity(config, set_name, weights, start, older=True)
    target, notes = target_path(run_name, config.train), source.notes()
    if saved is not None and is_of_other_data(saved, source):
        notes.append(move_aside(run_dir, target, {read_note(run_dir, ID_NOTE), old_id}))
    check_target(target, {run_id, old_id})
    check_writable(target.parent)
    note_run(run_dir, set_name, run_id)
    return Job(set_name, source, weights, start, run_dir, target, run_id, tuple(notes))


def open_source(
    training_set: TrainingSet,
    model: comfy.model_patcher.ModelPatcher,
    weights: dict[str, Tensor],
    config: DistillConfig,
) -> VideoFolderSource:
    """Return the clips in the form this model learns: with known frames, or from text alone.

    A text-to-video model whose image channels were just added learns from text, unless those channels are trained.
    """
    loaded = model.get_attachment(ATTACHMENT)
    untrained = loaded is not None and loaded.is_expanded and (config.stage, config.train) != ("flow", "full")
    if not takes_image(weights) or untrained:
        return VideoFolderSource(training_set, known_shares=TEXT_TO_VIDEO, with_image_states=False)
    return VideoFolderSource(training_set, known_shares=KNOWN_SHARES)


def save_trained(trained: TrainedModel, job: Job) -> tuple[dict[str, Tensor], Job]:
    """Write a finished run's file; of a stopped run nothing is written.

    Returns:
        The tensors, and the job: where the old file is in use (Windows), the new one has another name and a note.
    """
    if trained.step < trained.config.total_steps:
        return {}, job
    tensors = _lora_as_weights(trained) if trained.config.train == "lora" else trained.full()
    notes = {"format": "pt", RUN_KEY: job.run_id, "magic141_distill": json.dumps(asdict(trained.config))}
    try:
        with atomic_file(job.target) as temporary:
            save_tensors(temporary, tensors, notes)
    except KeptElsewhere as kept:
        job = replace(job, target=kept.path, notes=(*job.notes, str(kept)))
    return tensors, job


def _lora_as_weights(trained: TrainedModel) -> dict[str, Tensor]:
    """Return the LoRA in the base weights' precision: what is in the file is what the MODEL carries."""
    dtype = next(iter(trained.base.values())).dtype
    lora_dtype = dtype if dtype in (torch.float32, torch.bfloat16) else torch.float32
    return {name: tensor.to(lora_dtype).contiguous() for name, tensor in trained.lora().items()}

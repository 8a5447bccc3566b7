"""Train a few-step, a guidance-distilled or a plain flow-matching model from a host DiT's weights."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..dit.keys import diffusers_to_host
from .adapters import STUDENT, lora_for_host, merge_lora
from .batch import ClipSource
from .checkpoint import RunFolder, fingerprint
from .config import DistillConfig
from .networks import Networks, build_networks, starting_weights
from .parallel import quick_precision, shard, whole, world
from .trainer import StepReport, Trainer, TrainingDiverged
from .twin import require_training_packages

__all__ = ["StepReport", "TrainedModel", "TrainingDiverged", "distill"]


@dataclass(frozen=True)
class TrainedModel:
    """What training made, averaged over steps (EMA).

    base: the weights it started from, in the host's names. weights: what was learnt, in the twin's names.
    step: updates that were done; fewer than ``config.total_steps`` where it was stopped. unreadable: sentences on the
    checkpoints that were passed over, since they are damaged.
    """

    config: DistillConfig
    base: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    step: int
    unreadable: tuple[str, ...] = ()

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
    config: DistillConfig,
    source: ClipSource,
    student_weights: Mapping[str, Tensor],
    run_dir: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    sample_source: ClipSource | None = None,
    lock: bool = True,
) -> TrainedModel:
    """Train, or go on training, a student; every process of a ``torchrun`` calls this alike.

    Args:
        source: the clips.
        student_weights: the weights to start from, in the host's names; teacher, real and fake model are these.
        run_dir: where checkpoints and the log lie. A run of the same configuration is resumed.
        start: weights in which the student starts elsewhere, such as those that a few-step LoRA changes. A LoRA that is
            trained holds that difference, too.
        on_step: told after every update of the student, in every process.
        should_stop: asked before every update; a checkpoint is saved first.
        sample_source: whose first clips' conditions the samples in reports are made for; ``source`` if None.
        lock: let no other run use ``run_dir`` meanwhile; False where the caller has seen to it.
    Raises:
        ImportError: diffusers or peft is missing; says how to install them.
        ValueError: the folder is in use, damaged or holds another run, the disk is full, or settings, weights and
            data do not fit together.
        TrainingDiverged: a loss is not finite; the last good checkpoint stays.
    """
    require_training_packages()
    base = starting_weights(config, student_weights)
    folder = RunFolder(run_dir)
    identity: dict[str, object] = {"weights": fingerprint(student_weights), "clips": len(source)}
    if start:
        identity["start"] = fingerprint(start)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        world(config) as place,
        folder.hold(place) if lock else nullcontext(),
    ):
        folder.open(config, place, **identity)
        if config.precision == "auto":
            config = replace(config, precision=quick_precision(place.device))
        sharded = place.size > 1 and config.sharded
        # FSDP takes a block at a time to the device and keeps its share: whole networks never lie there
        networks = build_networks(config, student_weights, "cpu" if sharded else place.device, start)
        check_fit(networks, source)
        if sharded:
            shard(networks.modules, place)
        trainer = Trainer(config, source, networks, place, folder, sample_source)
        trainer.run(on_step, should_stop)
        weights = {name: whole(value).cpu() for name, value in trainer.average.items()}
        return TrainedModel(config, base, weights, trainer.step, tuple(folder.unreadable))


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
        "latent channels": (batch.latents.shape[1], twin.out_channels),
        "text width": (batch.states.shape[-1], twin.text_embed_dim),
        "pooled text width": (batch.pooled.shape[-1], twin.pooled_projection_dim),
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

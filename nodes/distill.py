"""Distill to Few Steps: a model learns to make in a few steps what it now makes in many."""

from comfy_api.latest import io, ui

from ..model_patches.bridge.progress import stages
from ..model_patches.bridge.training.dataset import set_directory
from ..model_patches.bridge.training.run import distill_model, make_config
from ..model_patches.store.names import name_fault
from ..model_patches.training.config import DistillConfig
from ..model_patches.training.twin import missing_packages
from .distill_inputs import METHODS, TRAIN, how_inputs, run_inputs, start_inputs, what_inputs


class DistillToFewSteps(io.ComfyNode):
    """Wires a model, a training set and settings to one run of training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141DistillToFewSteps",
            display_name="Distill to Few Steps",
            category="Magic141/train",
            description="Trains a few-step model on your own videos: by DMD2 as in the Magic 1-For-1 paper, by "
            "guidance distillation, or by plain fine-tuning. The node shows curves and sample clips while it runs. "
            "Cancel at any step; queue the same workflow again to continue. The result is a LoRA for the stock "
            "loader, or a whole checkpoint.",
            search_aliases=[
                "magic141",
                "dmd2",
                "train",
                "lora trainer",
                "distillation",
                "step distill",
                "fine-tune",
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[*what_inputs(), *how_inputs(), *run_inputs(), *start_inputs()],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="The trained model, ready to sample with: the new file is already applied.",
                ),
                io.String.Output(
                    display_name="file_name",
                    tooltip="The file that was written, in models/loras or models/diffusion_models.",
                ),
                io.Image.Output(
                    display_name="curves", tooltip="Losses and motion over the steps, as a picture."
                ),
                io.Image.Output(
                    display_name="samples",
                    tooltip="Clips of your set sampled in few steps, as the frames of one video: before training "
                    "above, after training below.",
                ),
                io.String.Output(
                    display_name="report", tooltip="What was trained, how it went and how to use it."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, run_name=None, method=None, cfg=None) -> bool | str:
        if (problem := missing_packages()) is not None:
            return problem
        if METHODS.get(method) == "cfg" and cfg == 1.0:
            return f"cfg is {cfg:g}: there is no guidance to distill. Set the strongest you would sample with, e.g. 7."
        return (name_fault(run_name, "a run") if run_name is not None else None) or True

    @classmethod
    def fingerprint_inputs(cls, training_set=None, **_) -> str | float:
        if training_set is None:  # linked: when the set changes, so does the node that built it
            return ""
        manifest = set_directory(training_set) / "set.json"
        return str(manifest.stat().st_mtime_ns) if manifest.is_file() else float("nan")

    @classmethod
    def execute(cls, model, training_set, vae, run_name, student=None, **widgets) -> io.NodeOutput:
        config = config_of(**widgets)
        with stages() as tell:
            made = distill_model(
                model,
                vae,
                training_set,
                config,
                run_name=run_name,
                tell=tell,
                node_id=cls.hidden.unique_id,
                student=student,
            )
        shown = {**ui.PreviewImage(made.curves).as_dict(), **ui.PreviewText(made.report).as_dict()}
        return io.NodeOutput(made.model, made.file_name, made.curves, made.samples, made.report, ui=shown)


def config_of(
    *, method, train, cfg, learning_rate, total_steps, training_seed, ode_updates, critic_warmup, **settings
) -> DistillConfig:
    """Return the trainer's configuration that the node's widgets ask for."""
    stage = METHODS[method]
    first = {"ode_updates": ode_updates, "fake_warmup": critic_warmup} if stage == "dmd2" else {}
    return make_config(
        stage=stage,
        train=TRAIN[train],
        total_steps=total_steps + sum(first.values()),
        guidance_w=cfg - 1.0 if stage == "dmd2" else 0.0,
        guidance_w_max=max(cfg - 1.0, 0.0),
        learning_rate=learning_rate,
        final_learning_rate=learning_rate,
        seed=training_seed,
        **first,
        **settings,
    )

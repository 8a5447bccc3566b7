"""Report a training in plain words."""

from collections.abc import Mapping, Sequence

from ...training.distill import TrainedModel

STATIC, FLASHING = 0.4, 2.5
"""Motion, as a share of the data's, below and above which a student has most likely collapsed."""
LAST_STEPS = 20
METHODS = {
    "dmd2": "Distilled to {0.few_steps} steps (DMD2)",
    "cfg": "Guidance w {0.guidance_w_min:g} to {0.guidance_w_max:g} distilled into one pass",
    "flow": "Fine-tuned (flow matching)",
}


def training_report(
    trained: TrainedModel,
    *,
    data: str,
    file: str,
    first_step: int,
    seconds: float,
    history: Sequence[Mapping[str, float | None]],
    notes: Sequence[str] = (),
) -> str:
    """Return the report of a run.

    Args:
        data, file: what the set and the written file are called.
        first_step: updates that were done earlier, before the run was stopped and resumed.
        history: the run's log, a row per step.
        notes: sentences on what a person should know of the run and its data.
    """
    config = trained.config
    resumed = f", resumed at step {first_step}" if first_step else ""
    size = f"LoRA, rank {config.rank}" if config.train == "lora" else "all weights"
    lines = [
        f"{METHODS[config.stage].format(config)} on {data}: {trained.step} of {config.total_steps} updates of "
        f"{config.batch_size} clips{resumed}, {seconds:.0f} s.",
        f"Saved as {file} ({size}).",
    ]
    if config.stage == "dmd2":
        lines.append(
            f"Use it with {config.few_steps} steps, shift {config.shift:g}, sampler {config.sampler}, cfg 1."
        )
    return "\n".join([*lines, *notes, *trained.notes, *motion_lines(history)])


def motion_lines(history: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Say how much the student's clips move, and warn of the two ways in which a few-step student collapses."""
    motion = [value for row in history if (value := row.get("motion")) is not None][-LAST_STEPS:]
    if not motion:
        return []
    mean = sum(motion) / len(motion)
    lines = [f"Motion at the end: {mean:.2f} of the data's."]
    advice = "Lower learning_rate, raise fake_updates or stop earlier; the clips are in the run's folder."
    if mean < STATIC:
        lines.append(f"Warning: the clips are nearly static, the usual failure of distillation. {advice}")
    elif mean > FLASHING:
        lines.append(f"Warning: the clips flash or jump. {advice}")
    return lines

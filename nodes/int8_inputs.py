"""The widgets that the quantizing nodes share, and what they mean."""

from comfy_api.latest import io

from ..model_patches.int8.quantize import QuantizationPlan
from ..model_patches.int8.ranking import keep_worst

MODES = {
    "int8 weight-only (paper)": "weight_only",
    "int8 W8A8 (fast, rotated)": "w8a8",
    "int4 weight-only": "int4",
}
GRANULARITIES = {"per row": "row", "per tensor": "tensor"}

MODE_INPUT = io.Combo.Input(
    "mode",
    options=list(MODES),
    tooltip=(
        "int8 weight-only is the paper's: half of bf16's memory, about 1 % error, LoRA exact. W8A8 also rounds the "
        "activations (weights are rotated first so that outliers do no harm): the same memory, faster on GPUs with "
        "int8 tensor cores, and weak LoRA is less exact. int4: a quarter of the memory, about ten times the error."
    ),
)
GRANULARITY_INPUT = io.Combo.Input(
    "granularity",
    advanced=True,
    options=list(GRANULARITIES),
    tooltip=(
        "One scale per row of each weight (more exact, the paper's practice), or one per tensor (equation 10 as "
        "written). W8A8 and int4 are per row."
    ),
)
ALL_LINEAR_INPUT = io.Boolean.Input(
    "all_linear",
    default=False,
    tooltip=(
        "Also quantize the embedders, the text refiner and the final layer. They are small in a 13B model and the "
        "error grows; the paper leaves them."
    ),
    advanced=True,
)
KEEP_INPUTS = (
    io.Int.Input(
        "keep_worst",
        default=0,
        min=0,
        max=1000,
        optional=True,
        tooltip=(
            "How many of the worst layers of ranking stay as they are (bf16). The file's header records their names "
            "and how they were found."
        ),
        advanced=True,
    ),
    io.String.Input(
        "ranking",
        default="",
        multiline=True,
        optional=True,
        tooltip=(
            "Layers and their errors, a line each: connect ranking of Quantization Report, or paste it. Used with "
            "keep_worst."
        ),
        advanced=True,
    ),
)


def make_plan(
    mode, granularity, *, all_linear: bool = False, keep: tuple[int | None, str | None] = (0, "")
) -> QuantizationPlan:
    """Return the plan that the widgets set; a widget that is linked (None) counts as its default.

    Args:
        keep: keep_worst and ranking.
    """
    plan = QuantizationPlan(
        mode=MODES[mode or next(iter(MODES))],
        granularity=GRANULARITIES[granularity or next(iter(GRANULARITIES))],
        all_linear=all_linear,
    )
    return keep_worst(plan, keep[0] or 0, keep[1] or "")

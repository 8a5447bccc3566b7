"""Quantization Report: how much quantizing changed, in text and as a plot."""

from comfy_api.latest import io, ui

from ..model_patches.bridge.int8.probe import ProbeInput
from ..model_patches.bridge.int8.report import compare_models
from ..model_patches.bridge.progress import host_progress
from ..model_patches.plots import plot_bars


class QuantizationReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141QuantizationReport",
            display_name="Quantization Report",
            category="Magic141/quantize",
            description=(
                "Runs a MODEL of any family and its quantized copy once on the same noise and prompt and shows the "
                "relative error after every block and of the output, and the memory before and after. With "
                "rank_layers it finds the layers that cost most quality, for Int8 Quantize and Quantize File to keep."
            ),
            search_aliases=["int8 error", "quantization error", "compare models", "quality loss", "magic141"],
            is_output_node=True,
            inputs=[
                io.Model.Input("original", tooltip="The MODEL as it went into Int8 Quantize."),
                io.Model.Input("quantized", tooltip="The MODEL as it came out, or a quantized file loaded."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=False,
                    tooltip="Seed of the probe's noise.",
                ),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip=(
                        "Your own prompt to measure with, with its start picture if the model takes one. Without it "
                        "the text is random, which works for a HunyuanVideo only."
                    ),
                ),
                io.Boolean.Input(
                    "rank_layers",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Also find the worst layers: the original runs once for each quantized layer, with this layer "
                        "alone quantized. With hundreds of layers this takes minutes."
                    ),
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip=(
                        "An empty latent of the size to measure at. Without it a small one is made; models of picture "
                        "and sound need one."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Memory, error per block and overall, LoRA advice.",
                ),
                io.Image.Output(
                    "plot", display_name="plot", tooltip="Bars: relative error after each block."
                ),
                io.Float.Output(
                    "relative_error",
                    display_name="relative_error",
                    tooltip="Of the output: 0.01 is one percent.",
                ),
                io.String.Output(
                    "ranking",
                    display_name="ranking",
                    tooltip=(
                        "With rank_layers: layers and their errors, worst first, for ranking of Int8 Quantize and "
                        "Quantize File."
                    ),
                ),
            ],
        )

    @classmethod
    def execute(
        cls, original, quantized, seed, positive=None, rank_layers=False, latent=None
    ) -> io.NodeOutput:
        report = compare_models(
            original,
            quantized,
            ProbeInput(seed, positive, latent),
            rank=bool(rank_layers),
            progress=host_progress("measuring layer by layer"),
        )
        plot = plot_bars(
            report.block_errors | {"output": report.output_error},
            title=f"Relative error after each block; weights {report.bytes_before / 1e6:,.0f} MB -> "
            f"{report.bytes_after / 1e6:,.0f} MB",
        )
        ranking = report.ranking.text if report.ranking else ""
        return io.NodeOutput(report.text, plot, report.output_error, ranking, ui=ui.PreviewText(report.text))

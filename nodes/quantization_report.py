"""Quantization Report: how much quantizing changed, in text and as a plot."""

from comfy_api.latest import io, ui

from ..model_patches.bridge.int8.report import compare_models
from ..model_patches.plots import plot_bars


class QuantizationReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141QuantizationReport",
            display_name="Quantization Report",
            category="Magic141",
            description=(
                "Runs a MODEL and its quantized copy once on the same noise and prompt and shows the relative error "
                "after every block and of the output, and the memory before and after."
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
                    tooltip="Your own prompt to measure with, from VLM Image Encode. Without it the text is random.",
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
            ],
        )

    @classmethod
    def execute(cls, original, quantized, seed, positive=None) -> io.NodeOutput:
        report = compare_models(original, quantized, seed=seed, positive=positive)
        plot = plot_bars(
            report.block_errors | {"output": report.output_error},
            title=f"Relative error after each block; weights {report.bytes_before / 1e6:,.0f} MB -> "
            f"{report.bytes_after / 1e6:,.0f} MB",
        )
        return io.NodeOutput(report.text, plot, report.output_error, ui=ui.PreviewText(report.text))


NODES: list[type[io.ComfyNode]] = [QuantizationReport]

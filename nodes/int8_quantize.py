"""Int8 Quantize: MODEL and encoders in half the memory."""

from comfy_api.latest import io, ui

from ..model_patches.bridge.encoders.socket import EncodersSocket
from ..model_patches.bridge.int8.encoders import encoders_bytes, quantize_encoders
from ..model_patches.bridge.int8.model import quantize_model, save_quantized, saved_path
from ..model_patches.bridge.int8.report import LORA_IN_STOCK_FILES, lora_advice
from ..model_patches.bridge.progress import host_progress, show_stage
from ..model_patches.int8.quantize import QuantizationPlan
from .int8_inputs import ALL_LINEAR_INPUT, GRANULARITY_INPUT, KEEP_INPUTS, MODE_INPUT, make_plan
from .old_inputs import describe_old_inputs


class Int8Quantize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141Int8Quantize",
            display_name="Int8 Quantize",
            category="Magic141/quantize",
            description=(
                "Halves the memory of a diffusion MODEL of any family (HunyuanVideo, Wan, Flux, Qwen-Image, LTX, SD3 "
                "and others) and of the encoders. The result is ComfyUI's own kind of quantized model: clone, LoRA, "
                "low VRAM, offload, unload and torch.compile work, and a saved file opens in stock Load Diffusion "
                "Model."
            ),
            search_aliases=["quantize", "int8", "quanto", "8 bit", "int4", "low vram", "w8a8", "magic141"],
            inputs=[
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="MODEL to quantize, in bf16, fp16 or fp32. LoRA on it stays, unrounded.",
                ),
                EncodersSocket.Input(
                    "encoders",
                    optional=True,
                    tooltip=(
                        "Encoders from Load Magic141 Encoders or Magic141 Encoders from CLIP; their LLM and VLM become "
                        "int8 weight-only."
                    ),
                ),
                MODE_INPUT,
                GRANULARITY_INPUT,
                io.Boolean.Input(
                    "dit",
                    display_name="video_model",
                    default=True,
                    tooltip="Quantize the Linear layers of the MODEL's repeated blocks, modulation included.",
                ),
                io.Boolean.Input(
                    "llm",
                    display_name="text_encoder",
                    default=True,
                    tooltip="Quantize the encoders' LLaMA: the text encoder and the language part of the VLM.",
                ),
                io.Boolean.Input(
                    "vlm",
                    display_name="vision_encoder",
                    default=True,
                    tooltip="Quantize the VLM's vision tower and projector as well.",
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    tooltip=(
                        "File name to save the quantized MODEL under, in models/diffusion_models; empty: do not "
                        "save. LoRA is not baked in. For big files Quantize File needs far less memory."
                    ),
                ),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace a file of that name."),
                ALL_LINEAR_INPUT,
                *KEEP_INPUTS,
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            outputs=[
                io.Model.Output(
                    "quantized_model", display_name="model", tooltip="The MODEL in half the memory."
                ),
                EncodersSocket.Output(
                    "quantized_encoders", display_name="encoders", tooltip="The encoders in half the memory."
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="Sizes before and after, and LoRA advice."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, mode=None, granularity=None, save_as=None, overwrite=False) -> bool | str:
        make_plan(mode, granularity)
        if save_as:
            saved_path(save_as, overwrite=bool(overwrite))
        return True

    @classmethod
    def execute(
        cls,
        mode,
        granularity,
        dit,
        llm,
        vlm,
        save_as,
        overwrite,
        all_linear,
        model=None,
        encoders=None,
        keep_worst=0,
        ranking="",
    ) -> io.NodeOutput:
        plan = make_plan(mode, granularity, all_linear=all_linear, keep=(keep_worst, ranking))
        quantizes_encoders = encoders is not None and (llm or vlm)
        if not (model is not None and dit) and not quantizes_encoders:
            raise ValueError(
                "Nothing to quantize: connect model or encoders, and switch on what to quantize."
            )
        lines = describe_old_inputs(cls)
        if model is not None and dit:
            target = saved_path(save_as, overwrite=overwrite) if save_as else None
            before = model.model_size()
            model = quantize_model(model, plan, progress=host_progress("quantizing the DiT"))
            lines.append(f"DiT: {sizes(before, model.model_size())}, {mode}, {granularity}.")
            if plan.keep:
                lines.append(f"Kept as they were: {', '.join(plan.keep)} ({plan.found_by}).")
            if target is not None:
                show_stage(f"saving {target.name}")
                save_quantized(model, target, plan, overwrite=overwrite)
                lines.append(f"Saved as {target.name}. {LORA_IN_STOCK_FILES}")
        if quantizes_encoders:
            before = encoders_bytes(encoders)
            encoder_plan = QuantizationPlan(granularity=plan.granularity)
            progress = host_progress("quantizing the LLM and VLM")
            encoders = quantize_encoders(encoders, encoder_plan, llm=llm, vlm=vlm, progress=progress)
            lines.append(f"LLM and VLM: {sizes(before, encoders_bytes(encoders))}, int8 weight-only.")
        lines.append(lora_advice(plan))
        text = "\n".join(lines)
        return io.NodeOutput(model, encoders, text, ui=ui.PreviewText(text))


def sizes(before: int, after: int) -> str:
    return f"{before / 1e6:,.1f} MB -> {after / 1e6:,.1f} MB ({after / max(1, before):.0%})"

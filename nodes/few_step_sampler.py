"""Few-Step TI2V Sampler, and its schedule for stock SamplerCustomAdvanced."""

from comfy_api.latest import io

from ..model_patches.bridge.progress import stages
from ..model_patches.bridge.sampling import SAMPLERS, ksampler, sample_clip
from ..model_patches.sampler import DEFAULT_SHIFT, DEFAULT_STEPS, few_step_sigmas

ALIASES = ["magic 1-for-1", "ksampler", "few steps", "image to video", "dmd2", "flow matching"]


def _steps() -> io.Input:
    return io.Int.Input(
        "steps",
        default=DEFAULT_STEPS,
        min=1,
        max=1000,
        tooltip="Model calls for a clip. Distilled models: 4 (1, 2 and 8 also work). Plain models: 28 or more.",
    )


def _shift() -> io.Input:
    return io.Float.Input(
        "shift",
        default=DEFAULT_SHIFT,
        min=0.01,
        max=100.0,
        step=0.01,
        tooltip="How much of the steps is spent at high noise. Magic141 was trained for 5.",
    )


def _sampler() -> io.Input:
    return io.Combo.Input(
        "sampler",
        options=list(SAMPLERS),
        default="euler",
        tooltip="euler follows one path from noise to clip. renoise estimates the clip and puts fresh noise on it at"
        " every step, as DMD2 models are often sampled; more change, less of the noise's structure.",
    )


class FewStepTI2VSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141FewStepSampler",
            display_name="Few-Step TI2V Sampler",
            category="Magic141",
            description="Turn noise into a clip in a few steps, with live preview.",
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input(
                    "model", tooltip="A HunyuanVideo-layout model from Load Magic141 Model or any loader."
                ),
                io.Conditioning.Input("positive", tooltip="What to show: positive of VLM Image Encode."),
                io.Conditioning.Input(
                    "negative",
                    tooltip="What to avoid: negative of VLM Image Encode. Used only when cfg is not 1.",
                ),
                io.Latent.Input(
                    "latent", tooltip="An empty clip of the wanted size: latent of VLM Image Encode."
                ),
                _steps(),
                _shift(),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Strength of the prompt against the negative one. 1 for distilled models: one model call a"
                    " step. Anything else calls the model twice.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The noise. The same seed gives the same clip, and the same noise as stock samplers.",
                ),
                _sampler(),
            ],
            outputs=[
                io.Latent.Output(
                    "latent_out",
                    display_name="latent",
                    tooltip="The clip, for VAE Decode or another sampler.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, positive, negative, latent, steps, shift, cfg, seed, sampler) -> io.NodeOutput:
        with stages() as tell:
            tell(f"loading the model for {steps} steps")
            samples = sample_clip(
                model,
                positive,
                negative,
                latent,
                sigmas=few_step_sigmas(steps, shift),
                sampler=sampler,
                seed=seed,
                cfg=cfg,
            )
        return io.NodeOutput({**latent, "samples": samples})


class FewStepSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141FewStepSchedule",
            display_name="Few-Step Schedule",
            category="Magic141",
            description="The sampler's sigmas and method, for stock SamplerCustomAdvanced.",
            search_aliases=[*ALIASES, "scheduler", "sigmas", "samplercustomadvanced"],
            inputs=[_steps(), _shift(), _sampler()],
            outputs=[
                io.Sigmas.Output(
                    "sigmas",
                    display_name="sigmas",
                    tooltip="Noise levels from 1 to 0, exact for any number of steps.",
                ),
                io.Sampler.Output(
                    "sampler_out",
                    display_name="sampler",
                    tooltip="The chosen method, with its state in float32.",
                ),
            ],
        )

    @classmethod
    def execute(cls, steps, shift, sampler) -> io.NodeOutput:
        return io.NodeOutput(few_step_sigmas(steps, shift), ksampler(sampler))


NODES: list[type[io.ComfyNode]] = [FewStepTI2VSampler, FewStepSchedule]

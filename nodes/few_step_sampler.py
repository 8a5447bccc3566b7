"""Few-Step TI2V Sampler, and its schedule for stock SamplerCustomAdvanced."""

from comfy_api.latest import io

from ..model_patches.bridge.progress import stages
from ..model_patches.bridge.sampling import LowNoiseModel, Sampling, ksampler, sample_clip
from ..model_patches.sampler import DEFAULT_SHIFT, DEFAULT_STEPS, SAMPLERS, few_step_sigmas

ALIASES = [
    "magic 1-for-1",
    "ksampler",
    "few steps",
    "image to video",
    "dmd2",
    "flow matching",
    "wan 2.2",
    "lightx2v",
    "hunyuan video",
    "two experts",
]


def _steps() -> io.Input:
    return io.Int.Input(
        "steps",
        default=DEFAULT_STEPS,
        min=1,
        max=1000,
        tooltip="Model calls per clip. Distilled models: 4 (1, 2 and 8 also work); HunyuanVideo 1.5 distilled: 8. "
        "Models that are not distilled: 28 or more.",
    )


def _shift() -> io.Input:
    return io.Float.Input(
        "shift",
        default=DEFAULT_SHIFT,
        min=0.01,
        max=100.0,
        step=0.01,
        tooltip="How much of the schedule is spent at high noise. Magic141 and Wan in four steps: 5. HunyuanVideo "
        "1.5: 7.",
    )


def _sampler() -> io.Input:
    return io.Combo.Input(
        "sampler",
        advanced=True,
        options=list(SAMPLERS),
        default="euler",
        tooltip="euler follows one path from noise to clip. renoise estimates the clip and adds fresh noise to it at "
        "every step, as is common with DMD2 models: more change, and less of the original noise's structure.",
    )


class FewStepTI2VSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141FewStepSampler",
            display_name="Few-Step TI2V Sampler",
            category="Magic141/generate",
            description="Turns noise into a clip in a few steps, with a live preview. Works with every flow-matching "
            "video model: HunyuanVideo, Wan, LTX and others, and with both models of Wan 2.2 at once.",
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A flow-matching video model, from Load Magic141 Model or any other loader. For Wan 2.2, "
                    "connect the high-noise model.",
                ),
                io.Conditioning.Input(
                    "positive",
                    tooltip="What to show: the positive output of VLM Image Encode, or of the encode node that "
                    "belongs to the model.",
                ),
                io.Conditioning.Input(
                    "negative",
                    tooltip="What to avoid: the negative output of VLM Image Encode. Used only when cfg is not 1.",
                ),
                io.Latent.Input(
                    "latent",
                    tooltip="An empty clip of the size you want: the latent output of VLM Image Encode, or of the "
                    "node that belongs to the model.",
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
                    tooltip="How strongly the prompt is followed over the negative prompt. Leave it at 1 for "
                    "distilled models: one model call per step. Any other value makes two.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Chooses the noise. The same seed gives the same clip, from the same noise as the stock "
                    "samplers.",
                ),
                _sampler(),
                # optional, and last: workflows of older versions do not have them
                io.Int.Input(
                    "cfg_steps",
                    advanced=True,
                    default=0,
                    min=0,
                    max=1000,
                    optional=True,
                    tooltip="How many of the first steps use cfg; the rest run at 1. If four steps make the motion "
                    "slow, try cfg 2 to 3.5 with cfg_steps 1. 0 uses cfg in every step.",
                ),
                io.Model.Input(
                    "model_low_noise",
                    optional=True,
                    tooltip="A second model for the later steps: the low-noise model of Wan 2.2.",
                ),
                io.Float.Input(
                    "switch_sigma",
                    advanced=True,
                    default=0.9,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    optional=True,
                    tooltip="model_low_noise makes the steps that begin below this noise level. Wan 2.2 image to "
                    "video: 0.9; text to video: 0.875. At shift 5 and four steps, each model makes two.",
                ),
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
    def execute(
        cls,
        model,
        positive,
        negative,
        latent,
        steps,
        shift,
        *,
        model_low_noise=None,
        switch_sigma=0.9,
        **widgets,
    ) -> io.NodeOutput:
        low_noise = None if model_low_noise is None else LowNoiseModel(model_low_noise, switch_sigma)
        sampling = Sampling(few_step_sigmas(steps, shift), low_noise=low_noise, **widgets)
        with stages() as show_stage:
            show_stage(f"loading the model for {steps} steps")
            samples = sample_clip(model, positive, negative, latent, sampling)
        kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
        return io.NodeOutput({**kept, "samples": samples})  # the ratios belong to empty latents only


class FewStepSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141FewStepSchedule",
            display_name="Few-Step Schedule",
            category="Magic141/generate",
            description="Gives the sampler's sigmas and method to stock SamplerCustomAdvanced, for any flow-matching "
            "model.",
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
                    tooltip="The sampling method you chose. It keeps its state in float32.",
                ),
            ],
        )

    @classmethod
    def execute(cls, steps, shift, sampler) -> io.NodeOutput:
        return io.NodeOutput(few_step_sigmas(steps, shift), ksampler(sampler))

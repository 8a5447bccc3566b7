"""What the bench on an accelerator measures on: the device, the sizes, and models of them with random weights."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from magic141.model_patches.dit.keys import expected_shapes
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.tests.bench.dit import FULL as FULL_DIT
from magic141.tests.bench.dit import Size, matmul_ceiling
from magic141.tests.support.released_sizes import CLIP_L_TEXT, HUNYUAN_VAE, LLAMA_8B, VISION_L_336
from torch import Tensor

KINDS = {"bf16": None, "int8": QuantizationPlan(), "w8a8": QuantizationPlan("w8a8")}


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    clips: DiT and clip by number of frames. llava: widths and depth of vision tower and language model.
    """

    clips: dict[str, Size]
    llava: dict[str, dict]
    matmul_side: int


FULL = Sizes(
    clips=FULL_DIT,
    llava={"vision": VISION_L_336, "text": LLAMA_8B},
    matmul_side=8192,
)
TINY = Sizes(
    clips={f"{frames}f": Size(128, 1, 1, 256, frames, 32, 32) for frames in (13, 17)},
    llava={
        "vision": VISION_L_336
        | {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        "text": LLAMA_8B
        | {
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
    },
    matmul_side=256,
)


class Machine:
    """The device, and what several stages make only once.

    Args:
        deadline: of the whole bench, on the clock of ``time.monotonic``.
    """

    def __init__(self, sizes: Sizes, *, deadline: float) -> None:
        import comfy.model_management

        self.sizes, self.deadline = sizes, deadline
        self.device = comfy.model_management.get_torch_device()
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self._models: dict[str, object] = {}

    @cached_property
    def ceiling_tflops(self) -> float:
        return matmul_ceiling(self.device, self.sizes.matmul_side)

    @property
    def longest(self) -> str:
        return list(self.sizes.clips)[-1]

    @property
    def shortest(self) -> str:
        return next(iter(self.sizes.clips))

    def dit(self, kind: str):
        """Return the DiT of a kind; only one quantized kind is kept beside the one it is made from."""
        import comfy.sd
        from magic141.model_patches.bridge.int8.model import quantize_model

        if "bf16" not in self._models:
            size = self.sizes.clips[self.shortest]
            weights = {name: self.random(shape) for name, shape in shapes_of(size).items()}
            self._models["bf16"] = comfy.sd.load_diffusion_model_state_dict(weights)
        if kind not in self._models:
            self._models = {"bf16": self._models["bf16"]}
            self._models[kind] = quantize_model(self._models["bf16"], KINDS[kind])
        return self._models[kind]

    def random(self, shape: tuple[int, ...]) -> Tensor:
        """Return random weights that keep the size of a signal: made on the device, and in RAM as if from a file."""
        weights = torch.randn(shape, device=self.device, dtype=self.dtype)
        return (weights * 0.02 if len(shape) == 1 else weights / weights[0].numel() ** 0.5).cpu()

    def free(self) -> None:
        """Leave the device's memory to the next stage."""
        import comfy.model_management

        comfy.model_management.unload_all_models()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def timed(self, run: Callable[[], object], warm_up: Callable[[], object]) -> tuple[float, float]:
        """Return the seconds that something takes after a warm-up, and the peak of device memory in GiB."""
        warm_up()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._synchronize()
        start = time.perf_counter()
        run()
        self._synchronize()
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0
        return seconds, peak

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def shapes_of(size: Size) -> dict[str, tuple[int, ...]]:
    return expected_shapes(
        hidden_size=size.hidden_size,
        depth=size.depth,
        depth_single=size.depth_single,
        text_width=size.text_width,
    )


def hunyuan_vae(machine: Machine):
    """Return the host's VAE of HunyuanVideo with random weights."""
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    with torch.device("meta"):
        layout = AutoencoderKL(ddconfig=HUNYUAN_VAE, embed_dim=HUNYUAN_VAE["z_channels"])
    return comfy.sd.VAE(sd={key: machine.random(tuple(t.shape)) for key, t in layout.state_dict().items()})


def llava(machine: Machine, kind: str):
    """Return encoders around a LLaVA and a CLIP-L with random weights; the tokenizers know few words."""
    from magic141.model_patches.bridge.encoders.socket import HuggingFaceBackend, Magic141Encoders
    from magic141.model_patches.bridge.int8.encoders import quantize_encoders
    from magic141.model_patches.encoders.clip import PooledTextEncoder
    from magic141.model_patches.encoders.vlm import VisionLanguageModel
    from magic141.tests.support.tiny_encoders import clip_tokenizer, llama_tokenizer
    from transformers import CLIPImageProcessor

    llama_words, clip_words = llama_tokenizer(), clip_tokenizer()
    vlm = VisionLanguageModel(_random_llava(machine, llama_words))
    clip = PooledTextEncoder(_random_clip_text(machine, clip_words))
    processor = CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    encoders = Magic141Encoders(HuggingFaceBackend(vlm, llama_words, processor, clip, clip_words))
    plan = KINDS[kind]
    return encoders if plan is None else quantize_encoders(encoders, plan)


def _random_llava(machine: Machine, tokenizer):
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    sizes, image = machine.sizes.llava, tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes["vision"]),
        text_config=LlamaConfig(**sizes["text"]),
        image_token_id=image,
        image_token_index=image,
    )
    return _made_on_device(machine, lambda: LlavaForConditionalGeneration(config))


def _random_clip_text(machine: Machine, tokenizer):
    from transformers import CLIPTextConfig, CLIPTextModel

    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPTextConfig(**CLIP_L_TEXT | ids)
    return _made_on_device(machine, lambda: CLIPTextModel(config))


def _made_on_device(machine: Machine, make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """Return a module whose random weights are made on the device, and lie in RAM as if they came from a file."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(machine.dtype)
    try:
        with torch.device(machine.device):
            return make().eval().cpu()
    finally:
        torch.set_default_dtype(before)

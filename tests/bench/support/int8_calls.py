"""What the int8 bench feeds the DiT: held-out prompts and noises, and inputs with outlier channels."""

from collections.abc import Iterator

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from magic141.lab import world
from magic141.model_patches.bridge.int8.probe import Probe, named_blocks, run_probe
from magic141.model_patches.bridge.int8.ranking import relative_error
from magic141.tests.bench.demo import FRAMES, Pack
from torch import Tensor, nn

SCENES = 8
SEED = 11


def held_out_scenes(count: int = SCENES):
    return world.sample_scenes(count, generator=torch.Generator().manual_seed(SEED), split="test")


class HeldOutCalls:
    """The DiT's inputs at every step of clips of held-out scenes, as the nodes make them."""

    def __init__(self, count: int = SCENES) -> None:
        pack, self.calls = Pack(), []
        scenes = held_out_scenes(count)
        truth, captions = world.render_clip(scenes, FRAMES), world.named_caption(scenes)
        hook = pack.ti2v.model.diffusion_model.register_forward_pre_hook(self._keep, with_kwargs=True)
        for seed, (clip, caption) in enumerate(zip(truth, captions, strict=True)):
            pack.clip(clip[:1].movedim(1, -1), caption, seed)
        hook.remove()

    def _keep(self, _module: nn.Module, inputs: tuple, named: dict) -> None:
        self.calls.append((inputs, {k: v for k, v in named.items() if k != "transformer_options"}))

    def outputs(self, patcher: ModelPatcher) -> list[Tensor]:
        comfy.model_management.load_models_gpu([patcher])
        return [patcher.model.diffusion_model(*i, **named).float().clone() for i, named in self.calls]

    def mean_error(self, quantized: ModelPatcher, reference: list[Tensor]) -> float:
        errors = [relative_error(*pair) for pair in zip(self.outputs(quantized), reference, strict=True)]
        return sum(errors) / len(errors)


def outlier_errors(
    quantized: ModelPatcher, original: ModelPatcher, probe: Probe, *, factor: float = 30.0, every: int = 64
) -> dict[str, float]:
    """Return each token Linear's relative error when every 64th of its inputs is ``factor`` times as large.

    Such channels are what trained DiTs have and random probes lack; they are what W8A8 suffers from. The inputs are
    those of the original on the probe. Modulation, whose input is one vector of time and pooled text, is left out.
    """
    given: dict[str, Tensor] = {}
    linears = dict(_token_linears(original))
    hooks = [
        linear.register_forward_pre_hook(lambda _m, inputs, name=name: given.update({name: inputs[0]}))
        for name, linear in linears.items()
    ]
    try:
        run_probe(original, probe, record=False)
    finally:
        for hook in hooks:
            hook.remove()
    errors = {}
    comfy.model_management.load_models_gpu([original, quantized])
    with torch.inference_mode():
        for name, twin in _token_linears(quantized):
            inputs = given[name].clone()
            inputs[..., ::every] *= factor
            errors[name] = relative_error(twin(inputs).float(), linears[name](inputs).float())
    return errors


def _token_linears(patcher: ModelPatcher) -> Iterator[tuple[str, nn.Module]]:
    for block_name, block in named_blocks(patcher.model.diffusion_model):
        for name, module in block.named_modules():
            if _is_token_linear(name, module):
                yield f"{block_name}.{name}", module


def _is_token_linear(name: str, module: nn.Module) -> bool:
    return hasattr(module, "in_features") and "mod" not in name.split(".")[0]

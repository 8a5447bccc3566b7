"""What the host's speed-ups ask of a MODEL: attention without a mask, and blocks that compile without a break."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch

COMPILERS = ("c++", "g++", "clang++")


@dataclass
class Attention:
    """How often a run called attention, and how many of the calls had a mask."""

    calls: int = 0
    masks: int = 0


def watched(patcher) -> tuple[object, Attention]:
    """Return a clone of a MODEL that counts its attention calls, and the counts."""
    seen, clone = Attention(), patcher.clone()

    def attend(attention, q, k, v, heads, mask=None, *args, **options):
        seen.calls += 1
        seen.masks += mask is not None
        return attention(q, k, v, heads, mask, *args, **options)

    clone.model_options.setdefault("transformer_options", {})["optimized_attention_override"] = attend
    return clone, seen


def has_compiler() -> bool:
    """Say whether torch's compiler finds the C++ compiler that it needs on a CPU."""
    return any(map(shutil.which, COMPILERS))


def compiled(patcher, backend: str = "inductor"):
    """Return what the host's Torch Compile Model node makes of a MODEL."""
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    return TorchCompileModel.execute(patcher, backend).result[0]


def graph_breaks(run: Callable[[], object]) -> dict[str, int]:
    """Return how often the compiler had to leave its graph while something ran for the first time, by reason."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    run()
    assert counters["frames"]["ok"], "nothing was compiled"
    return dict(counters["graph_break"])

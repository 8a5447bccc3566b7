"""Match colours through the host's own Transfer Color node."""

import contextlib
from collections.abc import Iterator

import comfy.utils
from comfy_extras.nodes_post_processing import ColorTransfer
from torch import Tensor


def match_colors(frames: Tensor, reference: Tensor, strength: float) -> Tensor:
    """Move the frames' colours, all by one transform, towards the reference's.

    Args:
        frames: (T, H, W, 3) in [0, 1].
        reference: (N, H, W, 3) in [0, 1].
        strength: 0 leaves the frames as they are, 1 gives them the reference's mean and spread in Lab.
    """
    if strength == 0.0:
        return frames
    with _quiet_progress():
        output = ColorTransfer.execute(
            frames, reference, "reinhard_lab", {"source_stats": "uniform"}, strength=strength
        )
    return output.args[0].to(frames)


@contextlib.contextmanager
def _quiet_progress() -> Iterator[None]:
    """Keep a node called from inside another from taking over its progress bar."""
    hook = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(None)
    try:
        yield
    finally:
        comfy.utils.set_progress_bar_global_hook(hook)

"""Say in the middle of a DiT which motion the noisy clip has: help in training, thrown away after it.

To choose one of several futures the network must find it in the noise, and flow matching tells it so only through the
pixels. Told directly, a layer learns it sooner (as in Yu et al., "Representation Alignment for Generation", 2024).
"""

from torch import Tensor, nn

from ..world.scenes import NUM_MOTIONS

BLOCK = 1
"""The single block that is read: behind it enough are left to draw what it has found."""
WEIGHT = 0.03


class MotionHead(nn.Module):
    """Motions from the mean of a block's video tokens.

    Args:
        model: diffusers' twin; its block is listened to as long as this lives.
        width: of its tokens.
    """

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, NUM_MOTIONS)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self._seen: Tensor | None = None
        model.single_transformer_blocks[BLOCK].register_forward_hook(self._listen)

    def _listen(self, block: nn.Module, inputs: tuple, outputs: tuple[Tensor, Tensor]) -> None:
        self._seen = outputs[0]

    def loss(self, motions: Tensor) -> Tensor:
        """Return the weighted cross entropy of what the last forward has seen against (B, 16) likelihoods."""
        assert self._seen is not None, "the model has not run yet"
        tokens = self._seen
        logits = self.linear(nn.functional.layer_norm(tokens, tokens.shape[-1:]).mean(1))
        return WEIGHT * nn.functional.cross_entropy(logits, motions)

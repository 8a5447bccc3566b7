"""Predict from the middle of a DiT which motion the noisy clip has: a help in training that is dropped after it.

To choose one of several futures the network must find it in the noise, and flow matching teaches that only through the
pixels. With a direct target a layer learns it sooner (Yu et al., "Representation Alignment for Generation", 2024).
"""

from torch import Tensor, nn

from ..world.scenes import NUM_MOTIONS

BLOCK = 1
"""The single block whose tokens are read; enough blocks follow it to draw what it has found."""
WEIGHT = 0.03


class MotionHead(nn.Module):
    """Predicts motions from the mean of a block's video tokens.

    Args:
        model: diffusers' twin; a hook on its block stays as long as this head.
        width: of its tokens.
    """

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, NUM_MOTIONS)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self._tokens: Tensor | None = None
        model.single_transformer_blocks[BLOCK].register_forward_hook(self._keep_tokens)

    def _keep_tokens(self, block: nn.Module, inputs: tuple, outputs: tuple[Tensor, Tensor]) -> None:
        self._tokens = outputs[0]

    def loss(self, motions: Tensor) -> Tensor:
        """Return the weighted cross entropy of the last forward's predictions against (B, 16) likelihoods."""
        assert self._tokens is not None, "the model has not run yet"
        tokens = self._tokens
        logits = self.linear(nn.functional.layer_norm(tokens, tokens.shape[-1:]).mean(1))
        return WEIGHT * nn.functional.cross_entropy(logits, motions)

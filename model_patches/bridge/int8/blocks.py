"""The Linear layers of a model's repeated blocks, and stand-ins for weights that take no memory."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...dit.weights_file import Header, TensorInfo
from ...int8.source import Piece, weight_info


def linear_weights(dit: nn.Module) -> set[str]:
    """Return the names of the weights of all Linears."""
    return {f"{name}.weight" for name, module in dit.named_modules() if _is_linear(module)}


def block_weights(dit: nn.Module) -> set[str]:
    """Return the names of the weights of the Linears inside the repeated blocks."""
    return {path + weight for path, blocks in repeated_blocks(dit) for weight in linear_weights(blocks)}


def repeated_blocks(dit: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the lists of equal modules that lie nearest to the model's root, each after the prefix of its names.

    Lists further down (a text refiner, adapters) do not belong to the trunk.
    """
    lists: list[tuple[str, nn.Module]] = []
    level = [("", dit)]
    while level and not lists:
        below = [
            (f"{path}{name}.", child) for path, module in level for name, child in module.named_children()
        ]
        lists = [(path, module) for path, module in below if _is_list_of_blocks(module)]
        level = below
    return lists


def _is_list_of_blocks(module: nn.Module) -> bool:
    if not isinstance(module, (nn.ModuleList, nn.ModuleDict)) or not len(module):
        return False
    children = list(module.children())
    return len({type(child) for child in children}) == 1 and any(
        _is_linear(part) for part in children[0].modules() if part is not children[0]
    )


def _is_linear(module: nn.Module) -> bool:
    is_host_linear = hasattr(module, "comfy_cast_weights") and hasattr(module, "in_features")
    return isinstance(module, nn.Linear) or is_host_linear  # the host's quantized one is not torch's


def stand_ins(header: Header, pieces: Mapping[str, tuple[Piece, ...]]) -> dict[str, Tensor]:
    """Return tensors of the types and shapes of these weights; see ``empty``."""
    return empty({key: weight_info(header, rows) for key, rows in pieces.items()})


def empty(tensors: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
    """Return tensors of these types and shapes: matrices without memory, and zeros where the host may read values."""
    return {
        key: torch.zeros(shape, dtype=getattr(torch, dtype), device="meta" if len(shape) > 1 else "cpu")
        for key, (dtype, shape) in tensors.items()
    }

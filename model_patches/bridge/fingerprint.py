"""Tell encoders and VAEs apart by a sample of their weights, cheaply enough to ask before every build of a set."""

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

SAMPLES_PER_TENSOR = 16


def tensor_fingerprint(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's shape, dtype and every byte."""
    digest = hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def module_fingerprint(module: nn.Module) -> str:
    """Return a digest of names, shapes and a few values of every weight."""
    return _weights_fingerprint(module.state_dict())


def _weights_fingerprint(weights: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(_sample(value))
    return digest.hexdigest()


def _patcher_fingerprint(patcher, network: nn.Module, prefix: str) -> str:
    """Return a digest that is the same whether the patcher's model is loaded or not.

    Loading writes patches into the weights, and the host keeps what was there before.
    """
    weights = dict(network.state_dict())
    for name in weights:
        if (kept := patcher.backup.get(f"{prefix}{name}")) is not None:
            weights[name] = kept.weight
    digest = hashlib.sha256(_weights_fingerprint(weights).encode())
    for key, patches in sorted(patcher.patches.items(), key=lambda item: str(item[0])):
        for patch in patches:
            digest.update(f"{key} {patch[0]} {patch[2]}".encode())
            for tensor in _tensors(patch[1]):
                digest.update(_sample(tensor))
    for key, adapter, strength in _bypass_adapters(patcher):
        digest.update(f"{key} {strength}".encode())
        for tensor in _tensors(adapter):
            digest.update(_sample(tensor))
    return digest.hexdigest()


def _bypass_adapters(patcher) -> Iterator[tuple[str, Any, float]]:
    """Yield (weight, adapter, strength) of LoRAs that run beside the weights: only their injection knows them."""
    for _, injections in sorted(patcher.injections.items()):
        for injection in injections:
            for manager in inspect.getclosurevars(injection.inject).nonlocals.values():
                for key, (adapter, strength) in sorted(getattr(manager, "adapters", {}).items()):
                    yield key, adapter, strength


def encoders_fingerprint(encoders) -> str:
    """Return a digest of all networks behind a MAGIC141_ENCODERS value."""
    digest = hashlib.sha256()
    for name, part in sorted(vars(encoders.backend).items()):
        patcher = getattr(part, "patcher", None)
        if patcher is not None and isinstance(patcher.model, nn.Module):
            digest.update(f"{name} {_patcher_fingerprint(patcher, patcher.model, '')}".encode())
        elif isinstance(part, nn.Module):
            digest.update(f"{name} {module_fingerprint(part)}".encode())
    return digest.hexdigest()


def _sample(value: Tensor) -> bytes:
    """Return some evenly spaced values as bytes; quantized tensors by their payload."""
    value = getattr(value, "_qdata", value).detach()
    flat = value.reshape(-1)
    step = max(1, flat.numel() // SAMPLES_PER_TENSOR)
    return flat[::step][:SAMPLES_PER_TENSOR].float().cpu().numpy().tobytes()


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors inside a patch, which is a nest of tuples and adapter objects."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif hasattr(value, "weights"):
        yield from _tensors(value.weights)

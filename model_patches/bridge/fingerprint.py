"""Tell models apart by a sample of their weights, cheaply enough to ask before every run."""

import hashlib

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
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(_sample(value))
    return digest.hexdigest()


def model_fingerprint(model) -> str:
    """Return a digest of a MODEL: its weights, the patches (LoRA ...) on them and their strengths."""
    digest = hashlib.sha256(module_fingerprint(model.model.diffusion_model).encode())
    for key, patches in sorted(model.patches.items(), key=lambda item: str(item[0])):
        for patch in patches:
            digest.update(f"{key} {patch[0]} {patch[2]}".encode())
            for tensor in _tensors(patch[1]):
                digest.update(_sample(tensor))
    return digest.hexdigest()


def encoders_fingerprint(encoders) -> str:
    """Return a digest of all networks behind a MAGIC141_ENCODERS value."""
    digest = hashlib.sha256()
    for name, part in sorted(vars(encoders.backend).items()):
        network = getattr(getattr(part, "patcher", None), "model", part)
        if isinstance(network, nn.Module):
            digest.update(f"{name} {module_fingerprint(network)}".encode())
    return digest.hexdigest()


def _sample(value: Tensor) -> bytes:
    """Return some evenly spaced values as bytes; quantized tensors by their payload."""
    value = getattr(value, "_qdata", value).detach()
    flat = value.reshape(-1)
    step = max(1, flat.numel() // SAMPLES_PER_TENSOR)
    return flat[::step][:SAMPLES_PER_TENSOR].float().cpu().numpy().tobytes()


def _tensors(value: object):
    """Yield the tensors inside a patch, which is a nest of tuples and adapter objects."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif hasattr(value, "weights"):
        yield from _tensors(value.weights)

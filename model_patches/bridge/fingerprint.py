"""Tell tensors that are wired into a node apart by their content."""

import hashlib

import torch
from torch import Tensor


def tensor_fingerprint(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's shape, dtype and every byte."""
    digest = hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

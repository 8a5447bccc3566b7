"""Exact nearest neighbors by cosine over any number of vectors, and diversity among the best.

Shapes: N vectors, D width, K results. Vectors and queries have length 1, so a cosine is a product.
Vectors may be memory-mapped, so the search has no size limit: it reads 2 * D bytes a vector (1.5 GB for a million of
width 768), which sets its speed. An approximate index would be faster for more vectors, but would have to be built,
trained and kept beside them, and could miss the best match.
Source: paper equations 1-2, R(prompt) = argmax over the corpus of sim(text embedding, image embedding).
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Half precision changes a product of unit vectors by at most 2^-11 for the query and 2^-11 for the result.
HALF_ERROR = 2 * 2.0**-11


def unit_length(vectors: Tensor) -> Tensor:
    """Return vectors (..., D) as float32 of length 1.

    Raises:
        ValueError: a vector is zero or not finite, which a broken model makes.
    """
    vectors = vectors.float()
    norms = vectors.norm(dim=-1)
    if not bool(torch.isfinite(norms).all() and (norms > 0).all()):
        raise ValueError(
            "The embedding model returned a zero or non-finite vector: its weights are damaged, or it overflows "
            "in half precision. Try another CLIP model."
        )
    return functional.normalize(vectors, dim=-1)


def top_k(query: Tensor, vectors: Tensor, *, k: int, left_out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the k best cosines and where they are, best first.

    Half-precision vectors are scored in half precision (half the memory traffic), then every vector that rounding could
    have kept out of the best is scored in float32: the result is that of a float32 product over the stored vectors.

    Args:
        query: (D,), length 1.
        vectors: (N, D); memory-mapped ones stay on disk. One product over all of them is twice as fast as one for
            every 8,192, because only a long product is shared among the cores. In half precision a product of matrices
            is a quarter faster than torch.mv.
        k: how many to return, 1 or more.
        left_out: (N,) mask of vectors to skip.

    Returns:
        scores (K,) float32 and positions (K,) int64, K = min(k, N).

    Raises:
        ValueError: the widths differ.
    """
    query = query.float()
    if not len(vectors):
        return query.new_empty(0), torch.empty(0, dtype=torch.int64)
    if vectors.shape[-1] != query.shape[-1]:
        raise ValueError(
            f"The query is {query.shape[-1]} wide, the index {vectors.shape[-1]}: not the same model."
        )
    # numpy after this: on a busy machine each torch operation over all vectors would wait for all its threads
    rough = functional.linear(query.to(vectors.dtype)[None], vectors)[0].numpy().astype(np.float32)
    if left_out is not None:
        rough[left_out.numpy()] = -np.inf
    k = min(k, len(rough))
    worst = np.partition(rough, len(rough) - k)[len(rough) - k]
    near = np.flatnonzero(rough >= worst - 2 * HALF_ERROR)
    scores, order = (torch.from_numpy(vectors.numpy()[near]).float() @ query).topk(k)
    return scores, torch.from_numpy(near)[order]


def diverse_order(scores: Tensor, vectors: Tensor, *, diversity: float) -> list[int]:
    """Order candidates by maximal marginal relevance.

    Cosines between a text and pictures are far smaller than those between pictures, so both are scaled to 0..1
    over the candidates before they are weighed.

    Args:
        scores: (K,), cosine with the query, best first.
        vectors: (K, D), length 1.
        diversity: 0 keeps the order of the scores; 1 takes the best, then always the one least similar to those taken.

    Returns:
        Positions 0..K-1 in the order to take them.
    """
    if not 0 <= diversity <= 1:
        raise ValueError(f"diversity must be between 0 and 1, got {diversity}.")
    if diversity == 0 or len(scores) < 3:
        return list(range(len(scores)))
    relevance = _spread(scores)
    similarity = _spread(vectors.float() @ vectors.float().T)
    order, left = [0], torch.ones(len(scores), dtype=torch.bool)
    left[0] = False
    nearest = similarity[0].clone()
    while bool(left.any()):
        value = (1 - diversity) * relevance - diversity * nearest
        best = int(value.masked_fill(~left, -torch.inf).argmax())
        order.append(best)
        left[best] = False
        nearest = torch.maximum(nearest, similarity[best])
    return order


def _spread(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1e-6)

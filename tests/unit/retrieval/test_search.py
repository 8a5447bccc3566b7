"""Exact top-k in any precision, and diversity."""

import pytest
import torch
from magic141.model_patches.retrieval.search import diverse_order, top_k, unit_length


def corpus(num=1000, width=64, seed=0):
    return unit_length(torch.randn(num, width, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("k", [1, 10, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_top_k_is_that_of_the_plain_product(k, dtype):
    vectors = corpus().to(dtype)
    query = corpus(1, seed=1)[0]
    scores, positions = top_k(query, vectors, k=k)
    wanted = (vectors.float() @ query).topk(k)
    assert positions.tolist() == wanted.indices.tolist()
    torch.testing.assert_close(scores, wanted.values)


def test_half_precision_is_exact_among_near_duplicates():
    """All cosines lie within a few half-precision roundings of each other."""
    query = corpus(1, width=768, seed=1)[0]
    noise = torch.randn(2000, 768, generator=torch.Generator().manual_seed(2)) * 1e-4
    vectors = unit_length(query + noise).half()
    scores, positions = top_k(query, vectors, k=20)
    wanted = (vectors.float() @ query).topk(20)
    torch.testing.assert_close(scores, wanted.values, rtol=0, atol=1e-6)
    assert len(set(positions.tolist()) & set(wanted.indices.tolist())) >= 18  # the rest are ties in float32


def test_fewer_vectors_than_k():
    scores, positions = top_k(corpus(1)[0], corpus(5, seed=5), k=10)
    assert sorted(positions.tolist()) == [0, 1, 2, 3, 4]
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_an_empty_corpus_has_no_neighbors():
    assert len(top_k(corpus(1)[0], corpus(3)[:0], k=3)[0]) == 0


def test_what_is_left_out_is_not_found():
    vectors, query = corpus().half(), corpus(1, seed=1)[0]
    left_out = torch.zeros(1000, dtype=torch.bool)
    left_out[top_k(query, vectors, k=10)[1]] = True
    _, positions = top_k(query, vectors, k=10, left_out=left_out)
    wanted = (vectors.float() @ query).masked_fill(left_out, -1).topk(10)
    assert positions.tolist() == wanted.indices.tolist()


def test_another_width_is_another_model():
    with pytest.raises(ValueError, match="64 wide, the index 32"):
        top_k(corpus(1)[0], corpus(3, width=32), k=1)


@pytest.mark.parametrize(
    "bad", [torch.zeros(2, 4), torch.full((2, 4), float("nan")), torch.full((2, 4), torch.inf)]
)
def test_broken_vectors_are_refused(bad):
    with pytest.raises(ValueError, match="zero or non-finite"):
        unit_length(bad)


def test_diversity_zero_keeps_the_order():
    assert diverse_order(torch.tensor([0.9, 0.8, 0.7]), corpus(3), diversity=0) == [0, 1, 2]


def test_diversity_puts_duplicates_last():
    a, b = torch.eye(4)[0], torch.eye(4)[1]
    vectors = torch.stack([a, a, a, b])
    order = diverse_order(torch.tensor([0.30, 0.30, 0.29, 0.25]), vectors, diversity=0.6)
    assert order[:2] == [0, 3]
    assert sorted(order) == [0, 1, 2, 3]


def test_diversity_is_a_share():
    with pytest.raises(ValueError, match=r"1\.5"):
        diverse_order(torch.ones(3), corpus(3), diversity=1.5)

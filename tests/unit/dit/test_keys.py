"""The key table, read forwards and backwards."""

import pytest
import torch
from magic141.model_patches.dit.diffusers_config import diffusers_config
from magic141.model_patches.dit.keys import (
    authors_to_host,
    diffusers_to_host,
    expected_shapes,
    host_key,
    host_to_authors,
    host_to_diffusers,
)
from magic141.tests.support.tiny_dit import tiny_dit


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        assert torch.equal(tensor, theirs[key]), key


@pytest.mark.parametrize("guidance", [False, True])
def test_round_trips(guidance):
    host = tiny_dit(guidance=guidance, depth=2, depth_single=3)
    assert_same(diffusers_to_host(host_to_diffusers(host)), host)
    assert_same(authors_to_host(host_to_authors(host)), host)


def test_host_names_pass_through_authors_to_host():
    host = tiny_dit(guidance=True)
    assert_same(authors_to_host(host), host)


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("text_guidance_in.mlp.0.weight", "guidance_in.in_layer.weight"),
        ("guidance_in.mlp.2.bias", "guidance_in.out_layer.bias"),
        ("double_blocks.11.img_attn_q_norm.weight", "double_blocks.11.img_attn.norm.query_norm.weight"),
        ("double_blocks.0.txt_attn.norm.key_norm.scale", "double_blocks.0.txt_attn.norm.key_norm.weight"),
        ("single_blocks.39.k_norm.weight", "single_blocks.39.norm.key_norm.weight"),
        ("single_blocks.3.linear1.weight_scale", "single_blocks.3.linear1.weight_scale"),
        ("double_blocks.1.img_mlp.fc2.comfy_quant", "double_blocks.1.img_mlp.2.comfy_quant"),
        ("double_blocks.1.attn.qkv.weight", None),
        ("vae.encoder.conv_in.weight", None),
    ],
)
def test_host_key(key, host):
    assert host_key(key) == host


def test_every_diffusers_key_is_filled():
    diffusers = pytest.importorskip("diffusers")
    host = tiny_dit(guidance=True)
    twin = diffusers.HunyuanVideoTransformer3DModel(**diffusers_config(host))
    twin.load_state_dict(host_to_diffusers(host), strict=True)
    assert_same(diffusers_to_host(twin.state_dict()), host)


def test_shapes_of_the_released_size():
    shapes = expected_shapes(hidden_size=3072, depth=20, depth_single=40)
    assert shapes["img_in.proj.weight"] == (3072, 33, 1, 2, 2)
    assert shapes["single_blocks.39.linear1.weight"] == (21504, 3072)
    assert shapes["single_blocks.39.linear2.weight"] == (3072, 15360)
    assert shapes["final_layer.linear.weight"] == (64, 3072)
    parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert 12.7e9 < parameters < 12.9e9


def test_unknown_key_is_named():
    with pytest.raises(ValueError, match=r"blocks\.0\.cross_attn"):
        host_to_diffusers({"blocks.0.cross_attn.q.weight": torch.zeros(1)})


def test_half_a_fused_weight_is_named():
    twin = host_to_diffusers(tiny_dit())
    del twin["transformer_blocks.0.attn.to_k.weight"]
    with pytest.raises(ValueError, match=r"transformer_blocks\.0\.attn\.to_k\.weight is missing"):
        diffusers_to_host(twin)

"""Random video VAEs of the real architectures, opened by the host: TAEHV at its stock width, HunyuanVideo's narrow."""

import torch
from magic141.tests.support.released_sizes import HUNYUAN_VAE
from torch import Tensor, nn

NARROW_HUNYUAN = HUNYUAN_VAE | {"ch": 32}


def random_weights(network: nn.Module, *, gain: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    """Return weights of the spread of a trained network: every layer keeps its input's scale."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, value in network.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            weights[name] = drawn * (gain / value[0].numel() ** 0.5)
        else:
            weights[name] = drawn * 0.1 + float("norm" in name and name.endswith("weight"))
    return weights


def tiny_taehv_weights(seed: int = 0) -> dict[str, Tensor]:
    """Return a random fp16 state dict that stock VAELoader opens as TAEHV with HunyuanVideo scaling."""
    from comfy.taesd.taehv import TAEHV

    return {name: value.half() for name, value in random_weights(TAEHV(16), gain=1.3, seed=seed).items()}


def open_taehv(seed: int = 0):
    import comfy.sd

    vae = comfy.sd.VAE(sd=tiny_taehv_weights(seed))
    vae.first_stage_model.show_progress_bar = False
    return vae


def open_thin_taehv(width: int = 4, seed: int = 0):
    """Return the host's VAE object around TAEHV's architecture, every layer ``width`` channels wide."""
    from comfy.taesd.taehv import Clamp, MemBlock, TGrow, TPool, conv

    def blocks() -> list[nn.Module]:
        return [MemBlock(width, width, nn.ReLU()) for _ in range(3)]

    def down(stride: int) -> list[nn.Module]:
        return [TPool(width, stride), conv(width, width, stride=2, bias=False), *blocks()]

    def up(stride: int) -> list[nn.Module]:
        grow = TGrow(width, stride)
        return [*blocks(), nn.Upsample(scale_factor=2), grow, conv(width, width, bias=False)]

    vae = open_taehv(seed)
    network = vae.first_stage_model
    network.encoder = nn.Sequential(conv(3, width), nn.ReLU(), *down(2), *down(2), *down(1), conv(width, 16))
    network.decoder = nn.Sequential(
        Clamp(), conv(16, width), nn.ReLU(), *up(1), *up(2), *up(2), nn.ReLU(), conv(width, 3)
    )
    network.load_state_dict(random_weights(network, gain=1.3, seed=seed))
    network.to(vae.vae_dtype)
    return vae


def open_hunyuan_vae(seed: int = 0):
    """Return the host's VAE object around HunyuanVideo's own architecture at a quarter of its width."""
    from unittest import mock

    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    narrow = AutoencoderKL(ddconfig=NARROW_HUNYUAN, embed_dim=16)
    weights = random_weights(narrow, seed=seed)
    with mock.patch.object(comfy.sd, "AutoencoderKL", return_value=narrow):
        return comfy.sd.VAE(sd=weights)

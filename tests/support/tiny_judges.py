"""Tiny random models in the layouts that Clip Quality reads: DINO, CLIP, LAION's head, MUSIQ, RAFT, LPIPS."""

from pathlib import Path

import torch
from magic141.model_patches.judge.musiq import Musiq
from safetensors.torch import save_file
from torch import nn

from .tiny_encoders import write_clip_folder

DINO_SIDE_PX, DINO_PATCH_PX = 64, 16
CLIP_WIDTH = 32
LPIPS_WIDTHS = (64, 192, 384, 256, 256)


def random_weights(module: nn.Module, *, seed: int, spread: float = 0.1) -> nn.Module:
    """Fill a module with random weights; the scales of norms and their variances are near one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            is_scale = (tensor.ndim == 1 and name.endswith("weight")) or name.endswith("running_var")
            noise = torch.randn(tensor.shape, generator=generator) * spread
            tensor.copy_((1 + noise).clamp_min(0.5) if is_scale else noise)
    return module.eval()


def write_dino(folder: Path) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=DINO_SIDE_PX,
    )
    config.patch_size = DINO_PATCH_PX
    random_weights(ViTModel(config, add_pooling_layer=False), seed=1, spread=0.2).save_pretrained(folder)


def write_judges(folder: Path) -> Path:
    """Write every model file under the name it is downloaded with; RAFT and LPIPS are those of the real size."""
    from torchvision.models import alexnet
    from torchvision.models.optical_flow import raft_large

    folder.mkdir(parents=True, exist_ok=True)
    write_dino(folder / "dino-vitb16")
    write_clip_folder(folder / "clip-vit-base-patch32", seed=2)
    write_clip_folder(folder / "clip-vit-large-patch14", seed=3)
    generator = torch.Generator().manual_seed(4)
    head = {"weight": torch.randn(1, CLIP_WIDTH, generator=generator), "bias": torch.tensor([5.0])}
    torch.save(head, folder / "sa_0_4_vit_l_14_linear.pth")
    musiq = random_weights(Musiq(width=128, hidden=96, layers=2), seed=5)
    musiq.head.bias.data.fill_(60.0)
    save_file(musiq.state_dict(), folder / "musiq_spaq.safetensors")
    raft = random_weights(raft_large(), seed=6, spread=0.05)
    torch.save(raft.state_dict(), folder / "raft_large_C_T_V1-22a6c225.pth")
    torch.save(
        random_weights(alexnet(weights=None), seed=7).state_dict(), folder / "alexnet-owt-7be5be79.pth"
    )
    lines = {
        f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1, generator=generator)
        for i, n in enumerate(LPIPS_WIDTHS)
    }
    torch.save(lines, folder / "lpips_alex.pth")
    return folder


def write_video_mae(folder: Path) -> None:
    from transformers import VideoMAEConfig, VideoMAEModel

    config = VideoMAEConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
    )
    random_weights(VideoMAEModel(config), seed=8, spread=0.2).save_pretrained(folder)


def inception_weights() -> dict[str, torch.Tensor]:
    """Return random weights of FID's Inception, each layer of which keeps the size of its signal."""
    from torchvision.models import Inception3

    net = Inception3(1008, aux_logits=False, transform_input=False, init_weights=False)
    random_weights(net, seed=9, spread=0.1)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 10 * (2 / module.weight[0].numel()) ** 0.5
    return net.state_dict()

"""Judge one clip with tiny random models, by the product and by the published definitions."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import alexnet
from torchvision.models.optical_flow import raft_large
from transformers import CLIPModel, PreTrainedTokenizerFast, ViTModel

from . import published_measures as published
from .tiny_encoders import IMAGE_SIZE

PROMPT, FPS = "a large red circle moves right", 16.0


def moving_video(*, count: int = 9, height: int = 96, width: int = 132, seed: int = 0) -> Tensor:
    """Return noise and a pattern that move, (T, H, W, 3) uint8."""
    generator = torch.Generator().manual_seed(seed)
    ground = torch.rand(1, 3, height // 8, width // 8 + count, generator=generator)
    ground = torch.nn.functional.interpolate(ground, (height, width + 8 * count), mode="bicubic")[0].clamp(
        0, 1
    )
    frames = torch.stack([ground[:, :, 3 * i : 3 * i + width] for i in range(count)]).permute(0, 2, 3, 1)
    noise = torch.rand(frames.shape, generator=generator) * 0.2
    return ((0.8 * frames + noise) * 255).round().to(torch.uint8)


@torch.no_grad()
def by_definition(folder: Path, video: Tensor, start: Tensor) -> dict[str, float]:
    """Return every measure with a published definition, on the models of a folder.

    Args:
        start: (1, H, W, 3) uint8, of the video's size.
    """
    vit = ViTModel.from_pretrained(folder / "dino-vitb16", add_pooling_layer=False, use_safetensors=True)
    scene_folder, taste_folder = folder / "clip-vit-base-patch32", folder / "clip-vit-large-patch14"
    scene = CLIPModel.from_pretrained(scene_folder, use_safetensors=True)
    taste = CLIPModel.from_pretrained(taste_folder, use_safetensors=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(scene_folder)
    head = torch.load(folder / "sa_0_4_vit_l_14_linear.pth", weights_only=True)
    raft = raft_large().eval()
    raft.load_state_dict(torch.load(folder / "raft_large_C_T_V1-22a6c225.pth", weights_only=True))
    seen = published.clip_features(scene, published.clip_view(video, IMAGE_SIZE))
    seen_start = published.clip_features(scene, published.clip_view(start, IMAGE_SIZE))
    dynamic, flow = published.dynamic_degree(raft, video, FPS)
    i2v = [published.dino_features(vit, published.dino_i2v_view(each)) for each in (start, video)]
    return {
        "temporal_flickering": published.temporal_flickering(video),
        "motion_smoothness": published.motion_smoothness(video),
        "subject_consistency": published.consistency(
            published.dino_features(vit, published.dino_view(video))
        ),
        "i2v_subject": published.i2v_score(*i2v),
        "background_consistency": published.consistency(seen),
        "i2v_background": published.i2v_score(seen_start, seen),
        "prompt_fit": published.clip_score(scene, tokenizer, video, PROMPT, IMAGE_SIZE),
        "aesthetic_quality": published.aesthetic_quality(taste, head, video, IMAGE_SIZE),
        "imaging_quality": published.imaging_quality(load_file(folder / "musiq_spaq.safetensors"), video),
        "dynamic_degree": dynamic,
        "flow_px": flow,
        "start_lpips": lpips_of(folder, video[:1], start),
    }


def lpips_of(folder: Path, one: Tensor, other: Tensor) -> float:
    """Return the distance that the package ``lpips`` finds with the same weights."""
    import lpips

    model = lpips.LPIPS(net="alex", pnet_rand=True, pretrained=False, verbose=False).eval()
    backbone = alexnet(weights=None)
    backbone.load_state_dict(torch.load(folder / "alexnet-owt-7be5be79.pth", weights_only=True))
    for part in (model.net.slice1, model.net.slice2, model.net.slice3, model.net.slice4, model.net.slice5):
        for index, layer in part.named_children():
            layer.load_state_dict(backbone.features[int(index)].state_dict())
    lines = torch.load(folder / "lpips_alex.pth", weights_only=True)
    model.load_state_dict({**model.state_dict(), **lines})
    shown = [published.as_pictures(each) / 127.5 - 1 for each in (one, other)]
    return float(model(*shown))

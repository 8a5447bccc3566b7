"""Known frames through the host's VAE classes and concat_cond: which frame lands in which latent, and the masks."""

import pytest
import torch
from magic141.tools.host import use_comfyui
from torch import Tensor

use_comfyui()

import comfy.sd
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.taesd.taehv import TAEHV
from magic141.model_patches.bridge.encoders.conditioning import ClipRequest, image_to_video_conditioning
from magic141.model_patches.bridge.encoders.socket import EncodedPrompt
from magic141.model_patches.bridge.vae import decode_frames, encode_frames

SIZE = {"width": 32, "height": 32, "length": 13}


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Give a module of the host (made with uninitialised memory) weights that keep the signal's size."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 100
        parameter.data = torch.randn(parameter.shape, generator=generator) * fan_in**-0.5
    return module.eval()


def tiny_vae():
    return comfy.sd.VAE(sd={key: value.half() for key, value in randomised(TAEHV(16)).state_dict().items()})


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def taehv():
    return tiny_vae()


@pytest.fixture(scope="module")
def causal_vae():
    """The host's HunyuanVideo VAE class, narrow, in place of the tiny one."""
    config = {"double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32}
    config |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    config |= {"conv3d": True, "time_compress": 4}
    vae, cpu = tiny_vae(), torch.device("cpu")
    vae.first_stage_model = randomised(AutoencoderKL(ddconfig=config, embed_dim=16))
    vae.patcher = comfy.model_patcher.CoreModelPatcher(vae.first_stage_model, cpu, cpu)
    vae.vae_dtype = torch.float32
    return vae


class StillEncoders:
    """Stands in for the encoders; remembers what the VLM was shown."""

    def encode(self, prompt, negative_prompt="", images=None) -> EncodedPrompt:
        self.seen = images
        return EncodedPrompt(
            *([[torch.zeros(1, 3, 8), {"pooled_output": torch.zeros(1, 768)}]] for _ in range(2))
        )


def frames(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 32, 32, 3, generator=torch.Generator().manual_seed(seed))


def test_tiny_vae_frame_0_alone_then_four_at_a_time(taehv):
    """Change one frame: the latents before its own must not move, its own must."""
    clip = frames(9)
    reference = encode_frames(taehv, clip)
    assert reference.shape == (1, 16, 3, 4, 4)
    assert torch.allclose(reference[:, :, :1], encode_frames(taehv, clip[:1]), atol=1e-4)
    for frame in (1, 4, 5, 8):
        changed = clip.clone()
        changed[frame] = 1.0 - changed[frame]
        moved = (encode_frames(taehv, changed) - reference).abs().amax(dim=(0, 1, 3, 4)) > 1e-4
        own = (frame + 3) // 4
        assert moved.tolist()[: own + 1] == [False] * own + [True]


def test_tiny_vae_without_the_shift_would_be_off_by_three(taehv):
    """The trap itself: frames 1-3 land in latent 0 when the host's encode is called bare."""
    clip, changed = frames(9), frames(9)
    changed[3] = 1.0 - changed[3]
    moved = (taehv.encode(changed) - taehv.encode(clip)).abs().amax(dim=(0, 1, 3, 4)) > 1e-4
    assert moved[0]


def test_causal_vae_gets_the_frames_as_they_are(causal_vae):
    clip = frames(9)
    assert torch.equal(encode_frames(causal_vae, clip), causal_vae.encode(clip))
    assert encode_frames(causal_vae, clip).shape == (1, 16, 3, 4, 4)


@pytest.mark.parametrize("kind", ["taehv", "causal_vae"])
def test_decoding_gives_back_as_many_frames(kind, request):
    vae = request.getfixturevalue(kind)
    pixels = decode_frames(vae, encode_frames(vae, frames(5)))
    assert pixels.shape == (5, 32, 32, 3)
    assert pixels.min() >= 0.0
    assert pixels.max() <= 1.0


def test_out_of_memory_falls_back_to_tiles(taehv, monkeypatch):
    clip = frames(5)
    expected = encode_frames(taehv, clip)
    model, calls = taehv.first_stage_model, []
    encode = model.encode

    def fails_once(pixels, **kwargs):
        calls.append(pixels.shape)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no memory left")
        return encode(pixels, **kwargs)

    monkeypatch.setattr(model, "encode", fails_once)
    assert torch.allclose(encode_frames(taehv, clip), expected, atol=1e-4)
    assert len(calls) > 1


def conditioning(vae, images, mode, **options):
    encoders = StillEncoders()
    request = ClipRequest(**SIZE, prompt="a star", images=images, image_mode=mode, **options)
    positive, negative, latent = image_to_video_conditioning(encoders, vae, request)
    for key in ("concat_latent_image", "concat_mask"):
        assert torch.equal(positive[0][1][key], negative[0][1][key])
    assert latent["samples"].shape == positive[0][1]["concat_latent_image"].shape == (1, 16, 4, 4, 4)
    return positive[0][1], encoders.seen


@pytest.mark.parametrize(
    ("mode", "count", "unknown", "seen"),
    [
        ("start frame", 1, [0, 1, 1, 1], 1),
        ("known frames", 5, [0, 0, 1, 1], 1),
        ("known frames", 9, [0, 0, 0, 1], 1),
        ("reference pictures", 3, [1, 1, 1, 1], 3),
        ("start frame + references", 3, [0, 1, 1, 1], 3),
    ],
)
def test_what_a_batch_means(taehv, mode, count, unknown, seen):
    images = frames(count)
    values, shown = conditioning(taehv, images, mode)
    mask, latent = values["concat_mask"], values["concat_latent_image"]
    assert torch.equal(mask, torch.tensor(unknown).float().view(1, 1, 4, 1, 1).expand(1, 1, 4, 4, 4))
    assert torch.equal(shown, images[:seen])
    assert latent[:, :, [bool(u) for u in unknown]].abs().sum() == 0
    if known := unknown.count(0):
        standing = images if mode == "known frames" else images[:1]
        assert torch.equal(latent[:, :, :known], encode_frames(taehv, standing))


def test_the_vlm_sees_the_picture_uncropped_and_the_vae_cropped(taehv):
    wide = torch.rand(1, 40, 90, 3)
    values, shown = conditioning(taehv, wide, "start frame")
    assert shown.shape == wide.shape
    assert values["concat_latent_image"].shape[-2:] == (4, 4)


def test_first_and_last_frame(taehv):
    start, end = frames(1), frames(1, seed=1)
    values, shown = conditioning(taehv, start, "start frame", end_image=end)
    assert values["concat_mask"][0, 0, :, 0, 0].tolist() == [0, 1, 1, 0]
    assert torch.equal(values["concat_latent_image"][:, :, 3:], encode_frames(taehv, end))
    assert torch.equal(shown, start)


def test_known_latent_frames_are_taken_as_they_are(taehv):
    tail = torch.randn(1, 16, 2, 4, 4)
    values, _ = conditioning(taehv, None, "start frame", known_latent=tail)
    assert torch.equal(values["concat_latent_image"][:, :, :2], tail)


def test_guidance_is_set_only_when_asked(taehv):
    assert conditioning(taehv, None, "start frame", guidance=3.5)[0]["guidance"] == 3.5
    assert "guidance" not in conditioning(taehv, None, "start frame")[0]


@pytest.mark.parametrize(
    ("images", "mode", "options", "message"),
    [
        (frames(3), "start frame", {}, "image holds 3 pictures, but image_mode 'start frame' takes one"),
        (frames(4), "known frames", {}, "image .known frames. is 4 frames; .* Use 1 or 5"),
        (frames(13), "known frames", {}, "13 known frames leave nothing to make in a clip of 13"),
        (
            frames(1),
            "start frame",
            {"known_latent": torch.zeros(1, 16, 1, 4, 4)},
            "both give the clip's first frames",
        ),
        (None, "start frame", {"known_latent": torch.zeros(1, 16, 1, 8, 8)}, "known_latent has shape"),
        (None, "start frame", {"known_latent": torch.zeros(1, 16, 4, 4, 4)}, "the clip only 4"),
        (None, "start frame", {"end_image": frames(2)}, "end_image holds 2 pictures"),
    ],
)
def test_what_does_not_fit_is_refused(taehv, images, mode, options, message):
    with pytest.raises(ValueError, match=message):
        conditioning(taehv, images, mode, **options)


def test_another_vae_is_refused(taehv):
    class ImageVAE:
        latent_channels, latent_dim = 4, 2

        def spacial_compression_encode(self):
            return 8

    with pytest.raises(ValueError, match="latents of 4 channels over 2 dimensions"):
        conditioning(ImageVAE(), frames(1), "start frame")

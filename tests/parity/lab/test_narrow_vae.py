"""The benchmarks' cheap decoder against the host's TAEHV."""

import torch
from magic141.tools.host import use_comfyui

use_comfyui()

from magic141.lab.models.taehv import Taehv, expand_widths, narrow_network
from magic141.model_patches.bridge.vae import decode_frames
from magic141.tests.support.narrow_vae import StreamingDecoder


def test_narrow_streaming_decoding_gives_the_hosts_frames():
    import comfy.sd

    torch.manual_seed(0)
    stock = {name: value.half() for name, value in expand_widths(Taehv()).items()}
    with torch.inference_mode():
        vae = comfy.sd.VAE(sd=dict(stock))
        vae.first_stage_model.show_progress_bar = False
        decoder = StreamingDecoder(narrow_network(stock), 0.476986)
        latent = torch.randn(2, 16, 5, 2, 2)
        pieces = torch.cat([decoder.decode(latent[:, :, :3]), decoder.decode(latent[:, :, 3:])], dim=1)
        for index in range(2):
            whole = decode_frames(vae, latent[index : index + 1])
            torch.testing.assert_close(pieces[index], whole, atol=1e-4, rtol=0)

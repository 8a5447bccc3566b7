"""Small random weights of the right layout, under the file names that the host's stock templates ask for.

Sizes that the host fixes stay; where they would need gigabytes, the tests' node pack shrinks the host's own
configuration before it loads (see ``any_graph_nodes/shrink.py``).
"""

import io
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

UMT5 = {"d_model": 4096, "d_ff": 32, "d_kv": 16, "num_heads": 2, "num_layers": 1, "vocab_size": 300}
"""What is left of umt5-xxl; the width is Wan's, which fixes it."""
WAN_I2V = {
    "model_type": "t2v",
    "dim": 128,
    "ffn_dim": 128,
    "num_heads": 1,
    "num_layers": 1,
    "in_dim": 36,
    "out_dim": 16,
}
WAN_VAE = {"dim": 16, "z_dim": 16, "temperal_downsample": [False, True, True]}
SENTENCES = "a cat walks over a table. the white dragon warrior stands still, eyes full of determination."


def random_state(module: nn.Module, *, std: float = 0.05) -> dict[str, Tensor]:
    """Return random weights of a module's layout: small matrices, norms near one."""
    with torch.random.fork_rng():
        torch.manual_seed(141)
        return {
            name: torch.randn(value.shape) * std + (value.ndim == 1 and name.endswith(("weight", "gamma")))
            for name, value in module.state_dict().items()
        }


def write_wan_weights(models: Path, *, high: str, low: str, loras: tuple[str, ...] = ()) -> None:
    """Write what a Wan 2.2 image-to-video template loads.

    Args:
        models: a server's ``models`` folder.
        high, low: file names of the two experts.
        loras: file names of LoRAs for them.
    """
    import comfy.ops
    from comfy.ldm.wan.model import WanModel
    from comfy.ldm.wan.vae import WanVAE

    dit = random_state(WanModel(**WAN_I2V, operations=comfy.ops.disable_weight_init, dtype=torch.float32))
    for name in (high, low):
        write(models / "diffusion_models" / name, dit)
    write(models / "vae" / "wan_2.1_vae.safetensors", random_state(WanVAE(**WAN_VAE)))
    shrink(models, configs={"umt5_config_xxl.json": UMT5})
    write(models / "text_encoders" / "umt5_xxl_fp8_e4m3fn_scaled.safetensors", umt5_state())
    for name in loras:
        write(models / "loras" / name, lora_state(dit))


def umt5_state() -> dict[str, Tensor]:
    """Return a tiny umt5 with its tokenizer, and the one key by which the host knows it."""
    import comfy.ops
    from comfy.text_encoders.t5 import T5

    state = random_state(T5(umt5_config(), torch.float32, "cpu", comfy.ops.disable_weight_init))
    state["encoder.block.23.layer.1.DenseReluDense.wi_1.weight"] = torch.zeros(10240, 1)
    state["spiece_model"] = tokenizer_bytes()
    return state


def umt5_config() -> dict:
    """Return the host's own configuration of umt5-xxl, shrunk."""
    import comfy.text_encoders.wan

    file = Path(comfy.text_encoders.wan.__file__).with_name("umt5_config_xxl.json")
    return json.loads(file.read_text()) | UMT5


def tokenizer_bytes(*, bos_id: int = -1, unk_id: int = 2) -> Tensor:
    """Return a sentencepiece model of a few letters, as the weight files hold it."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([SENTENCES]),
        model_writer=model,
        vocab_size=UMT5["vocab_size"] - 1,
        model_type="char",
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=unk_id,
        bos_id=bos_id,
        minloglevel=2,
    )
    return torch.frombuffer(bytearray(model.getvalue()), dtype=torch.uint8)


def lora_state(dit: dict[str, Tensor], name: str = "blocks.0.self_attn.q") -> dict[str, Tensor]:
    """Return a LoRA of rank 2 on one layer."""
    out_features, in_features = dit[f"{name}.weight"].shape
    return {
        f"diffusion_model.{name}.lora_A.weight": torch.full((2, in_features), 0.01),
        f"diffusion_model.{name}.lora_B.weight": torch.full((out_features, 2), 0.01),
    }


def shrink(
    models: Path, *, classes: dict[str, dict] | None = None, configs: dict[str, dict] | None = None
) -> None:
    """Add to what the tests' node pack changes in the host (see ``any_graph_nodes/shrink.py``)."""
    file = models / "tiny_host.json"
    sizes = json.loads(file.read_text()) if file.exists() else {"classes": {}, "configs": {}}
    sizes["classes"] |= classes or {}
    sizes["configs"] |= configs or {}
    models.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(sizes))


def write(path: Path, state: dict[str, Tensor], *, metadata: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous().clone() for name, value in state.items()}, path, metadata)

"""The embedded models, opened as the nodes open them."""

from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "embedded" / "models"
VAE_FILE = MODELS / "vae" / "magic141_shapes_vae.safetensors"
DIT_FILE = MODELS / "diffusion_models" / "magic141_shapes_ti2v.safetensors"
LORA_FILE = MODELS / "loras" / "magic141_shapes_ti2v_4step.safetensors"
CFG = 1.0
"""What the embedded workflows guide with: their few-step LoRA has folded guidance in."""


def shapes_models():
    """Return the embedded ``Models`` and the VAE's narrow network; the MODEL has its few-step LoRA."""
    import comfy.sd
    import comfy.utils
    import transformers
    from magic141.lab.models.taehv import narrow_network
    from magic141.model_patches.bridge.encoders.socket import load_encoders
    from magic141.model_patches.bridge.loading import load_magic141_model
    from magic141.model_patches.bridge.window.make import Models

    comfy.utils.PROGRESS_BAR_ENABLED = False
    transformers.utils.logging.disable_progress_bar()
    weights = comfy.utils.load_torch_file(str(VAE_FILE), safe_load=True)
    vae = comfy.sd.VAE(sd=dict(weights))
    vae.first_stage_model.show_progress_bar = False
    text = MODELS / "text_encoders"
    encoders = load_encoders(text / "magic141_shapes_llava", text / "magic141_shapes_clip")
    model, _ = load_magic141_model(DIT_FILE)
    model, _ = comfy.sd.load_lora_for_models(
        model, None, comfy.utils.load_torch_file(str(LORA_FILE), safe_load=True), 1.0, 0.0
    )
    return Models(model, encoders, vae), narrow_network(weights)

"""Prompts that build a training set of tiny clips, train on it and sample what was trained."""

SIZE = {"size": "width x height", "width": 64, "height": 64, "num_frames": 5, "fps": 24.0, "max_windows": 1}
ENCODERS = {"vlm_folder": "magic141_shapes_llava", "clip_folder": "magic141_shapes_clip", "precision": "auto"}
STEPS = 4
NODE = "Magic141DistillToFewSteps"


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def build(folder="input/shapes", **inputs) -> dict:
    """Return the prompt that builds the set."""
    settings = {"set_name": "tiny", "image_states": True, "replace": False, **SIZE, **inputs}
    return {
        "encoders": node("Magic141LoadEncoders", **ENCODERS),
        "vae": node("VAELoader", vae_name="magic141_shapes_vae.safetensors"),
        "set": node(
            "Magic141BuildTrainingSet", folder=folder, encoders=["encoders", 0], vae=["vae", 0], **settings
        ),
    }


def distill(**inputs) -> dict:
    """Return the prompt that trains on the set."""
    settings = {
        "training_set": "tiny",
        "method": "few steps (DMD2)",
        "train": "LoRA",
        "few_steps": 2,
        "run_name": "shapes student",
        "total_steps": STEPS - 1,
        "ode_updates": 1,
        "ode_substeps": 2,
        "critic_warmup": 0,
        "batch_size": 2,
        "micro_batch_size": 0,
        "learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
        "critic_updates": 1,
        "rank": 4,
        "critic_rank": 4,
        "real_shift": 0.25,
        "normalise": True,
        "cfg": 1.0,
        "shift": 5.0,
        "rollout": "euler",
        "training_seed": 0,
        "sample_every": 2,
        "sample_clips": 2,
        "save_every": 100,
        "ema_decay": 0.5,
        "precision": "float32",
        "gradient_checkpointing": False,
    }
    return {
        "model": node("Magic141LoadModel", model_name="magic141_shapes_ti2v.safetensors"),
        "vae": node("VAELoader", vae_name="magic141_shapes_vae.safetensors"),
        "distill": node(
            NODE,
            model=["model", 0],
            vae=["vae", 0],
            **(settings | inputs),
        ),
    }


def sampled(model: list, name: str) -> dict:
    """Return nodes that sample a clip with a model and save its latent."""
    encode = node(
        "Magic141VLMImageEncode",
        encoders=["encoders", 0],
        vae=["vae", 0],
        prompt="a red star",
        negative_prompt="",
        width=64,
        height=64,
        length=5,
        size="width x height",
        image_mode="start frame",
        guidance=6.0,
        image=[f"{name} picture", 0],
    )
    picture = node("EmptyImage", width=64, height=64, batch_size=1, color=0x404040)
    sampler = node(
        "Magic141FewStepSampler",
        model=model,
        positive=[f"{name} text", 0],
        negative=[f"{name} text", 1],
        latent=[f"{name} text", 2],
        steps=2,
        shift=5.0,
        sampler="euler",
        cfg=1.0,
        seed=1,
    )
    saved = node("SaveLatent", samples=[f"{name} clip", 0], filename_prefix=f"latents/{name}")
    return {
        f"{name} picture": picture,
        f"{name} text": encode,
        f"{name} clip": sampler,
        f"{name} saved": saved,
    }

"""Train one stage: ``python3 dev.py train STAGE [--steps N]``. Stages, in order: vae, clip, llava, data, vae_decoder,
t2v, ti2v, t2v_clips, export, and after ``python3 dev.py train experiment`` (see its ``--help``) export_students.
Without the caches of these, unpack puts the shipped weights in their place; then data and experiment can follow.

vae_decoder, t2v, ti2v and t2v_clips share a step's batch among the processes of
``torchrun -m magic141.lab STAGE``.
"""

import argparse
import json
import os
import sys
from functools import partial
from importlib import import_module

import torch.distributed as dist

from .models.run import stage_dir


def _vae(steps: dict) -> dict:
    from .models import vae

    return vae.evaluate(vae.train(**steps))


def _clip(steps: dict) -> dict:
    from .models import clip

    model, tokenizer = clip.train(**steps)
    clip.save(model, tokenizer, stage_dir("clip") / "folder")
    return clip.evaluate(model.float(), tokenizer)


def _llava(steps: dict) -> dict:
    from transformers import CLIPModel

    from .models import llava

    vision = (
        CLIPModel.from_pretrained(stage_dir("clip") / "folder", use_safetensors=True)
        .float()
        .vision_model.state_dict()
    )
    llava.save(*llava.train(vision, **steps), stage_dir("llava") / "folder")
    return {}


def _data(steps: dict) -> dict:
    from .models import data
    from .models.drift import load_drift
    from .models.futures import load_futures

    data.load("test", 200, seed=7)
    train = data.load("train", 8000, seed=1)
    load_futures(*train)
    load_drift(*train)
    return {}


def _vae_decoder(steps: dict) -> dict:
    from .models import vae
    from .models.data import Encoders

    return vae.evaluate(vae.train_decoder(Encoders.load_vae(first=True), **steps))


def _dit(stage: str, steps: dict) -> dict:
    from .models import dit

    return dit.STAGES[stage](**steps)


def _call(module: str, function: str, _steps: dict) -> dict:
    return getattr(import_module(module, __package__), function)()


STAGES = {
    "vae": _vae,
    "clip": _clip,
    "llava": _llava,
    "data": _data,
    "vae_decoder": _vae_decoder,
    "t2v": partial(_dit, "t2v"),
    "ti2v": partial(_dit, "ti2v"),
    "t2v_clips": partial(_dit, "t2v_clips"),
    "export": partial(_call, ".models.export", "export"),
    "export_students": partial(_call, ".experiment.export", "export_students"),
    "unpack": partial(_call, ".models.unpack", "unpack"),
}


def main() -> None:
    """Run the stage named on the command line and print its measurements."""
    if sys.argv[1:2] == ["experiment"]:
        from .experiment import run as experiment

        experiment.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument(
        "--steps", type=int, default=None, help="length of the run; a default suits two cores"
    )
    args = parser.parse_args()
    steps = {} if args.steps is None else {"total": args.steps}
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    print(json.dumps(STAGES[args.stage](steps), indent=1))


if __name__ == "__main__":
    main()

"""The workflows on real weights: what each model wants its widgets to be, and stand-ins for the files they name."""

import json
from collections.abc import Iterator
from pathlib import Path

from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_videos import write_video
from magic141.tools.graph import workflow_to_prompt
from magic141.tools.templates import short_name, template
from safetensors.torch import save_file

WAN_SAMPLER = {"steps": 4, "shift": 5.0, "cfg": 1.0, "cfg_steps": 0, "sampler": "euler", "switch_sigma": 0.9}
WAN_WINDOW = {"window_length": 81, "fps": 16.0, "width": 832, "height": 480}
HUNYUAN15_SAMPLER = {"steps": 8, "shift": 7.0, "cfg": 1.0, "cfg_steps": 0, "sampler": "euler"}
HUNYUAN_SAMPLER = {"steps": 28, "shift": 7.0, "cfg": 1.0, "sampler": "euler"}
"""Not distilled: guidance is an input of the model (6, on the encoding node), not a second call."""
MINUTE = {"length": 60.0, "length_in": "seconds", "known_frames": 1}
SETTINGS: dict[str, dict[str, dict[str, object]]] = {
    "magic141_wan22_image_to_video": {
        "Magic141FewStepSampler": WAN_SAMPLER,
        "WanImageToVideo": {"width": 832, "height": 480, "length": 81},
        "CLIPLoader": {"type": "wan"},
        "CreateVideo": {"fps": 16.0},
    },
    "magic141_wan22_one_minute": {
        "Magic141FewStepSampler": WAN_SAMPLER,
        "Magic141WindowStart": WAN_WINDOW | MINUTE,
        "CLIPLoader": {"type": "wan"},
    },
    "magic141_continue_any_video": {
        "Magic141FewStepSampler": WAN_SAMPLER,
        "Magic141WindowStart": WAN_WINDOW | {"length": 20.0, "known_frames": 5},
        "CLIPLoader": {"type": "wan"},
    },
    "magic141_hunyuan15_image_to_video": {
        "Magic141FewStepSampler": HUNYUAN15_SAMPLER,
        "HunyuanVideo15ImageToVideo": {"width": 848, "height": 480, "length": 121},
        "DualCLIPLoader": {"type": "hunyuan_video_15"},
        "CreateVideo": {"fps": 24.0},
    },
    "magic141_hunyuan15_one_minute": {
        "Magic141FewStepSampler": HUNYUAN15_SAMPLER,
        "Magic141WindowStart": {"window_length": 121, "fps": 24.0, "width": 848, "height": 480} | MINUTE,
        "DualCLIPLoader": {"type": "hunyuan_video_15"},
    },
    "magic141_hunyuan_image_to_video": {
        "Magic141FewStepSampler": HUNYUAN_SAMPLER,
        "Magic141VLMImageEncode": {"size": "nearest 540p bucket", "length": 81, "guidance": 6.0},
        "DualCLIPLoader": {"type": "hunyuan_video"},
        "CreateVideo": {"fps": 24.0},
    },
    "magic141_fast_on_one_gpu": {
        "Magic141FewStepSampler": HUNYUAN_SAMPLER,
        "Magic141VLMImageEncode": {"size": "nearest 540p bucket", "length": 81, "guidance": 6.0},
        "Magic141Int8Quantize": {"mode": "int8 W8A8 (fast, rotated)"},
        "DualCLIPLoader": {"type": "hunyuan_video"},
        "EasyCache": {"reuse_threshold": 0.2},
        "CreateVideo": {"fps": 24.0},
    },
    "magic141_hunyuan_one_minute": {
        "Magic141SlidingWindowExtend": HUNYUAN_SAMPLER
        | {"window_length": 121, "overlap": 1, "width": 960, "height": 544, "fps": 24.0}
        | {"guidance": 6.0, "length": 60.0, "length_in": "seconds"},
        "DualCLIPLoader": {"type": "hunyuan_video"},
    },
    "magic141_ltx23_one_minute_with_sound": {
        "Magic141WindowStart": {"window_length": 121, "fps": 25.0, "width": 1280, "height": 704} | MINUTE,
        "LoraLoaderModelOnly": {"strength_model": 0.5},
        "CFGGuider": {"cfg": 1.0},
        "LTXVPreprocess": {"img_compression": 18},
    },
}
"""For every template the widgets that a model's makers fix, by class; "edits before the first run" are differences."""
HUNYUAN_MODEL = "hunyuan_video_image_to_video_720p_bf16.safetensors"
VIDEO = "your_video.mp4"
"""The one file of a template that is the artist's own."""


def real_templates() -> list[Path]:
    return [template(name) for name in SETTINGS]


def edits_needed(path: Path, object_info: dict) -> list[str]:
    """Return what an artist would have to change in a template, beside picture and prompt."""
    prompt = workflow_to_prompt(json.loads(path.read_text(encoding="utf-8")), object_info)
    wrong = []
    for class_type, wanted in SETTINGS[short_name(path)].items():
        nodes = [node["inputs"] for node in prompt.values() if node["class_type"] == class_type]
        wrong += [] if nodes else [f"{path.stem} has no {class_type}"]
        wrong += [
            f"{path.stem}: {class_type}.{name} is {inputs[name]!r}, not {value!r}"
            for inputs in nodes
            for name, value in wanted.items()
            if inputs[name] != value
        ]
    return wrong


def files_named(workflow: dict) -> Iterator[tuple[str, dict]]:
    """Yield the weights that the loaders of a workflow name, each with what its node says of the download."""
    for node in workflow["nodes"]:
        known = {model["name"]: model for model in node["properties"].get("models", [])}
        for value in node.get("widgets_values", []):
            if isinstance(value, str) and value.endswith(".safetensors"):
                yield value, known.get(value, {})


def without_download(path: Path) -> list[str]:
    """Return the files of a template that ComfyUI cannot offer to fetch into the right folder."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    return [
        name
        for name, model in files_named(workflow)
        if not str(model.get("url", "")).startswith("https://huggingface.co/")
        or not model["url"].endswith(f"/{name}")
        or not model.get("directory")
    ]


def write_stand_ins(paths: list[Path], base: Path) -> list[Path]:
    """Put a file under every name that templates ask for, and return what was written.

    The files of stock loaders are empty; ours reads the header before a run, so its file is a tiny model.

    Args:
        paths: the templates.
        base: a server's base folder.
    """
    video = base / "input" / VIDEO
    write_video(video, width=64, height=64, fps=WAN_WINDOW["fps"])
    files = {video}
    for path in paths:
        workflow = json.loads(path.read_text(encoding="utf-8"))
        files |= {base / "models" / model["directory"] / name for name, model in files_named(workflow)}
    for file in files - {video}:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        if file.name == HUNYUAN_MODEL:
            save_file(tiny_dit(), file)
    return sorted(files)

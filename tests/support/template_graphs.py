"""The host's stock templates as graphs with Window Start and Window Save in them, nothing else changed but sizes."""

import importlib.resources
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from magic141.tests.support import template_weights as weights
from magic141.tests.support.any_graph import SAVE, SAVE_WIDGETS, SLOTS, START, START_WIDGETS
from magic141.tools.graph import workflow_to_prompt

SIDE_PX, LENGTH = 64, 13
WAN_EXPERTS = {
    "high": "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors",
    "low": "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors",
}
WAN_LORAS = tuple(f"wan2.2_i2v_lightx2v_4steps_lora_v1_{end}_noise.safetensors" for end in ("high", "low"))


@dataclass(frozen=True)
class Template:
    """A stock template.

    sized: the class that makes the empty clip; its width, height and length come from Window Start.
    prompted: the title-less way to the positive prompt: a class and the start of its text.
    """

    name: str
    sized: str
    fps: float
    write_weights: Callable[[Path], None]


def write_wan(models: Path) -> None:
    weights.write_wan_weights(models, **WAN_EXPERTS, loras=WAN_LORAS)


TEMPLATES = (
    Template("video_wan2_2_14B_i2v", "WanImageToVideo", 16.0, write_wan),
    Template("03_video_wan2_2_14B_i2v_subgraphed", "WanImageToVideo", 16.0, write_wan),
    Template("video_wan2_2_14B_flf2v", "WanFirstLastFrameToVideo", 16.0, write_wan),
)


def stock_prompt(template: Template, object_info: dict) -> dict:
    """Return a template of the installed package as an API prompt."""
    package = importlib.resources.files("comfyui_workflow_templates_json")
    text = (package / "templates" / f"{template.name}.json").read_text(encoding="utf-8")
    return workflow_to_prompt(json.loads(text), object_info)


def with_windows(prompt: dict, template: Template, **start: object) -> dict:
    """Return a prompt with Window Start in place of Load Image and Window Save in place of Save Video.

    The start picture, size, seed and length are led through Window Start, as an artist would.
    """
    (sized,) = of_class(prompt, template.sized)
    save = next(node for _, node in of_class_items(prompt, "SaveVideo"))
    first = picture_of(prompt, sized["inputs"]["start_image"])
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if value == [first, 0]:
                node["inputs"][name] = ["start", SLOTS["frames"]]
    sized["inputs"] |= {name: ["start", SLOTS[name]] for name in ("width", "height", "length")}
    for node in prompt.values():
        if node["class_type"] == "RandomNoise" or node["inputs"].get("add_noise") == "enable":
            node["inputs"]["noise_seed"] = ["start", SLOTS["seed"]]
    positive = text_of(prompt, sized["inputs"]["positive"])
    prompt[positive]["inputs"]["text"] = ["start", SLOTS["prompt"]]
    size = {"width": SIDE_PX, "height": SIDE_PX, "window_length": LENGTH, "fps": template.fps}
    widgets = START_WIDGETS | size | {"run_name": template.name} | start
    prompt["start"] = {"class_type": START, "inputs": {**widgets, "image": [first, 0]}}
    video = save["inputs"]["video"]
    save["class_type"], save["inputs"] = SAVE, {"window": ["start", 0], "video": video, **SAVE_WIDGETS}
    return prompt


def of_class_items(prompt: dict, class_type: str) -> Iterator[tuple[str, dict]]:
    return ((key, node) for key, node in prompt.items() if node["class_type"] == class_type)


def of_class(prompt: dict, class_type: str) -> list[dict]:
    return [node for _, node in of_class_items(prompt, class_type)]


def picture_of(prompt: dict, link: list) -> str:
    """Return the Load Image behind a link."""
    node_id = link[0]
    while prompt[node_id]["class_type"] != "LoadImage":
        node_id = next(value[0] for value in prompt[node_id]["inputs"].values() if isinstance(value, list))
    return node_id


def text_of(prompt: dict, link: list) -> str:
    """Return the CLIP Text Encode behind a conditioning link."""
    assert prompt[link[0]]["class_type"] == "CLIPTextEncode"
    return link[0]


def write_pictures(prompt: dict, folder: Path) -> None:
    """Put a picture under every name that a Load Image of the prompt asks for."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, node in enumerate(of_class(prompt, "LoadImage")):
        picture = Image.linear_gradient("L").resize((96, 96)).rotate(90 * number).convert("RGB")
        picture.save(folder / node["inputs"]["image"])

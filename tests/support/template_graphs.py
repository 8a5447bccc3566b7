"""The host's templates and ours with Window Start and Window Save in them, nothing else changed but sizes."""

import importlib.resources
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path

from magic141.tests.support import template_weights as weights
from magic141.tests.support.any_graph import SAVE, SAVE_WIDGETS, SLOTS, START, START_WIDGETS
from magic141.tests.support.template_weights_hunyuan import write_hunyuan_weights
from magic141.tests.support.template_weights_ltx import write_ltx_weights
from magic141.tools.graph import workflow_to_prompt
from magic141.tools.templates import template as file_of

SIDE_PX, LENGTH = 64, 13
WAN_EXPERTS = {
    "high": "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors",
    "low": "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors",
}
WAN_LORAS = tuple(f"wan2.2_i2v_lightx2v_4steps_lora_v1_{end}_noise.safetensors" for end in ("high", "low"))


@dataclass(frozen=True)
class Template:
    """A stock template, or one of ours that has Window Start and Window Save in it and needs no links.

    links: where an artist connects the outputs of Window Start: "node.input" by output, the node by its id or class.
    sizes: widgets of Window Start that the model needs other than usual.
    """

    name: str
    fps: float
    links: Mapping[str, tuple[str, ...]]
    write_weights: Callable[[Path], None]
    sizes: Mapping[str, object] = field(default_factory=dict)
    has_sound: bool = False


def sizes_of(class_type: str) -> dict[str, tuple[str, ...]]:
    """Return the links of the node that makes the empty clip."""
    return {name: (f"{class_type}.{name}",) for name in ("width", "height", "length")}


def write_wan(models: Path) -> None:
    weights.write_wan_weights(models, **WAN_EXPERTS, loras=WAN_LORAS)


SEEDS = {"seed": ("RandomNoise.noise_seed", "KSamplerAdvanced.noise_seed")}
WAN = sizes_of("WanImageToVideo") | SEEDS
FLF = sizes_of("WanFirstLastFrameToVideo") | SEEDS
HUNYUAN = sizes_of("HunyuanVideo15ImageToVideo") | SEEDS
LTX = {
    "width": ("320:312.value",),
    "height": ("320:299.value",),
    "prompt": ("320:319.value",),
    "seed": ("320:277.noise_seed",),
    "length": ("320:295.length", "320:305.frames_number"),
}
"""By the ids inside the template's subgraph: it has a switch, two samplers and numbers that are all alike."""
LTX_SIZES = {"window_length": 17, "width": 128, "height": 128}
TEMPLATES = (
    Template("video_wan2_2_14B_i2v", 16.0, WAN, write_wan),
    Template("03_video_wan2_2_14B_i2v_subgraphed", 16.0, WAN, write_wan),
    Template("video_wan2_2_14B_flf2v", 16.0, FLF, write_wan),
    Template("video_hunyuan_video_1.5_720p_i2v", 24.0, HUNYUAN, write_hunyuan_weights),
    Template("video_ltx2_3_i2v", 25.0, LTX, write_ltx_weights, LTX_SIZES, has_sound=True),
)


OWN_TEMPLATES = (
    Template("magic141_wan22_one_minute", 16.0, {}, write_wan),
    Template("magic141_hunyuan15_one_minute", 24.0, {}, write_hunyuan_weights),
    Template("magic141_ltx23_one_minute_with_sound", 25.0, {}, write_ltx_weights, LTX_SIZES, has_sound=True),
)


def small_graph(template: Template, object_info: dict, base: Path) -> dict:
    """Return the prompt of a template, three small windows of it, and put its pictures into a server's base folder."""
    own = template in OWN_TEMPLATES
    prompt = own_prompt(template, object_info) if own else stock_prompt(template, object_info)
    if own:
        return prompt
    write_pictures(prompt, base / "input")
    return with_windows(prompt, template)


def stock_prompt(template: Template, object_info: dict) -> dict:
    """Return a template of the installed package as an API prompt."""
    return workflow_to_prompt(json.loads(stock_file(template).read_text(encoding="utf-8")), object_info)


def stock_file(template: Template) -> Traversable:
    """Return the file of a template in the installed package; newer packages leave some out."""
    package = importlib.resources.files("comfyui_workflow_templates_json")
    return package / "templates" / f"{template.name}.json"


def with_windows(prompt: dict, template: Template) -> dict:
    """Return a prompt with Window Start in place of Load Image and Window Save in place of Save Video.

    The start picture, prompt, size, seed and length are led through Window Start, as an artist would.
    """
    save = next(node for _, node in of_class_items(prompt, "SaveVideo"))
    picture = start_picture(prompt)
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if value == [picture, 0]:
                node["inputs"][name] = ["start", SLOTS["frames"]]
    for output, places in template.links.items():
        assert sum(set_input(prompt, place, ["start", SLOTS[output]]) for place in places), output
    if "prompt" not in template.links:
        set_input(prompt, f"{positive_text(prompt)}.text", ["start", SLOTS["prompt"]])
    size = {
        "width": SIDE_PX,
        "height": SIDE_PX,
        "window_length": LENGTH,
        "fps": template.fps,
        **template.sizes,
    }
    widgets = START_WIDGETS | size | {"run_name": template.name}
    prompt["start"] = {"class_type": START, "inputs": {**widgets, "image": [picture, 0]}}
    video = save["inputs"]["video"]
    save["class_type"], save["inputs"] = SAVE, {"window": ["start", 0], "video": video, **SAVE_WIDGETS}
    return prompt


def own_prompt(template: Template, object_info: dict) -> dict:
    """Return a template of ours as an API prompt, nothing changed but the size, three windows of it."""
    path = file_of(template.name)
    prompt = workflow_to_prompt(json.loads(path.read_text(encoding="utf-8")), object_info)
    small = {
        "length": 3.0,
        "length_in": "windows",
        "width": SIDE_PX,
        "height": SIDE_PX,
        "window_length": LENGTH,
    }
    for name, value in {**small, **template.sizes}.items():
        assert set_input(prompt, f"{START}.{name}", value) == 1
    set_input(prompt, f"{SAVE}.flash_limit", 0.0)  # noise of random weights flickers
    return prompt


def set_input(prompt: dict, place: str, value: object) -> int:
    """Set the input "node.input" of every node of this id or class; return how many there are."""
    owner, _, name = place.rpartition(".")
    nodes = [node for key, node in prompt.items() if owner in (key, node["class_type"])]
    for node in nodes:
        node["inputs"][name] = value
    return len(nodes)


def of_class_items(prompt: dict, class_type: str) -> Iterator[tuple[str, dict]]:
    return ((key, node) for key, node in prompt.items() if node["class_type"] == class_type)


def of_class(prompt: dict, class_type: str) -> list[dict]:
    return [node for _, node in of_class_items(prompt, class_type)]


def start_picture(prompt: dict) -> str:
    """Return the Load Image whose picture the video starts with."""
    pictures = [key for key, _ in of_class_items(prompt, "LoadImage")]
    if len(pictures) == 1:
        return pictures[0]
    maker = next(node for node in prompt.values() if "start_image" in node["inputs"])
    node_id = maker["inputs"]["start_image"][0]
    while prompt[node_id]["class_type"] != "LoadImage":
        node_id = next(value[0] for value in prompt[node_id]["inputs"].values() if isinstance(value, list))
    return node_id


def positive_text(prompt: dict) -> str:
    """Return the CLIP Text Encode of the positive prompt."""
    maker = next(node for node in prompt.values() if "start_image" in node["inputs"])
    node_id = maker["inputs"]["positive"][0]
    assert prompt[node_id]["class_type"] == "CLIPTextEncode"
    return node_id


def write_pictures(prompt: dict, folder: Path) -> None:
    """Put a picture under every name that a Load Image of the prompt asks for."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, node in enumerate(of_class(prompt, "LoadImage")):
        picture = Image.linear_gradient("L").resize((96, 96)).rotate(90 * number).convert("RGB")
        picture.save(folder / node["inputs"]["image"])

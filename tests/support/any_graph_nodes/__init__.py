"""Made-up nodes for tests: a model that counts its loads, and a graph of any size that makes clips in no time.

A custom node pack of its own, linked into a test server's ``custom_nodes``.
"""

import json
import time
from pathlib import Path

import folder_paths
import torch

from .shrink import shrink_host

LOADS = "made_up_loads.json"


class MadeUpModel:
    """Stands for a loader: every run of it is counted in the output folder."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MADE_UP_MODEL",), "load", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"brightness": ("FLOAT", {"default": 0.0, "min": -1.0, "max": 1.0})}}

    def load(self, brightness: float) -> tuple:
        file = Path(folder_paths.get_output_directory()) / LOADS
        count = json.loads(file.read_text()) if file.exists() else 0
        file.write_text(json.dumps(count + 1))
        return ({"brightness": brightness},)


class MadeUpClip:
    """Makes a clip that begins with the known frames and slides on from the last of them."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "model": ("MADE_UP_MODEL",),
                "frames": ("IMAGE",),
                "prompt": ("STRING", {"default": ""}),
                "seed": ("INT", {"default": 0, "max": 2**64 - 1}),
                "length": ("INT", {"default": 13}),
                "seconds": ("FLOAT", {"default": 0.0}),
                "fault": (
                    ["none", "short", "small", "nan", "error", "forgets", "flash"],
                    {"default": "none"},
                ),
                "fault_in": ("INT", {"default": -1}),
                "index": ("INT", {"default": 0}),
            },
            "optional": {"gain": ("FLOAT", {"default": 1.0}), "end_image": ("IMAGE",)},
        }

    def make(
        self, model, frames, prompt, seed, length, seconds, fault, fault_in, index, gain=1.0, end_image=None
    ) -> tuple:
        import comfy.model_management

        for _ in range(round(seconds * 20)):
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.05)
        clip = torch.empty(length, *frames.shape[1:])
        clip[: len(frames)] = frames
        for number in range(len(frames), length):
            clip[number] = (clip[number - 1].roll(1 + seed % 3, 1) + model["brightness"]).clamp(0, 1) * gain
        if end_image is not None:
            clip[-1] = end_image[0]
        if fault == "flash" and index == fault_in and seed % 4:  # another seed may do better
            clip[len(frames) : len(frames) + 3] *= 0.9
        return (self.with_fault(clip, fault) if index == fault_in else clip,)

    def with_fault(self, clip, fault: str):
        if fault == "error":
            raise RuntimeError("the made-up model failed")
        if fault == "nan":
            clip[-1] = float("nan")
        if fault == "forgets":
            return 1 - clip
        return {"short": clip[:-1], "small": clip[:, ::2, ::2]}.get(fault, clip)


class MadeUpSound:
    """Makes the sound of a clip: one tone a window, higher from window to window."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("AUDIO",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "length": ("INT", {"default": 13}),
                "fps": ("FLOAT", {"default": 16.0}),
                "index": ("INT", {"default": 0}),
            }
        }

    def make(self, length: int, fps: float, index: int) -> tuple:
        rate = 8000
        time_s = torch.arange(round(length / fps * rate)) / rate
        wave = torch.sin(2 * torch.pi * 200 * (index + 1) * time_s) * 0.5
        return ({"waveform": wave[None, None], "sample_rate": rate},)


class MadeUpPicture:
    """Makes a picture with something to see in it."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "width": ("INT", {"default": 64, "max": 8192}),
                "height": ("INT", {"default": 64, "max": 8192}),
            }
        }

    def make(self, width: int, height: int) -> tuple:
        generator = torch.Generator().manual_seed(141)
        coarse = torch.rand(1, 3, 8, 8, generator=generator)
        return (
            torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear").movedim(1, -1),
        )


class MadeUpLoop:
    """Runs what ends at Window Save once for every picture, as copies inside one prompt: a Start Loop of newer hosts.

    The copies end in nodes of their own ids and parents; what feeds them from outside is linked.
    """

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {"graph": ("STRING", {"multiline": True}), "times": ("INT", {"default": 2})},
            "optional": {"model": ("MADE_UP_MODEL",)},
        }

    def make(self, graph: str, times: int, model=None) -> dict:
        from comfy_execution.graph_utils import GraphBuilder, is_link

        builder = GraphBuilder()
        for turn in range(times):
            for name, node in json.loads(graph).items():
                builder.node(node["class_type"], f"{turn}{name}")
            for name, node in json.loads(graph).items():
                copy = builder.lookup_node(f"{turn}{name}")
                for key, value in node["inputs"].items():
                    linked = is_link(value)
                    outer = linked and value[0] == "model"
                    moved = [f"{builder.prefix}{turn}{value[0]}", value[1]] if linked else value
                    copy.inputs[key] = model if outer else moved
                if name == "start":
                    copy.inputs["run_name"] = f"{node['inputs']['run_name']} {turn}"
        last = builder.lookup_node(f"{times - 1}save")
        return {"result": (last.out(3),), "expand": builder.finalize()}


NODE_CLASS_MAPPINGS = {
    "TestMadeUpLoop": MadeUpLoop,
    "TestMadeUpModel": MadeUpModel,
    "TestMadeUpClip": MadeUpClip,
    "TestMadeUpSound": MadeUpSound,
    "TestMadeUpPicture": MadeUpPicture,
}


shrink_host(Path(folder_paths.models_dir))

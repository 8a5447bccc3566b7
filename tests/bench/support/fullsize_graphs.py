"""Graphs for the host's server: the nodes that an artist would wire, over the files of full size."""

from typing import Any

PROMPT = "A white ship sails slowly over a calm sea at sunset, gulls circle above it, the camera follows from the side."
CLIP_SIDE, CLIP_FRAMES = 128, 13
WIDTH, HEIGHT = 960, 544


class Graph:
    """A graph in the host's API form; widgets that are not named have their defaults."""

    def __init__(self, object_info: dict[str, dict]) -> None:
        self._info = object_info
        self.nodes: dict[str, dict] = {}

    def add(self, name: str, **inputs: Any) -> str:
        """Add a node and return its id; an input from another node is (id, output)."""
        known = self._info[name]["input"]
        for each, spec in (known.get("required", {}) | known.get("optional", {})).items():
            if each not in inputs and (value := default(spec)) is not None:
                inputs[each] = value
        key = str(len(self.nodes) + 1)
        linked = {each: list(value) if isinstance(value, tuple) else value for each, value in inputs.items()}
        self.nodes[key] = {"class_type": name, "inputs": linked}
        return key

    def show(self, link: tuple[str, int]) -> str:
        """Add a node that asks for an output."""
        return self.add("PreviewAny", source=link)

    def model(self, name: str) -> str:
        return self.add("Magic141LoadModel", model_name=f"{name}.safetensors")

    def picture(self, count: int = 1) -> str:
        return self.add("EmptyImage", width=WIDTH, height=HEIGHT, batch_size=count, color=0x3070A0)

    def vae(self) -> str:
        return self.add("VAELoader", vae_name="vae.safetensors")

    def encoders(self, folder: str, *, int8: bool = False) -> tuple[str, int]:
        loaded = self.add("Magic141LoadEncoders", vlm_folder=folder, clip_folder="clip", precision="bf16")
        if not int8:
            return loaded, 0
        return self.add("Magic141Int8Quantize", encoders=(loaded, 0)), 1

    def encode(self, encoders: tuple[str, int], side: int = CLIP_SIDE) -> str:
        return self.add(
            "Magic141VLMImageEncode",
            encoders=encoders,
            vae=(self.vae(), 0),
            image=(self.picture(), 0),
            prompt=PROMPT,
            width=side,
            height=side,
            length=CLIP_FRAMES,
        )

    def sample(self, model: str, *, steps: int) -> str:
        encoded = self.encode(self.encoders("shallow"))
        parts = {"positive": (encoded, 0), "negative": (encoded, 1), "latent": (encoded, 2)}
        return self.add("Magic141FewStepSampler", model=(model, 0), steps=steps, **parts)

    def extend(self, model: str, *, windows: int) -> str:
        return self.add(
            "Magic141SlidingWindowExtend",
            model=(model, 0),
            encoders=self.encoders("shallow"),
            vae=(self.vae(), 0),
            image=(self.picture(), 0),
            prompts=f"{PROMPT}\nThe gulls land on the mast.",
            length=windows,
            length_in="windows",
            window_length=CLIP_FRAMES,
            width=CLIP_SIDE,
            height=CLIP_SIDE,
            steps=1,
            run_name="fullsize",
        )


def default(spec: list) -> Any:
    """Return what a widget shows at first, or None for an input that is no widget."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options") or [None]
    return options.get("default", choices[0])

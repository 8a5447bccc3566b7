"""Let the host build models in the size of the tests' random weights where it fixes the size itself.

What to change stands in ``models/tiny_host.json``, as the weights' writers put it there:

- ``classes``: "module:name" -> arguments that the class is made with instead of the host's.
- ``configs``: the name of one of the host's JSON files -> values put over its own.
"""

import functools
import importlib
import inspect
import json
from pathlib import Path

FILE = "tiny_host.json"


def shrink_host(models: Path) -> None:
    """Change the host's classes and configurations as a file of a server's ``models`` folder says."""
    if not (models / FILE).exists():
        return
    sizes = json.loads((models / FILE).read_text())
    for place, arguments in sizes.get("classes", {}).items():
        module, name = place.split(":")
        shrink_class(importlib.import_module(module), name, arguments)
    shrink_configs(sizes.get("configs", {}))


def shrink_class(module, name: str, arguments: dict) -> None:
    whole = getattr(module, name)

    signature = inspect.signature(whole)

    @functools.wraps(whole, updated=())
    def shrunk(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.arguments.update(arguments)
        return whole(*bound.args, **bound.kwargs)

    setattr(module, name, shrunk)


def shrink_configs(configs: dict[str, dict]) -> None:
    """Put values over those of the host's JSON files, for text encoders and for vision models."""
    import comfy.clip_vision
    import comfy.sd1_clip

    def read(config):
        if isinstance(config, (str, Path)) and Path(config).name in configs:
            return json.loads(Path(config).read_text()) | configs[Path(config).name]
        return config

    make_text, make_vision = comfy.sd1_clip.SDClipModel.__init__, comfy.clip_vision.ClipVisionModel.__init__

    def text(self, *args, textmodel_json_config=None, **kwargs):
        make_text(self, *args, textmodel_json_config=read(textmodel_json_config), **kwargs)

    def vision(self, json_config):
        make_vision(self, read(json_config))

    comfy.sd1_clip.SDClipModel.__init__ = text
    comfy.clip_vision.ClipVisionModel.__init__ = vision

"""Magic141: Magic 1-For-1 image-to-video for ComfyUI."""

from .model_patches.bridge import can_load

WEB_DIRECTORY = "./web"

if can_load(".nodes", __package__):  # if not, the log says why
    from .nodes import comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

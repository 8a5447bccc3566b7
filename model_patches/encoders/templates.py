"""The prompt templates Magic141 was trained with: model constants, kept byte-identical as data.

Source: DA-Group-PKU/Magic-1-For-1, ``model_dit/models/magic_141_video/constants.py`` (the LLM's) and
``text_encoder/text_encoder_vlm.py`` (the VLM's).
"""

VIDEO_PROMPT_TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)
"""The LLM's template; ``{}`` is the prompt. With the begin-of-text token, 95 tokens precede it."""

CROP_START = 95
"""Tokens of the template before the prompt, cut off the LLM's states."""

MAX_PROMPT_TOKENS = 256
"""Tokens kept after the crop: the prompt and the template's last ``<|eot_id|>``."""

VLM_TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    "1. The central subject and overarching message or purpose of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial arrangement of objects within the scene."
    "3. Actions, events, behaviors, temporal sequences, and physical movements or transformations of objects."
    "4. Behavior, facial expressions, emotions, speaking style, eye gaze, head orientation, "
    "body orientation, gestures (hand and body), and changes in these elements for the main character."
    "5. The background setting, lighting, artistic style, and overall mood or tone of the scene."
    "6. Camera angles, movements, transitions, and other filming techniques employed in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)
"""The VLM's template; ``{}`` is one ``<image>`` an image, nothing else."""

USER_HEADER = "<|start_header_id|>user<|end_header_id|>"
"""The VLM's states are kept from just after these tokens."""

IMAGE_TOKEN = "<image>"
IMAGE_TOKEN_STRIDE = 4
"""Of an image's VLM states every fourth is kept (``::4``: 576 -> 144)."""

SPECIAL_TOKENS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
"""Tokens a LLaMA-3 tokenizer must hold as single, special entries (the VLM's also ``<image>``)."""

CLIP_MAX_TOKENS = 77


def llm_text(prompt: str) -> str:
    """Return the whole text the LLM reads for a prompt."""
    return VIDEO_PROMPT_TEMPLATE.replace("{}", prompt)


def vlm_text(num_images: int) -> str:
    """Return the whole text the VLM reads for a number of images."""
    return VLM_TEMPLATE.replace("{}", IMAGE_TOKEN * num_images)

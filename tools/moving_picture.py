"""The moving picture at the top of the README: ``assets/video.webp``, made by a workflow of the pack.

Run as ``python3 dev.py remake moving_picture`` whenever the embedded model has changed.
"""

import argparse
import sys

from PIL import Image

from .client import ComfyClient
from .demo import say
from .server import PACK, temporary_server
from .templates import template
from .thumbnails import video_frames

WORKFLOW = "magic141_prompts_per_window"
TARGET = PACK / "assets" / "video.webp"
SIDE_PX, FPS, LONGEST_S = 320, 24, 10


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py remake moving_picture", description=(__doc__ or "").partition("\n")[0]
    )
    parser.parse_args()
    with temporary_server() as server:
        frames = video_frames(ComfyClient(server.url), template(WORKFLOW), None)
    first, *others = (
        frame.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC) for frame in frames[: LONGEST_S * FPS]
    )
    first.save(TARGET, save_all=True, append_images=others, duration=1000 // FPS, loop=0, quality=60)
    say(f"{TARGET.relative_to(PACK)}: {len(others) + 1} frames, {TARGET.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

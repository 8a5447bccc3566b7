"""Write the shapes world as a folder of captioned videos: what Build Training Set reads.

``python -m magic141.lab.world.export_videos FOLDER [--count 1000] [--frames 25] [--captions named|open|mixed]``
"""

import argparse
from pathlib import Path

import torch

from ...model_patches.store.files import write_text
from ...model_patches.store.video_sink import VideoFormat, write_segment
from .. import world

CAPTIONS = ("named", "open", "mixed")
BATCH = 50


def captions_of(scenes: world.Scenes, kind: str, generator: torch.Generator) -> list[str]:
    """Return one caption a scene; "mixed" takes turns."""
    named, (opened, _) = world.named_caption(scenes), world.open_caption(scenes, generator=generator)
    if kind == "mixed":
        return [pair[i % 2] for i, pair in enumerate(zip(named, opened, strict=True))]
    return named if kind == "named" else opened


def export(
    folder: Path, *, count: int, num_frames: int, captions: str, split: str = "train", seed: int = 0
) -> None:
    """Write ``count`` scenes as mp4 with a text file beside each; a file that is there is left alone.

    Args:
        num_frames: of each video, at 24 a second.
        captions: "named" (every factor said), "open" (the direction left open) or "mixed".
        split: "train", "test" or "all"; see ``world.sample_scenes``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    scenes = world.sample_scenes(count, generator=generator, split=split)
    texts = captions_of(scenes, captions, generator)
    video = VideoFormat("h264", world.FPS, world.SIDE_PX, world.SIDE_PX, quality=10)
    for first in range(0, count, BATCH):
        part = scenes[slice(first, first + BATCH)]
        clips = world.render_clip(part, num_frames).movedim(2, -1)
        for number, (clip, text) in enumerate(zip(clips, texts[first : first + BATCH], strict=True), first):
            path = folder / f"{number:05d}.mp4"
            if not path.exists():
                write_segment(path, clip, video)
                write_text(path.with_suffix(".txt"), text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000, help="videos (default 1000)")
    parser.add_argument("--frames", type=int, default=25, help="frames of each, 24 a second (default 25)")
    parser.add_argument("--captions", choices=CAPTIONS, default="mixed")
    parser.add_argument("--split", choices=("train", "test", "all"), default="train")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    export(
        options.folder,
        count=options.count,
        num_frames=options.frames,
        captions=options.captions,
        split=options.split,
        seed=options.seed,
    )
    print(f"{options.count} captioned videos in {options.folder}")


if __name__ == "__main__":
    main()

"""Say in plain words what a training set holds and what was left out."""

from .dataset import SetVideo, TrainingSet
from .videos import skipped_lines

NOTICED_CUT = 0.02


def set_report(built: TrainingSet, *, num_encoded: int) -> str:
    """Return the report of a build.

    Args:
        num_encoded: videos encoded in this build; the others were there already.
    """
    s = built.settings
    captions = {key for video in built.videos for key in video.caption_keys}
    lines = [
        f"{len(built.videos)} videos with {len(captions)} captions: {len(built)} windows of {s.num_frames} frames, "
        f"{s.width} x {s.height} px at {s.fps:g} frames a second.",
        f"{num_encoded} videos encoded now, {len(built.videos) - num_encoded} reused, "
        f"{len(built.skipped)} files skipped.",
    ]
    return "\n".join([*lines, *_size_lines(built), *skipped_lines(built.skipped)])


def _size_lines(built: TrainingSet) -> list[str]:
    """Say what happened to videos of another shape or size."""
    width, height = built.settings.width, built.settings.height
    cut = [share for video in built.videos if (share := _share_cut(video, width / height)) > NOTICED_CUT]
    enlarged = sum(video.source_width < width or video.source_height < height for video in built.videos)
    lines = []
    if cut:
        lines.append(
            f"{len(cut)} videos have another shape: scaled to cover {width} x {height} px and cut at the center; up to "
            f"{max(cut):.0%} of the picture is lost."
        )
    if enlarged:
        lines.append(f"{enlarged} videos are smaller than that and were enlarged: expect them to look soft.")
    return lines


def _share_cut(video: SetVideo, target_ratio: float) -> float:
    """Return the share of a video's picture that the crop leaves out."""
    ratio = video.source_width / video.source_height / target_ratio
    return 1 - min(ratio, 1 / ratio)

"""Say in plain words what a training set holds and what was left out."""

from .dataset import SetVideo, TrainingSet
from .videos import skipped_lines

NOTICED_CUT = 0.02


def set_report(made: TrainingSet, *, num_encoded: int) -> str:
    """Return the report of a build.

    Args:
        num_encoded: videos encoded in this build; the others were there already.
    """
    s = made.settings
    captions = {key for video in made.videos for key in video.caption_keys}
    lines = [
        f"{len(made.videos)} videos with {len(captions)} captions: {len(made)} windows of {s.num_frames} frames, "
        f"{s.width} x {s.height} px at {s.fps:g} frames a second.",
        f"{num_encoded} videos encoded now, {len(made.videos) - num_encoded} taken over, "
        f"{len(made.skipped)} files skipped.",
    ]
    return "\n".join([*lines, *_size_lines(made), *skipped_lines(made.skipped)])


def _size_lines(made: TrainingSet) -> list[str]:
    """Say what happened to videos of another shape or size."""
    width, height = made.settings.width, made.settings.height
    cut = [share for video in made.videos if (share := _share_cut(video, width / height)) > NOTICED_CUT]
    enlarged = sum(video.source_width < width or video.source_height < height for video in made.videos)
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

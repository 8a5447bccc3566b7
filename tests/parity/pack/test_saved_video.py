"""A finished video is on disk once, also after Save Video; what would differ is a file of its own."""

import json

import av
import pytest
from magic141.model_patches.store.video_sink import join_segments
from magic141.tests.support.tiny_videos import write_video
from magic141.tools.host import use_comfyui

use_comfyui()
from comfy_api.latest import Types
from magic141.nodes.saved_video import FinishedVideo

WORKFLOW = {"nodes": [1, "ö"]}


@pytest.fixture
def finished(tmp_path):
    write_video(tmp_path / "segment.mp4")
    path = tmp_path / "video.mp4"
    join_segments(path, [tmp_path / "segment.mp4"], metadata={"workflow": json.dumps(WORKFLOW)})
    return FinishedVideo(path)


def test_saved_as_it_is_the_file_has_a_second_name(finished, tmp_path):
    target = tmp_path / "saved.mp4"
    finished.save_to(
        str(target), format=Types.VideoContainer("auto"), codec="auto", metadata={"workflow": WORKFLOW}
    )
    assert target.stat().st_ino == finished.path.stat().st_ino


@pytest.mark.parametrize("change", [{"metadata": {"workflow": {}}}, {"crf": 30.0}])
def test_what_would_differ_is_a_file_of_its_own(finished, tmp_path, change):
    target = tmp_path / "saved.mp4"
    finished.save_to(str(target), **{"metadata": {"workflow": WORKFLOW}} | change)
    assert target.stat().st_ino != finished.path.stat().st_ino
    with av.open(str(target)) as container:
        assert (
            json.loads(container.metadata["workflow"])
            == change.get("metadata", {"workflow": WORKFLOW})["workflow"]
        )
        assert len(list(container.decode(video=0))) == 13

"""The bench for an accelerator, dry: every stage at a small size, once; a second call has nothing left to do."""

import json
import subprocess
import sys

import pytest
from magic141.tests.bench.gpu import read_figures, stages_left
from magic141.tests.bench.support.gpu_stages import STAGES


def bench(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-P", "-m", "magic141.tests.bench.gpu", "--tiny", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_stage_runs_at_small_size_and_a_second_call_does_nothing(tmp_path):
    file = tmp_path / "gpu.json"
    first = bench("--json", str(file))
    assert first.returncode == 0, first.stdout + first.stderr
    written = json.loads(file.read_text())
    assert list(written["done"]) == list(STAGES)
    assert written["figures"]["attention_masks_seen"] == 0
    for kind in ("bf16", "int8", "w8a8"):
        assert written["figures"][f"{kind}_17f_step_s"] > 0
    second = bench("--json", str(file))
    assert second.returncode == 0
    assert "---" not in second.stdout
    assert json.loads(file.read_text()) == written


def test_only_what_fits_into_the_time_is_begun():
    figures = {"done": {"matmul": 1.0}}
    assert stages_left(figures, 0.0, []) == []
    assert "matmul" not in stages_left(figures, 1e6, [])
    assert stages_left(figures, STAGES["vae_decode"].seconds, ["vae_decode", "window"]) == ["vae_decode"]
    assert sum(stage.seconds for stage in STAGES.values()) <= 600


def test_figures_of_another_size_are_refused(tmp_path):
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps({"size": "full", "done": {}, "failed": {}, "figures": {}}))
    with pytest.raises(SystemExit, match=r"gpu\.json holds figures of the size full, not tiny"):
        read_figures(file, "tiny")

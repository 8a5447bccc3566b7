"""The short form of ``dev.py bench faults``: nothing that was finished is lost, and every fault has a sentence."""

import json
import os
import subprocess
import sys

import pytest
from magic141.tests.bench.faults import COUNTS, ZEROS


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform != "linux", reason="forks, and reads /proc")
def test_faults_cost_a_message_and_nothing_else(tmp_path):
    figures = tmp_path / "faults.json"
    command = [sys.executable, "-m", "magic141.tests.bench.faults", "--quick", "--json", str(figures)]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(figures.read_text())
    assert all(found[name] > 0 for name in COUNTS), found
    wrong = {name: found[name] for name in ZEROS if found[name]}
    assert not wrong, [line for line in ended.stderr.splitlines() if "FAULT" in line]

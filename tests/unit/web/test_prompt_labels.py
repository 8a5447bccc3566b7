"""Windows on the timeline are told apart by their number and by where their prompts differ."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "web" / "prompt_labels.js"


def labels(prompts: list[str]) -> list[str]:
    program = f"import {{ windowLabels }} from {json.dumps(SCRIPT.as_uri())};\n"
    program += f"console.log(JSON.stringify(windowLabels({json.dumps(prompts)})));"
    command = ["node", "--input-type=module", "--experimental-default-type=module", "-e", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
@pytest.mark.parametrize(
    ("prompts", "wanted"),
    [
        ([], []),
        (["a star moves"], ["1"]),
        (["a star moves"] * 2, ["1", "2"]),
        (["a star moves up fast", "a star moves down fast"], ["1 up", "2 down"]),
        (["a fox waits", "a fox waits", "a fox runs home"], ["1 waits", "2 waits", "3 runs home"]),
        (["a star", "a star moves"], ["1", "2 moves"]),
        (["a a", "a a a"], ["1", "2 a"]),
    ],
)
def test_a_label_is_the_number_and_what_differs(prompts, wanted):
    assert labels(prompts) == wanted

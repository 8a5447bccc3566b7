"""Run functions of our front-end scripts in Node.js."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")


def evaluate(script: Path, names: str, expression: str) -> Any:
    """Return what an expression is in JavaScript.

    Args:
        names: what to import from the script, by comma.
        expression: of these names.
    """
    program = f"import {{ {names} }} from {json.dumps(script.as_uri())};\nconsole.info = () => {{}};\n"
    program += f"console.log(JSON.stringify({expression}));"
    command = ["node", "--input-type=module", "--experimental-default-type=module", "-e", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

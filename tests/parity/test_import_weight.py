"""Importing the pack is light: heavy libraries come only when they are used."""

import subprocess
import sys

HEAVY = ("diffusers", "peft", "optimum", "torchao", "matplotlib", "playwright")
PROGRAM = """
import sys
from magic141.tests.support.host import use_comfyui
use_comfyui()
import nodes, comfy.sd, comfy_api.latest
before = set(sys.modules)
import magic141.nodes
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(",".join(sorted(new)))
"""


def test_no_heavy_library_is_imported_with_the_pack():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert not set(done.stdout.strip().splitlines()[-1].split(",")) & set(HEAVY)

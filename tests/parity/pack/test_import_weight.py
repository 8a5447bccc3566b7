"""Importing the pack is light, and no stray file makes it fail."""

import os
import subprocess
import sys

HEAVY = ("diffusers", "peft", "optimum", "torchao", "matplotlib", "playwright")
PROGRAM = """
import asyncio, sys
from magic141.tools.host import use_comfyui
use_comfyui("--base-directory", sys.argv[1])
import nodes, comfy.sd, comfy_api.latest
before = set(sys.modules)
import magic141.nodes
print("imported", *sorted({name.partition(".")[0] for name in set(sys.modules) - before}))

async def main():
    extension = await magic141.nodes.comfy_entrypoint()
    await extension.on_load()
    for node in await extension.get_node_list():
        node.GET_SCHEMA()
        print(node.__name__, node.INPUT_TYPES() is not None)

asyncio.run(main())
"""


def test_the_pack_imports_no_heavy_library_and_no_stray_file_keeps_it_out(tmp_path):
    for category in ("LLM", "text_encoders", "clip_vision", "diffusion_models"):
        folder = tmp_path / "models" / category
        for name, content in {"x": b"[]", "deep": b"[" * 100_000, "bytes": b"\xff"}.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "config.json").write_bytes(content)
        (folder / "pipe").mkdir()
        os.mkfifo(folder / "pipe" / "config.json")
        (folder / "self").symlink_to("self")
        os.mkdir(os.fsencode(folder) + b"/\xff")
    (tmp_path / "models/LLM/round").symlink_to(tmp_path / "models")
    (tmp_path / "input").mkdir()
    (tmp_path / "input/magic141_example.png").symlink_to(tmp_path / "nowhere.png")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(" True") > 10
    imported = next(line for line in done.stdout.splitlines() if line.startswith("imported "))
    assert "magic141" in imported.split()
    assert not {*imported.split()} & {*HEAVY}
    assert done.stderr.count("x/config.json is not readable") == 1
    assert not (tmp_path / "nowhere.png").exists()

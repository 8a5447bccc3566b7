"""Queue many prompts in one real server and watch its memory."""

from pathlib import Path

import numpy as np
from magic141.tools.client import ComfyClient
from magic141.tools.graph import workflow_to_prompt
from magic141.tools.server import PACK, temporary_server

WORKFLOW = PACK / "tests" / "support" / "old_workflows" / "image_to_video_0_1.json"
"""A graph of one clip, which takes a second."""
SETTLED = 1 / 3
"""Share of the prompts that allocators and caches may take to settle."""


def soak(*, prompts: int) -> dict[str, float]:
    """Run image to video ``prompts`` times, each with another seed and prompt.

    Returns:
        ``rss_slope_mb_per_prompt``, by least squares over the prompts behind the first third; ``soak_prompts``;
        ``soak_failures``.
    """
    import json

    sizes: list[float] = []
    failures = 0
    with temporary_server() as server:
        client = ComfyClient(server.url)
        workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
        prompt = workflow_to_prompt(workflow, client.object_info())
        for number in range(prompts):
            _change(prompt, number)
            try:
                client.run(prompt)
            except Exception:  # counted; the server must go on
                failures += 1
            assert server.process is not None
            sizes.append(resident_mb(server.process.pid))
    settled = sizes[int(len(sizes) * SETTLED) :]
    slope = float(np.polyfit(range(len(settled)), settled, 1)[0]) if len(settled) > 1 else 0.0
    return {
        "rss_slope_mb_per_prompt": slope,
        "soak_prompts": float(prompts),
        "soak_failures": float(failures),
        "soak_server_died": float(not sizes or sizes[-1] == 0),
    }


def _change(prompt: dict, number: int) -> None:
    for node in prompt.values():
        inputs = node["inputs"]
        if "seed" in inputs:
            inputs["seed"] = number
        if isinstance(inputs.get("prompt"), str):
            inputs["prompt"] = f"{inputs['prompt'].split('; ')[0]}; {number}"
        if isinstance(inputs.get("steps"), int):
            inputs["steps"] = 1


def resident_mb(pid: int) -> float:
    """Return a process's resident memory, 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0

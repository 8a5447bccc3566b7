"""The pack as people meet it: import time, help, locales, every workflow in a real server, the frontend, the zip."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from magic141.lab.models.preview import PREVIEW, preview_psnr_db
from magic141.lab.models.shipped import shipped_vae_weights
from magic141.lab.models.taehv import narrow_network
from magic141.tests.bench.support.cards_interactive import cards_figures
from magic141.tests.server.test_workflows import DOWNLOADED, FILES
from magic141.tests.support.real_templates import edits_needed, real_templates, without_download
from magic141.tools import help_pages, locales
from magic141.tools.browser import find_chromium, open_tab
from magic141.tools.canvas import first_view_scale, node_boxes, overlaps, set_renderer, show_results
from magic141.tools.client import ComfyClient, ExecutionFailed, Interrupted, PromptRejected
from magic141.tools.demo import DEFAULT, cut_long_videos
from magic141.tools.graph import WorkflowError, workflow_to_prompt
from magic141.tools.layout import write_shown_video
from magic141.tools.manager import pack_zip
from magic141.tools.node_info import node_info
from magic141.tools.server import PACK, ComfyServer, temporary_server
from magic141.tools.templates import short_name

LONGEST_S = 2.0
"""Long videos are cut to this: a few windows are all that the loop has to go through."""
IMPORT = """
import time
from magic141.tools.host import use_comfyui
use_comfyui()
import nodes, comfy.sd, comfy_api.latest, kornia  # what the host has imported before it comes to packs
start = time.process_time()
import magic141.nodes
print(time.process_time() - start)
"""


def import_seconds(repeats: int) -> float:
    """Return the median seconds that importing the pack takes beyond what ComfyUI imports itself.

    Processor time, because a shared machine may wait for other programs for longer than the import takes.
    """
    runs = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout
        for _ in range(repeats)
    ]
    return statistics.median(float(out.split()[-1]) for out in runs)


def help_pages_ratio() -> float:
    """Return the share of nodes with a current, written help page."""
    faulty = {problem.split(".md")[0] for problem in help_pages.problems()}
    nodes = list(node_info())
    return sum(node not in faulty for node in nodes) / len(nodes)


def run_workflow(client: ComfyClient, path: Path) -> str:
    """Run one workflow, long videos cut short; return what went wrong, or nothing."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    try:
        prompt = workflow_to_prompt(workflow, client.object_info())
        cut_long_videos(prompt, LONGEST_S)
        result = client.run(prompt, workflow=workflow, timeout=3600)
    except (ExecutionFailed, Interrupted, PromptRejected, WorkflowError, TimeoutError, OSError) as error:
        return f"{path.stem}: {error}"
    return "" if result.files() else f"{path.stem}: it saved nothing"


def frontend_figures(server: ComfyServer) -> tuple[dict[str, float], list[str]]:
    """Open every workflow in the frontend, with both renderers; return figures, and what was wrong."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit("No Chromium: the frontend cannot be measured. apt-get install chromium")
    covered, scales = [], []
    with open_tab(server.url, chromium, PACK / "out" / "browser") as tab:
        video = write_shown_video(server.base / "output")
        for vue in (False, True):
            set_renderer(tab, vue=vue)
            for path in FILES:
                scales.append(first_view_scale(tab, path))
                tab.close_dialogs()
                show_results(tab, video)
                covered += [f"{path.stem}, vue {vue}: {pair}" for pair in overlaps(node_boxes(tab))]
                tab.screenshot(f"{path.stem}_{'vue' if vue else 'classic'}")
        errors = list(tab.errors)
    figures = {
        "overlaps_after_run": len(covered),
        "smallest_first_view_scale": min(scales),
        "browser_console_errors": len(errors),
    }
    return figures, covered + errors


def cards_seen(server: ComfyServer, *, repeats: int) -> dict[str, float]:
    """Measure the cards in the frontend."""
    chromium = find_chromium()
    assert chromium is not None  # ``frontend_figures`` refuses to go on without
    return cards_figures(server, chromium, PACK / "out" / "browser", repeats=repeats)


def messages_per_mistake() -> float:
    """Return how many messages an artist gets for one mistake, on average over those that are tested."""
    from magic141.tests.parity.pack.test_limits import MISTAKES, NODES, faults

    import nodes as host  # pyright: ignore[reportMissingImports]

    host.NODE_CLASS_MAPPINGS.update(NODES)
    counts = []
    for name, _, values in MISTAKES:
        usual = faults(name)
        counts.append(sum(text != usual.get(widget) for widget, text in faults(name, **values).items()))
    return statistics.mean(counts)


def app_templates() -> int:
    """Return how many workflows name inputs and outputs for app mode."""
    chosen = [json.loads(path.read_text(encoding="utf-8"))["extra"].get("linearData", {}) for path in FILES]
    return sum(bool(entry.get("inputs") and entry.get("outputs")) for entry in chosen)


def first_screen_lines() -> int:
    """Return the lines of the README before its second heading."""
    lines = (PACK / "README.md").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines) if line.startswith("## "))


def zip_megabytes() -> float:
    """Return the size of the zip that ``comfy node pack`` makes."""
    with tempfile.TemporaryDirectory() as scratch:
        return pack_zip(PACK, Path(scratch)).stat().st_size / 1e6


def embedded_preview_psnr_db() -> float:
    """Return how near the embedded models' preview comes to the decoded frames, shrunk to its size."""
    colors = json.loads(PREVIEW.read_text(encoding="utf-8"))
    rows = torch.tensor([*colors["latent_rgb_factors"], colors["latent_rgb_factors_bias"]])
    return preview_psnr_db(rows, narrow_network(shipped_vae_weights()), seed=77)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench pack", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="one import, one workflow: does it run at all?")
    options = parser.parse_args()
    figures = {
        "import_s": import_seconds(1 if options.quick else 3),
        "help_pages_ratio": help_pages_ratio(),
        "locale_strings_missing": len(locales.missing_keys()),
        "templates": len(FILES),
        "templates_with_app": app_templates(),
        "validation_messages_per_mistake": messages_per_mistake(),
        "readme_first_screen_lines": first_screen_lines(),
        "preview_psnr_db": embedded_preview_psnr_db(),
        "zip_mb": zip_megabytes(),
    }
    with temporary_server() as server:
        client = ComfyClient(server.url)
        runnable = [path for path in FILES if path not in DOWNLOADED]
        chosen = [path for path in runnable if short_name(path) == DEFAULT] if options.quick else runnable
        failures = [failure for path in chosen if (failure := run_workflow(client, path))]
        figures["workflows_run"] = len(chosen)
        figures["workflows_failed"] = len(failures)
        templates, info = real_templates(), client.object_info()
        figures["templates_real_weights"] = sum(not without_download(path) for path in templates)
        edits = [edit for path in templates for edit in edits_needed(path, info)]
        figures["edits_before_first_run"] = len(edits)
        failures += edits
        seen, faults = frontend_figures(server)
        figures |= seen | cards_seen(server, repeats=1 if options.quick else 7)
    print("\n".join([*failures, *faults]), file=sys.stderr)
    text = json.dumps(figures, indent=2)
    options.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

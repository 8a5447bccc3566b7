"""The real sizes on one accelerator, with random weights made there: a table in ten minutes, in stages that resume.

``dev.py bench gpu --json F`` does the stages that F does not hold yet, in the order of ``STAGES``, as long as there is
time, and writes F after each. ``--tiny`` runs all of it at small sizes on any machine, so that the first run on an
accelerator is not the first run. A stage that fails is written down with its error, and done again by the next call.
"""

import argparse
import json
import time
import traceback
from pathlib import Path

import torch
from magic141.tests.bench.support.gpu_models import FULL, TINY, Machine
from magic141.tests.bench.support.gpu_stages import STAGES
from magic141.tools.host import use_comfyui

MINUTES = 10.0


def stages_left(figures: dict, seconds_left: float, only: list[str]) -> list[str]:
    """Return the stages that are not done and, by what each is expected to take, still fit into the time."""
    left = []
    for name, stage in STAGES.items():
        if name in figures["done"] or (only and name not in only):
            continue
        if stage.seconds <= seconds_left:
            left.append(name)
    return left


def read_figures(path: Path, size: str) -> dict:
    """Return what earlier calls measured, or nothing yet.

    Raises:
        SystemExit: the file holds figures of the other size.
    """
    if not path.is_file():
        return {"size": size, "done": {}, "failed": {}, "figures": {}}
    figures = json.loads(path.read_text(encoding="utf-8"))
    if figures["size"] != size:
        raise SystemExit(
            f"{path} holds figures of the size {figures['size']}, not {size}. Name another file for --json."
        )
    return figures


def run_stage(name: str, machine: Machine, figures: dict) -> None:
    """Run one stage and write its figures, or its error, into ``figures``."""
    start = time.monotonic()
    try:
        found = STAGES[name].measure(machine)
    except Exception as error:
        traceback.print_exc()
        figures["failed"][name] = f"{type(error).__name__}: {error}"
        return
    finally:
        machine.free()
    figures["failed"].pop(name, None)
    figures["figures"] |= found
    figures["done"][name] = time.monotonic() - start
    for key, value in found.items():
        print(f"{key}: {value:.4g}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="dev.py bench gpu", description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="small sizes, on any machine: a dry run")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"time for this call ({MINUTES:g})")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=STAGES, metavar="STAGE", help=", ".join(STAGES)
    )
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("There is no accelerator here. --tiny runs the same stages at small sizes.")
    end = time.monotonic() + 60 * options.minutes
    figures = read_figures(options.json, "tiny" if options.tiny else "full")
    use_comfyui(cpu=not torch.cuda.is_available())
    machine = Machine(TINY if options.tiny else FULL, deadline=end)
    tried: set[str] = set()
    while names := [n for n in stages_left(figures, end - time.monotonic(), options.only) if n not in tried]:
        tried.add(names[0])
        print(f"--- {names[0]}", flush=True)
        with torch.inference_mode():
            run_stage(names[0], machine, figures)
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    missing = [name for name in STAGES if name not in figures["done"]]
    print(f"Done: {', '.join(figures['done']) or 'nothing'}. Missing: {', '.join(missing) or 'nothing'}.")
    raise SystemExit(bool(figures["failed"]))


if __name__ == "__main__":
    main()

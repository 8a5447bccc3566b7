"""The real sizes with random weights: does a 12.8-billion DiT and an 8-billion LLaVA load, shrink and run, and on what?

Linux, 24 GB of memory, two cores and 60 GB of free disk are enough. It writes its own files into the user's cache
folder and works stage by stage, each in a real server; what was finished is kept, so that a run that was stopped goes
on. Before each stage it says what is missing. In the end it deletes the files, unless ``--keep`` is given.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
from magic141.tests.bench.support.fullsize_files import FILES, is_whole
from magic141.tests.bench.support.fullsize_stages import STAGES, Figures, Stage
from magic141.tools.host import cache_dir
from magic141.tools.server import terminate_as_interrupt

#: Gigabytes of disk that are left free whatever is written.
SPARE_GB = 12.0


class NotEnough(Exception):
    """A stage cannot start here; the text says what it needs."""


class Bench:
    """Files and finished figures in a folder."""

    def __init__(self, base: Path) -> None:
        self.base, self.models = base, base / "models"
        self._notes = base / "finished.json"
        base.mkdir(parents=True, exist_ok=True)
        self.finished: dict[str, Figures] = (
            json.loads(self._notes.read_text()) if self._notes.exists() else {}
        )

    def run(self, name: str) -> Figures:
        """Run one stage and note its figures.

        Raises:
            NotEnough: disk, memory or a file is missing.
        """
        stage = STAGES[name]
        self._check(name, stage)
        for file in stage.files:
            if file in FILES:
                print(f"writing {FILES[file][1]}", flush=True)
                FILES[file][0](self.models)
        self.finished[name] = stage.run(self.base)
        self._notes.write_text(json.dumps(self.finished, indent=1))
        return self.finished[name]

    def delete_unneeded(self, names: Iterable[str]) -> None:
        """Delete the files that none of the given stages needs, and what a killed stage left half."""
        for half in self.models.rglob("*.part"):
            half.unlink()
        needed = {file for name in names for file in STAGES[name].files}
        for file in (*FILES, "int8"):
            if file not in needed:
                remove(self.path(file))

    def path(self, file: str) -> Path:
        return self.models / (FILES[file][1] if file in FILES else "diffusion_models/dit_int8.safetensors")

    def _check(self, name: str, stage: Stage) -> None:
        if sys.platform != "linux":
            raise NotEnough("This benchmark reads Linux's /proc. Run it on Linux.")
        if "int8" in stage.files and not is_whole(self.path("int8")):
            raise NotEnough(f"{name} needs the int8 file. Run the stage quantize first.")
        missing = [file for file in stage.files if file in FILES and not self.path(file).exists()]
        disk = stage.disk_gb + sum(FILES[file][2] for file in missing) + SPARE_GB
        free = shutil.disk_usage(self.base).free / 1e9
        if disk > free:
            raise NotEnough(
                f"{name} needs {disk:.0f} GB of free disk ({SPARE_GB:.0f} of them to spare); {free:.0f} are free in "
                f"{self.base}. Free some, or set MAGIC141_CACHE to a folder on a larger disk."
            )
        available = psutil.virtual_memory().available / 1e9
        if stage.ram_gb > available:
            raise NotEnough(
                f"{name} needs {stage.ram_gb:.0f} GB of free memory; {available:.1f} are free. Close programs, or "
                "leave the stage out with --only."
            )


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run_stages(bench: Bench, names: list[str], args: argparse.Namespace) -> list[str]:
    """Run stages in order; return a sentence for each that could not."""
    refused = []
    for number, name in enumerate(names):
        if not args.keep:
            bench.delete_unneeded(names[number:])
        try:
            print(f"{name}:", json.dumps(bench.run(name), indent=1), flush=True)
        except NotEnough as error:
            print(f"{name} was left out: {error}", file=sys.stderr, flush=True)
            refused.append(f"{name}: {error}")
        write_json(args.json, bench, refused)
    return refused


def write_json(path: Path | None, bench: Bench, refused: list[str]) -> None:
    if path is not None:
        figures: dict = {key: value for each in bench.finished.values() for key, value in each.items()}
        path.write_text(json.dumps(figures | ({"left_out": refused} if refused else {}), indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here, after each stage")
    parser.add_argument("--keep", action="store_true", help="leave the files and figures for another run")
    parser.add_argument(
        "--only", nargs="+", choices=STAGES, metavar="STAGE", help=f"measure these again: {', '.join(STAGES)}"
    )
    args = parser.parse_args()
    bench = Bench(cache_dir() / "fullsize")
    names = args.only or [name for name in STAGES if name not in bench.finished]
    with terminate_as_interrupt():
        refused = run_stages(bench, names, args)
    write_json(args.json, bench, refused)
    if not args.keep and not refused:
        shutil.rmtree(bench.base)
    return 1 if refused else 0


if __name__ == "__main__":
    raise SystemExit(main())

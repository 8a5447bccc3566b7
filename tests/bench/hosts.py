"""Every test on every ComfyUI that is named, each in an environment of its own requirements: ``hosts_passed``.

``dev.py bench hosts --json F HOST...``: a HOST is a checkout, or ``pinned``. F is written after each room of tests, and
a room that it holds for the same state of this repository is not run again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from magic141.tools.host import COMFYUI_VERSION, cache_dir

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("tests/unit", "tests/parity", "tests/server", "tests/browser")


def checkout_of(host: str) -> Path:
    """Return the checkout that an argument names.

    Raises:
        SystemExit: there is no ComfyUI.
    """
    folder = cache_dir() / f"comfyui-{COMFYUI_VERSION}" if host == "pinned" else Path(host).resolve()
    if not (folder / "comfyui_version.py").is_file():
        raise SystemExit(
            f"{folder} is no ComfyUI: there is no comfyui_version.py. Name a checkout, or pinned."
        )
    return folder


def version_of(checkout: Path) -> str:
    text = (checkout / "comfyui_version.py").read_text(encoding="utf-8")
    return text.rpartition("=")[2].strip().strip("\"'")


def run_room(checkout: Path, room: str) -> dict[str, int]:
    """Run the tests of a room on a host; return how many passed, failed and were skipped."""
    variables = {**os.environ, "COMFYUI_PATH": str(checkout)}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, str(ROOT / "dev.py"), "test", room, f"--junitxml={report}"]
        subprocess.run(command, env=variables, check=False)
        return counts_of(report)


def counts_of(report: Path) -> dict[str, int]:
    """Return the counts of a JUnit file; a run that wrote none failed."""
    if not report.is_file():
        return {"passed": 0, "failed": 1, "skipped": 0}
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    total, skipped = (sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "skipped"))
    failed = sum(int(suite.get(key, 0)) for suite in suites for key in ("failures", "errors"))
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}


def hosts_passed(hosts: dict[str, dict[str, dict[str, int]]]) -> int:
    """Return on how many hosts every room of tests ran and nothing failed."""
    return sum(
        all(room in rooms and rooms[room]["passed"] and not rooms[room]["failed"] for room in ROOMS)
        for rooms in hosts.values()
    )


def state_of_repository() -> str:
    """Return the commit and what was changed since, as one hash."""
    made = _git("stash", "create")  # writes an object, and changes neither files nor the stash
    return _git("rev-parse", f"{made or 'HEAD'}^{{tree}}")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="dev.py bench hosts", description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rooms", nargs="+", default=list(ROOMS), choices=ROOMS)
    parser.add_argument("hosts", nargs="+", help="checkouts of ComfyUI, or: pinned")
    options = parser.parse_args()
    state, figures = state_of_repository(), {}
    if options.json.is_file():
        figures = json.loads(options.json.read_text(encoding="utf-8"))
    if figures.get("state") != state:
        figures = {"state": state, "hosts": {}}
    for checkout in map(checkout_of, options.hosts):
        rooms = figures["hosts"].setdefault(version_of(checkout), {})
        for room in options.rooms:
            if room not in rooms:
                rooms[room] = run_room(checkout, room)
            figures["hosts_passed"] = hosts_passed(figures["hosts"])
            options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
            print(f"ComfyUI {version_of(checkout)}, {room}: {rooms[room]}", flush=True)
    print(f"hosts_passed: {figures['hosts_passed']}")


if __name__ == "__main__":
    main()

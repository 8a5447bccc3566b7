"""The paper's Table 1: ``python3 dev.py table RESULTS.jsonl "teacher=DIR" "student=DIR" [--reference DIR]``.

Each folder gets a row, as in the node Folder Quality; the models are those in ComfyUI's models folder. A run that was
stopped continues with the videos that have no line in RESULTS.jsonl yet.
"""

import argparse
import sys
from pathlib import Path

from .host import use_comfyui


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py table", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="file with a line of JSON for every video")
    parser.add_argument("folders", nargs="+", help="name=folder, one for each row")
    parser.add_argument("--reference", type=Path, help="folder of real videos, for FID and FVD")
    options = parser.parse_args()
    use_comfyui()
    from ..model_patches.bridge.judge.folder import Folder, compare_folders, judge_folder, open_folder
    from ..model_patches.bridge.judge.models import Models
    from ..model_patches.judge.folder_report import folder_text

    def show(done: int, total: int) -> None:
        print(f"\r{done} of {total}", end="", file=sys.stderr, flush=True)

    def row(line: str) -> Folder:
        name, _, path = line.rpartition("=")
        return open_folder(name or path, path, Path(path))

    try:
        folders = [row(line) for line in options.folders]
        reference = None if options.reference is None else row(str(options.reference))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    models, results = Models(), []
    for folder in folders:
        result = judge_folder(folder, options.results, models, progress=show)
        if reference is not None:
            result.distances, result.notes = compare_folders(folder, reference, models, progress=show)
        results.append(result)
    print("\n" + folder_text(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

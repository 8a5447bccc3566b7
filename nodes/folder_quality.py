"""Folder Quality: the table that compares whole folders of videos, as in the paper."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..model_patches.bridge.judge.folder import compare_folders, judge_folder, read_folders
from ..model_patches.bridge.judge.models import Models
from ..model_patches.bridge.progress import host_progress, stages
from ..model_patches.judge.folder_report import folder_text
from ..model_patches.store.names import name_fault


class FolderQuality(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141FolderQuality",
            display_name="Folder Quality",
            category="Magic141/measure",
            description="Measures every video of one or more folders and compares the folders in a table: the seven "
            "measures of the paper and their mean, and FID and FVD against a folder of real videos. An interrupted "
            "run continues where it stopped.",
            search_aliases=[
                "magic141",
                "vbench",
                "fid",
                "fvd",
                "benchmark",
                "compare models",
                "batch quality",
            ],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "folders",
                    default="output/teacher\noutput/student",
                    multiline=True,
                    tooltip="One folder a line, inside input, output or models: output/teacher, or with a name for "
                    "its row: teacher, 28 steps = output/teacher. A picture and a text file of a video's name "
                    "(cat.mp4, cat.png, cat.txt) are its start picture and its prompt.",
                ),
                io.String.Input(
                    "results_name",
                    default="my comparison",
                    tooltip="The numbers of every video are kept in output/magic141_quality under this name.",
                ),
                io.String.Input(
                    "reference_folder",
                    default="",
                    tooltip="A folder of real videos. Adds FID and FVD, where their models are. Empty: none.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The table, and what is missing."),
                io.String.Output(
                    display_name="results", tooltip="The file with a line of JSON for every video."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, folders=None, results_name=None) -> bool | str:
        if folders is not None:
            read_folders(folders)
        return (name_fault(results_name, "results") if results_name is not None else None) or True

    @classmethod
    def fingerprint_inputs(cls, **_) -> float:
        return float("nan")  # the videos may have changed; what did not is not measured again

    @classmethod
    def execute(cls, folders, results_name, reference_folder) -> io.NodeOutput:
        path = Path(folder_paths.get_output_directory()) / "magic141_quality" / f"{results_name}.jsonl"
        models, results = Models(), []
        reference = read_folders(reference_folder)[0] if reference_folder.strip() else None
        with stages():
            for folder in read_folders(folders):
                result = judge_folder(folder, path, models, progress=host_progress(f"judging {folder.name}"))
                if reference is not None:
                    stage = host_progress(f"comparing {folder.name}")
                    result.distances, result.notes = compare_folders(
                        folder, reference, models, progress=stage
                    )
                results.append(result)
        text = folder_text(results)
        return io.NodeOutput(text, str(path), ui=ui.PreviewText(text))

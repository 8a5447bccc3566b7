"""What is measured: the name and the meaning of every measure, and the model files it needs."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One row of the table.

    title: for people. better: 1 if higher is better, -1 if lower is, 0 for neither. notable: the smallest difference
    between two clips worth mentioning. worst, best: values at the center and the rim of the radar. about: what the
    value says. needs: the model files. wants: the input that it measures against, "start_image" or "prompt".
    """

    title: str
    better: int
    notable: float
    worst: float
    best: float
    about: str
    needs: tuple[str, ...] = ()
    wants: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A file or folder that measures need.

    name: as downloaded. begins: the start of the name by which it is found. source: where artists get it.
    """

    name: str
    begins: str
    source: str
    is_folder: bool = False


# fmt: off
MODEL_FILES: Mapping[str, ModelFile] = {
    "dino": ModelFile("dino-vitb16", "dino-vitb16", "facebook, on Hugging Face", True),
    "clip_b32": ModelFile("clip-vit-base-patch32", "clip-vit-base-patch32", "openai, on Hugging Face", True),
    "clip_l14": ModelFile("clip-vit-large-patch14", "clip-vit-large-patch14", "openai, on Hugging Face", True),
    "aesthetic": ModelFile("sa_0_4_vit_l_14_linear.pth", "sa_0_4_vit_l_14", "LAION-AI/aesthetic-predictor on GitHub"),
    "musiq": ModelFile("musiq_spaq_ckpt-358bb6af.pth", "musiq_spaq", "chaofengc/IQA-PyTorch on GitHub"),
    "raft": ModelFile("raft_large_C_T_V1-22a6c225.pth", "raft_large", "torchvision's models"),
    "alexnet": ModelFile("alexnet-owt-7be5be79.pth", "alexnet", "torchvision's models"),
    "lpips": ModelFile("lpips_alex.pth", "lpips_alex", "richzhang/PerceptualSimilarity on GitHub: alex.pth"),
    "inception": ModelFile("pt_inception-2015-12-05-6726825d.pth", "pt_inception", "mseitzer/pytorch-fid on GitHub"),
    "videomae": ModelFile("videomae-base", "videomae", "MCG-NJU, on Hugging Face", True),
}

START, PROMPT = "start_image", "prompt"
REMEDIES = {START: "Connect start_image.", PROMPT: "Write the prompt."}
REMEDIES_IN_FOLDER = {
    REMEDIES[START]: "Put the start picture beside the video, under the video's name: cat.png for cat.mp4.",
    REMEDIES[PROMPT]: "Put the prompt beside the video, in a text file of the video's name: cat.txt for cat.mp4.",
}
"""What to do if a clip has no start picture or prompt: on the node for one clip, and for a folder."""
MEASURES: Mapping[str, Measure] = {
    "i2v_subject": Measure("I2V subject", 1, 0.01, 0.5, 1, "the start picture's subject", ("dino",), START),
    "subject_consistency": Measure("subject consistency", 1, 0.01, 0.5, 1, "the subject stays itself", ("dino",)),
    "motion_smoothness": Measure("motion smoothness", 1, 0.005, 0.9, 1, "each second frame lies between its neighbors"),
    "dynamic_degree": Measure("dynamic degree", 1, 0.5, 0, 1, "1 if things move much, else 0", ("raft",)),
    "aesthetic_quality": Measure("aesthetic quality", 1, 0.02, 0.3, 0.8, "people like it", ("clip_l14", "aesthetic")),
    "imaging_quality": Measure("imaging quality", 1, 0.02, 0.2, 0.8, "no blur, noise, artifacts", ("musiq",)),
    "temporal_flickering": Measure("temporal flickering", 1, 0.005, 0.9, 1, "1 if no pixel changes"),
    "background_consistency": Measure("background consistency", 1, 0.01, 0.5, 1, "the scene stays", ("clip_b32",)),
    "i2v_background": Measure("I2V background", 1, 0.01, 0.5, 1, "the start picture's scene", ("clip_b32",), START),
    "prompt_fit": Measure("prompt fit", 1, 1, 15, 35, "CLIP score of frames and prompt", ("clip_b32",), PROMPT),
    "flow_px": Measure("optical flow", 0, 1, 0, 20, "fastest motion, pixels in an eighth of a second", ("raft",)),
    "motion": Measure("motion", 0, 0.5, 0, 5, "mean change from frame to frame, percent of full brightness"),
    "still_s": Measure("longest standstill", -1, 0.2, 2, 0, "seconds in which nothing at all moves"),
    "worst_jump": Measure("worst jump", -1, 1, 6, 1, "the largest change between frames over those around it"),
    "sharpness": Measure("sharpness", 1, 0.003, 0, 0.05, "mean detail; compare only clips of one subject and size"),
    "sharpness_kept": Measure("sharpness kept", 1, 0.05, 0.4, 1, "detail at the end over detail at the beginning"),
    "color_drift": Measure("color drift", -1, 1, 10, 0, "CIEDE2000 from the beginning; the eye sees about 1"),
    "start_psnr": Measure("first frame PSNR", 1, 1, 15, 40, "first frame and start picture, dB", (), START),
    "start_ssim": Measure("first frame SSIM", 1, 0.02, 0.4, 1, "first frame and start picture", (), START),
    "start_lpips": Measure("first frame LPIPS", -1, 0.02, 0.6, 0, "distance to the eye", ("alexnet", "lpips"), START),
}
# fmt: on
TABLE_1 = (
    "i2v_subject",
    "subject_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
    "temporal_flickering",
)
"""The seven measures of the paper's Table 1, in its order."""
LEAST_FRAMES = {"motion_smoothness": 3, "worst_jump": 4}
"""Frames that a measure needs; the others that need more than one need 2."""

"""The texts of the tables of figures; a value is ``{bench[name]:format}``. ``figures.py`` fills in the numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A table between two markers of a page."""

    page: str
    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def begin(self) -> str:
        return f"<!-- {self.name}: made by dev.py remake figures -->"

    @property
    def end(self) -> str:
        return f"<!-- end of {self.name} -->"


def block_text(block: Block, figures: dict[str, dict[str, float]]) -> str:
    """Return the table of a block with its numbers.

    Raises:
        ValueError: a figure of the table has not been measured.
    """
    lines = [block.columns, ("---",) * len(block.columns), *block.rows]
    try:
        return "\n".join(f"| {' | '.join(cells)} |".format(**figures) for cells in lines)
    except KeyError as error:
        raise ValueError(
            f"{block.page} shows {error}, which no run of tests/bench/figures has. Measure it, or take the row out."
        ) from None


ROWS = (
    (
        "The object moves as the prompt says (200 prompts kept out of training, 4 steps)",
        "{demo[motion_accuracy]:.2f}",
        "prompts shuffled: {demo[motion_accuracy_shuffled]:.2f}; guessing: 0.06",
    ),
    ("Clips through the VAE and back, PSNR in dB", "{demo[vae_psnr_db]:.1f}", ""),
    (
        "From text alone: a still picture has the shape, color and place of the prompt",
        "{demo[t2i_caption_accuracy]:.2f}",
        "",
    ),
    (
        "From text alone: a clip moves as the prompt says (4 steps, cfg 1.5, no LoRA)",
        "{demo[t2v_motion_accuracy]:.2f}",
        "clean (direction, color, path and size; the shape is not checked): {demo[t2v_clean_rate]:.2f}",
    ),
    (
        "A minute of video: the object is still there, with its color and shape (40 clips)",
        "{window[object_alive_60s]:.2f}",
        "naive continuation: {window[naive_object_alive_60s]:.2f}",
    ),
    (
        "A minute: the object keeps the direction that it chose (20 clips)",
        "{window[direction_persistence]:.2f}",
        "without turn limit: {window[plain_direction_persistence]:.2f};"
        " naive: {window[naive_direction_persistence]:.2f}",
    ),
    (
        "A minute: the motion runs smoothly across the seams between windows",
        "{window[seams_ok_share]:.3f}",
        "naive: {window[naive_seams_ok_share]:.2f}",
    ),
    (
        "A minute: color drift in delta E **with** color anchor and turn limit, as in the workflows",
        "{window[drift_delta_e_60s]:.2f}",
        "**without** either: {window[plain_drift_delta_e_60s]:.2f}; naive, without either:"
        " {window[naive_drift_delta_e_60s]:.2f};"
        " true videos through the VAE: {window[truth_drift_delta_e_60s]:.2f}",
    ),
    (
        "A run that was killed three times ends with the same frames (1 = every byte)",
        "{window[resume_identical_frames]:.0f}",
        "",
    ),
    (
        "Templates of ComfyUI itself (Wan 2.2, HunyuanVideo 1.5, LTX-2.3) that make three windows with Window"
        " Start and Window Save in them (small random weights)",
        "{anygraph[templates_run]:.0f}",
        "that fail: {anygraph[templates_failed]:.0f}",
    ),
    (
        "100 windows out of any graph: memory that each adds, as a share of a window's frames",
        "{anygraph[rss_slope_share_of_window]:.3f}",
        "a loop that keeps its frames: 1",
    ),
    (
        "Time that Window Start and Window Save add to a window of the graph's own nodes, ms",
        "{anygraph[overhead_ms_per_window]:.0f}",
        "stock Save Video for the same frames: {anygraph[stock_save_ms_per_window]:.0f}",
    ),
    (
        "Few-step LoRA, 4 steps of one pass: clean clips, the shape not checked"
        " (512 prompts that leave the direction open)",
        "{distill[student4_clean_rate]:.2f}",
        "its teacher, two passes a step: {distill[teacher4_clean_rate]:.2f} in 4 steps,"
        " {distill[teacher56_clean_rate]:.2f} in 56",
    ),
    (
        "Few-step LoRA, 2 steps of one pass: clean clips, the shape not checked",
        "{distill[student2_clean_rate]:.2f}",
        "its teacher in 2 steps of two passes: {distill[teacher2_clean_rate]:.2f}",
    ),
    (
        "Quantizing a file of {int8[stream_file_gb]:.1f} GB: extra memory in MB",
        "{int8[stream_peak_extra_mb]:.0f}",
        "",
    ),
    (
        "Time to quantize that file, as a share of the time to copy it",
        "{int8[quantize_over_copy_time]:.1f}",
        "copying: 1",
    ),
    (
        "Error of the DiT's output in int8, weights only (held-out prompts and noises)",
        "{int8[dit_rel_error_weight_only]:.4f}",
        "quanto on the same layers: {int8[dit_rel_error_quanto]:.4f}; W8A8: {int8[dit_rel_error_w8a8]:.4f}",
    ),
    (
        "Model families quantized to int8 and opened with the stock loader: largest error of the output",
        "{int8[family_rel_error_max]:.3f}",
        "families: {int8[families_quantized]:.0f}; that fail: {int8[families_failed]:.0f}",
    ),
    (
        "Bytes of the DiT and its encoders in int8, as a share of bf16 (arithmetic at 13B and 8B)",
        "{int8[weight_bytes_ratio]:.3f}",
        "bf16: 1",
    ),
    (
        "Picture search: a description finds its own picture first among 1,000",
        "{retrieval[recall_at_1]:.2f}",
        "descriptions shuffled: {retrieval[recall_at_1_shuffled_captions]:.3f}",
    ),
    (
        "Measures of Clip Quality: largest difference to an independent implementation of VBench's formulas",
        "{judge[vbench_formula_error_max]:.1e}",
        "",
    ),
    (
        "Clips made worse on purpose (blur, flicker, freeze, color, other object) whose fault the right measure"
        " notices (200 pairs)",
        "{judge[order_agreement]:.2f}",
        "guessing: 0.5",
    ),
    (
        "Programs and servers killed in the middle of long work: windows lost, frames that differ afterwards",
        "{faults[windows_lost]:.0f}, {faults[frames_different]:.0f}",
        "of {faults[kills]:.0f} kills",
    ),
    (
        "Damaged files and inputs: wrong results without a message, errors without an explanation, hangs",
        "{faults[silent_wrong]:.0f}, {faults[raw_errors]:.0f}, {faults[hangs]:.0f}",
        "of {faults[malformed]:.0f} tried",
    ),
    (
        "Longest time from a cancel to its effect, s",
        "{faults[cancel_latency_max_s]:.2f}",
        "one call of the model: {faults[one_model_call_s]:.2f}",
    ),
    (
        "Share of the faults put into the code on purpose that a test finds",
        "{mutants[mutants_killed_share]:.3f}",
        "of {mutants[mutants_tried]:.0f} tried",
    ),
    (
        "Time of a clip on the same weights, as a share of diffusers'",
        "{dit[ratio_vs_diffusers]:.2f}",
        "diffusers: 1; behind ComfyUI's Torch Compile Model: {dit[compiled_over_eager]:.2f} of ours without it",
    ),
    (
        "A DiT of 12.8 billion random weights in int8, on two cores and 24 GB: memory at its peak while it makes"
        " a clip in 4 steps, the file included, GB",
        "{fullsize[fullsize_int8_sample_peak_rss_gb]:.1f}",
        "its file in bf16: 25.6",
    ),
    (
        "Making that int8 file: extra memory in MB; time as a share of the time to copy the source",
        "{fullsize[fullsize_quantize_peak_extra_mb]:.0f}; {fullsize[fullsize_quantize_over_copy_time]:.2f}",
        "copying: 1",
    ),
    (
        "A LLaVA of 8 billion random weights in int8 looks at a picture and reads a prompt: memory at its peak, GB",
        "{fullsize[fullsize_vlm_int8_peak_rss_gb]:.1f}",
        "its files in bf16: 16.7",
    ),
    (
        "The same in bf16: time over its operations at the speed of a large float32 product",
        "{fullsize[fullsize_vlm_over_fp32_flops]:.2f}",
        "one product: 1",
    ),
    (
        "Versions of ComfyUI on which every test passes (0.30.0 and 0.33.0)",
        "{hosts[hosts_passed]:.0f}",
        "tried: 2",
    ),
)
"""What was measured, the result, and what to compare it with; a result begins with the name of its benchmark."""


def _with_bench(row: tuple[str, str, str]) -> tuple[str, ...]:
    bench = row[1].removeprefix("{").partition("[")[0]
    return (*row, f"`{bench}`")


FIGURES = Block(
    "docs/figures.md",
    "figures",
    ("What was measured", "Result", "To compare", "`dev.py bench`"),
    tuple(map(_with_bench, ROWS)),
)
HAND_OVERS = {
    "latent_k1": "`latent`, 1 known latent frame",
    "latent_k2": "`latent`, 2 (the embedded workflows)",
    "latent_k3": "`latent`, 3",
    "pixel_k1": "`pixel`, 1: the naive way",
    "pixel_k2": "`pixel`, 2",
    "latent_k2_color_anchor_half": "`latent`, 2, *color_anchor* 0.5",
    "latent_k2_color_anchor_full": "`latent`, 2, *color_anchor* 1",
}
WINDOW = Block(
    "docs/long_video.md",
    "hand-overs",
    ("Hand-over and *overlap*", "Direction kept", "Seams smooth", "Color drift, delta E"),
    tuple(
        (
            words,
            f"{{window[{row}.direction_persistence]:.2f}}",
            f"{{window[{row}.seams_ok_share]:.2f}}",
            f"{{window[{row}.drift_delta_e_60s]:.2f}}",
        )
        for row, words in HAND_OVERS.items()
    ),
)
BLOCKS = (FIGURES, WINDOW)

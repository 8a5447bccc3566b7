"""What is measured at full size, stage by stage; each but the first in a real server of its own."""

import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from magic141.model_patches.dit.checkpoint import identify
from magic141.model_patches.dit.weights_file import read_header
from magic141.model_patches.encoders.llm import tokenize_prompt
from magic141.model_patches.encoders.templates import vlm_text
from magic141.tests.bench.support.fullsize_files import LLAMA_8B, VISION_L_336
from magic141.tests.bench.support.fullsize_graphs import HEIGHT, PROMPT, WIDTH, Graph
from magic141.tests.bench.support.fullsize_watch import Watch
from magic141.tests.bench.support.int8_disk import forget_cached
from magic141.tools.client import ComfyClient
from magic141.tools.server import ComfyServer

Figures = dict[str, float]
PATIENCE_S = 6 * 3600
TOKENS_PER_IMAGE, VISION_TOKENS = 576, 577
COPY_BYTES = 1 << 24


@dataclass(frozen=True)
class Stage:
    """One thing that is measured.

    Args:
        run: takes the base folder of a server, returns the figures.
        files: names in ``fullsize_files.FILES``, or "int8", which the stage "quantize" makes.
        ram_gb, disk_gb: that must be free before it starts, files not counted.
    """

    run: Callable[[Path], Figures]
    files: tuple[str, ...] = ()
    ram_gb: float = 2
    disk_gb: float = 0


def run_graph(base: Path, build: Callable[[Graph], str]) -> Figures:
    """Run a graph in a server of its own and say what it took; the builder returns the node that is timed."""
    with ComfyServer(base) as server:
        assert server.process is not None
        client = ComfyClient(server.url)
        graph, node_seconds = Graph(client.object_info()), {}
        timed = build(graph)
        with Watch(server.process.pid) as watch:
            result = client.run(graph.nodes, on_event=NodeClock(node_seconds), timeout=PATIENCE_S)
    return {
        "seconds": result.seconds,
        "node_seconds": node_seconds.get(timed, 0.0),
        **watch.figures(),
    }


class NodeClock:
    """Learn from a run's events how long each node worked."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._node, self._since = seconds, "", 0.0

    def __call__(self, kind: str, data: dict) -> None:
        if kind != "executing":
            return
        now = time.perf_counter()
        if self._node:
            self._seconds[self._node] = self._seconds.get(self._node, 0.0) + now - self._since
        self._node, self._since = data.get("node") or "", now


def named(stage: str, figures: Figures) -> Figures:
    return {f"{stage}_{name}": value for name, value in figures.items()}


def recognize(base: Path) -> Figures:
    """Read the header of the bf16 file."""
    start = time.perf_counter()
    identify(read_header(base / "models" / "diffusion_models" / "dit.safetensors"))
    return {"recognize_seconds": time.perf_counter() - start}


def _load(name: str) -> Callable[[Graph], str]:
    def build(graph: Graph) -> str:
        model = graph.model(name)
        graph.show((model, 1))
        return model

    return build


def load_bf16(base: Path) -> Figures:
    """Open the file that is larger than the memory."""
    run = run_graph(base, _load("dit"))
    return named("load_bf16", run) | {"fullsize_bf16_opens": 1}


def load_int8(base: Path) -> Figures:
    run = run_graph(base, _load("dit_int8"))
    return named("load_int8", run) | {"fullsize_load_extra_rss_mb": run["extra_mb"]}


def quantize(base: Path) -> Figures:
    """Write the int8 file, beside the time of a plain copy of the source."""
    source = base / "models" / "diffusion_models" / "dit.safetensors"
    forget_cached([source])
    copy_seconds = seconds_of_copy(source)
    forget_cached([source])
    run = run_graph(base, lambda graph: graph.add("Magic141QuantizeFile", model_name="dit.safetensors"))
    return named("quantize", run) | {
        "quantize_copy_seconds": copy_seconds,
        "fullsize_quantize_peak_extra_mb": run["extra_mb"],
        "fullsize_quantize_over_copy_time": run["seconds"] / copy_seconds,
    }


def seconds_of_copy(path: Path) -> float:
    """Return how long a copy of the whole file takes; a part would stay in the memory and never reach the disk."""
    copy = path.with_name("copy.part")
    start = time.perf_counter()
    try:
        with path.open("rb") as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, COPY_BYTES)
        return time.perf_counter() - start
    finally:
        copy.unlink(missing_ok=True)


def _sample(steps: int, *, with_lora: bool = False) -> Callable[[Graph], str]:
    def build(graph: Graph) -> str:
        model = graph.model("dit_int8")
        if with_lora:
            model = graph.add(
                "LoraLoaderModelOnly", model=(model, 0), lora_name="lora.safetensors", strength_model=1.0
            )
        sampled = graph.sample(model, steps=steps)
        graph.add("SaveLatent", samples=(sampled, 0), filename_prefix="sampled")
        return sampled

    return build


def sample_1_step(base: Path) -> Figures:
    """Make one step with the int8 model and the shallow encoders."""
    return named("sample_1_step", run_graph(base, _sample(1)))


def sample_4_steps(base: Path) -> Figures:
    run = run_graph(base, _sample(4))
    return named("sample_4_steps", run) | {"fullsize_int8_sample_peak_rss_gb": run["resident_gb"]}


def sample_lora(base: Path) -> Figures:
    """Make one step with a LoRA of rank 64 on every Linear of the blocks."""
    return named("sample_lora", run_graph(base, _sample(1, with_lora=True)))


def _encode(*, int8: bool) -> Callable[[Graph], str]:
    def build(graph: Graph) -> str:
        encoded = graph.encode(graph.encoders("llava", int8=int8))
        graph.show((encoded, 2))
        return encoded

    return build


def vlm_bf16(base: Path) -> Figures:
    """Let the full-size LLaVA look at one picture and read one prompt."""
    speed = [fp32_flops()]
    run = run_graph(base, _encode(int8=False))
    speed.append(fp32_flops())
    expected = encoder_operations(base) / statistics.mean(speed)
    return named("vlm_bf16", run) | {
        "fp32_gflops": statistics.mean(speed) / 1e9,
        "fullsize_vlm_over_fp32_flops": run["node_seconds"] / expected,
    }


def vlm_int8(base: Path) -> Figures:
    """The same in int8, quantized in memory."""
    run = run_graph(base, _encode(int8=True))
    return named("vlm_int8", run) | {"fullsize_vlm_int8_peak_rss_gb": run["own_mb"] / 1000}


def fp32_flops() -> float:
    """Return how many operations a second this computer makes in a large float32 product."""
    rows, weight = torch.randn(768, 4096), torch.randn(4096, 4096)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        torch.nn.functional.linear(rows, weight)
        taken.append(time.perf_counter() - start)
    return 2 * rows.numel() * len(weight) / statistics.median(taken)


def encoder_operations(base: Path) -> float:
    """Return the operations of LLaMA and tower for one picture, the prompt and the empty negative prompt."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(base / "models" / "text_encoders" / "llava")
    with_picture = len(tokenizer(vlm_text(1)).input_ids) - 1 + TOKENS_PER_IMAGE
    prompts = [tokenize_prompt(tokenizer, text).shape[1] for text in (PROMPT, "")]
    passes = [with_picture, *prompts]
    hidden, inner = LLAMA_8B["hidden_size"], LLAMA_8B["intermediate_size"]
    values = hidden * LLAMA_8B["num_key_value_heads"] // LLAMA_8B["num_attention_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * values + 3 * hidden * inner
    llama = sum(LLAMA_8B["num_hidden_layers"] * (2 * n * layer + 4 * n * n * hidden) for n in passes)
    width = VISION_L_336["hidden_size"]
    tower = VISION_L_336["num_hidden_layers"] * VISION_TOKENS * (24 * width**2 + 4 * VISION_TOKENS * width)
    return llama + tower


def _vae(*, tiled: bool) -> Callable[[Graph], str]:
    def build(graph: Graph) -> str:
        vae = graph.vae()
        tiling = "Tiled" if tiled else ""
        encoded = graph.add(f"VAEEncode{tiling}", pixels=(graph.picture(5), 0), vae=(vae, 0))
        decoded = graph.add(f"VAEDecode{tiling}", samples=(encoded, 0), vae=(vae, 0))
        graph.add("PreviewImage", images=(decoded, 0))
        return decoded

    return build


def vae(base: Path) -> Figures:
    """Encode and decode 5 frames, whole."""
    return named(f"vae_{WIDTH}x{HEIGHT}", run_graph(base, _vae(tiled=False)))


def vae_tiled(base: Path) -> Figures:
    """The same in the stock nodes' tiles."""
    return named(f"vae_tiled_{WIDTH}x{HEIGHT}", run_graph(base, _vae(tiled=True)))


def windows(base: Path) -> Figures:
    """Make two windows of Sliding Window Extend, one step each, with the shallow encoders."""
    run = run_graph(base, lambda graph: graph.extend(graph.model("dit_int8"), windows=2))
    made = list((base / "output" / "magic141_runs").glob("fullsize-*/windows/*.safetensors"))
    return named("windows", run) | {"fullsize_windows_done": len(made)}


INT8 = ("int8", "vae", "shallow", "clip")
STAGES = {
    "recognize": Stage(recognize, ("dit",), ram_gb=1),
    "load_bf16": Stage(load_bf16, ("dit",), ram_gb=3),
    "quantize": Stage(quantize, ("dit",), ram_gb=3, disk_gb=25.7),
    "load_int8": Stage(load_int8, ("int8",), ram_gb=4),
    "sample_1_step": Stage(sample_1_step, INT8, ram_gb=6),
    "sample_4_steps": Stage(sample_4_steps, INT8, ram_gb=6),
    "sample_lora": Stage(sample_lora, (*INT8, "lora"), ram_gb=8),
    "windows": Stage(windows, INT8, ram_gb=6),
    "vae": Stage(vae, ("vae",), ram_gb=12),
    "vae_tiled": Stage(vae_tiled, ("vae",), ram_gb=6),
    "vlm_bf16": Stage(vlm_bf16, ("llava", "clip", "vae"), ram_gb=4),
    "vlm_int8": Stage(vlm_int8, ("llava", "clip", "vae"), ram_gb=12),
}

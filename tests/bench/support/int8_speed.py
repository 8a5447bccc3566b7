"""One Linear's time in every format there is, in one run."""

import time

import torch
from magic141.model_patches.int8.quantize import QuantizationPlan, quantize_layer
from torch import nn

#: Tokens, input width, output width.
SPEED_SHAPE = (256, 1024, 2048)
SPEED_REPEATS = 5


def measure_speed() -> dict[str, float]:
    """One Linear in bf16, as ours, as the host's W8A8, as quanto's QLinear and as torchao's."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokens, width, rows = SPEED_SHAPE
    x = torch.randn(1, tokens, width, dtype=torch.bfloat16, device=device)
    figures = {}
    for name, make in speed_candidates().items():
        try:
            linear = make(nn.Linear(width, rows, dtype=torch.bfloat16).to(device))
        except ImportError:
            continue
        figures[f"speed_{name}_ms"] = milliseconds(lambda linear=linear: linear(x), device)
    return figures


def speed_candidates() -> dict:
    def ours(linear, mode):
        from magic141.model_patches.bridge.int8_ops import int8_operations

        layer = quantize_layer(linear.weight, QuantizationPlan(mode), name="speed")
        device = linear.weight.device
        made = int8_operations(torch.bfloat16).Linear(linear.in_features, linear.out_features, device="cpu")
        made.load_state_dict({k: v.cpu() for k, v in layer.items()} | {"bias": linear.bias.cpu()})
        return made.to(device)

    def quanto(linear):
        from optimum.quanto import freeze, qint8, quantize

        holder = nn.Sequential(linear)
        quantize(holder, weights=qint8)
        freeze(holder)
        return holder

    def torchao(linear):
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        holder = nn.Sequential(linear)
        quantize_(holder, Int8WeightOnlyConfig())
        return holder

    return {
        "bf16": lambda linear: linear,
        "int8_weight_only": lambda linear: ours(linear, "weight_only"),
        "int8_w8a8": lambda linear: ours(linear, "w8a8"),
        "int4_weight_only": lambda linear: ours(linear, "int4"),
        "quanto_qlinear": quanto,
        "torchao_int8": torchao,
    }


def milliseconds(run, device: torch.device) -> float:
    """Return the median time; on the CPU the process's own, so that other programs do not count."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times = []
    for _ in range(SPEED_REPEATS):
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return 1000 * sorted(times)[len(times) // 2]

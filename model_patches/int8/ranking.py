"""A ranking of layers by the error that each causes at the output, as text to read, link and paste."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .quantize import QuantizationPlan


@dataclass(frozen=True)
class Ranking:
    """Layers, worst first.

    Args:
        found_by: how the errors were measured.
        errors: names of Linears and relative errors of the output.
    """

    found_by: str
    errors: Mapping[str, float]

    @property
    def text(self) -> str:
        """The ranking as ``parse_ranking`` reads it."""
        return "\n".join([f"# {self.found_by}", *(f"{name}: {e:.3e}" for name, e in self.errors.items())])

    def worst(self, count: int) -> tuple[str, ...]:
        """Return the names of the worst layers."""
        return tuple(self.errors)[:count]


def parse_ranking(text: str) -> Ranking:
    """Read a ranking.

    Raises:
        ValueError: a line is neither a note (#) nor "name: error".
    """
    found_by, errors = "a list typed by hand", {}
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), start=1):
        if line.startswith("#"):
            found_by = line.lstrip("# ")
            continue
        name, _, error = line.rpartition(":")
        try:
            errors[name.strip().removesuffix(".weight")] = float(error)
        except ValueError:
            raise ValueError(
                f"Line {number} of ranking is {line!r}; a layer's name, a colon and its error are expected, as in "
                "`single_blocks.0.linear1: 0.012`. Connect Quantization Report's ranking."
            ) from None
    worst_first = sorted(errors, key=lambda name: errors[name], reverse=True)
    return Ranking(found_by, {name: errors[name] for name in worst_first})


def keep_worst(plan: QuantizationPlan, count: int, ranking: str) -> QuantizationPlan:
    """Return the plan with the worst layers of a ranking kept as they are.

    Raises:
        ValueError: the ranking is empty or holds fewer layers.
    """
    if not count:
        return plan
    parsed = parse_ranking(ranking)
    if len(parsed.errors) < count:
        raise ValueError(
            f"keep_worst is {count}, but ranking names {len(parsed.errors)} layers. Connect Quantization Report's "
            "ranking, with rank_layers switched on there, or set keep_worst lower."
        )
    return replace(plan, keep=parsed.worst(count), found_by=parsed.found_by)

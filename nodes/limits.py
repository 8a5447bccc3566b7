"""Check a node's inputs before anything runs: by the limits of its schema, and by its own ``validate_inputs``.

The host checks an input against its schema unless ``validate_inputs`` names it, and NaN passes all its comparisons.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

MAX_CHOICES_SHOWN = 20


def keep_limits(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Return a node that checks the limits of what its ``validate_inputs`` names, and of every decimal number.

    What ``validate_inputs`` raises becomes its message. Choices of older versions that a node lists in ``OLD_CHOICES``
    (by input) pass.
    """
    own = vars(node).get("validate_inputs")
    named = _parameters(own.__func__) if own is not None else []
    names = {parameter.name for parameter in named}
    decimals = [each.id for each in node.define_schema().inputs if isinstance(each, io.Float.Input)]
    added = [_optional(name) for name in decimals if name not in names]
    if not named and not added:
        return node

    def validate_inputs(cls: type[io.ComfyNode], **values: Any) -> bool | str:
        inputs = {each.id: each for each in cls.define_schema().inputs}
        old_choices = getattr(cls, "OLD_CHOICES", {})
        current = {
            name: value for name, value in values.items() if value not in list(old_choices.get(name, ()))
        }
        if (fault := _first_fault(inputs, current, limit_fault)) is not None:
            return fault
        if own is not None:
            own_values = {name: value for name, value in values.items() if name in names}
            try:
                if (verdict := own.__func__(cls, **own_values)) is not True:
                    return verdict
            except (ValueError, OSError) as error:
                return str(error)
        return _first_fault(inputs, values, step_fault) or True

    required = [each for each in named if each.default is inspect.Parameter.empty]
    rest = [each for each in named if each.default is not inspect.Parameter.empty]
    cls_parameter = inspect.Parameter("cls", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    # the host reads off the signature which inputs to hand over
    validate_inputs.__signature__ = inspect.Signature([cls_parameter, *required, *rest, *added])  # type: ignore[attr-defined]
    members = {
        "validate_inputs": classmethod(validate_inputs),
        "__doc__": node.__doc__,
        "__module__": node.__module__,
    }
    return type(node.__name__, (node,), members)


def limit_fault(widget: io.Input, value: Any) -> str | None:
    """Return why a schema does not allow a value (not a number, too small, too large, not a choice), or None."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{widget.id} is {value}; a number is needed."
    if isinstance(widget, io.Int.Input | io.Float.Input):
        low, high = widget.min, widget.max
        if (low is not None and value < low) or (high is not None and value > high):
            return f"{widget.id} is {value}; it can be {low} to {high}."
    if isinstance(widget, io.Combo.Input) and widget.options is not None and value not in widget.options:
        return f"{widget.id} is {value!r}, which is not a choice. {_choices(widget.options)}"
    return None


def step_fault(widget: io.Input, value: Any) -> str | None:
    """Return that a whole number lies between the steps of its schema, or None."""
    if not isinstance(widget, io.Int.Input) or not widget.step or widget.step == 1:
        return None
    low = widget.min or 0
    below = low + (value - low) // widget.step * widget.step
    if value == below:
        return None
    return f"{widget.id} is {value}; it goes in steps of {widget.step}. Use {below} or {below + widget.step}."


def _first_fault(
    inputs: dict[str, io.Input], values: dict[str, Any], fault_of: Callable[[io.Input, Any], str | None]
) -> str | None:
    """Return the first fault; None stands for a value that is linked and known only when the node runs."""
    known = ((inputs[name], value) for name, value in values.items() if name in inputs and value is not None)
    return next((fault for fault in (fault_of(widget, value) for widget, value in known) if fault), None)


def _choices(options: list) -> str:
    if not options:
        return "There is nothing to choose from yet; press R to refresh the list after copying a file."
    if len(options) > MAX_CHOICES_SHOWN:
        return "Choose one from the list; press R to refresh it."
    return f"Choose {', '.join(map(str, options))}."


def _parameters(function: Callable) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())[1:]


def _optional(name: str) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)

"""Check a node's inputs before anything runs: by the limits of its schema, and by its own ``validate_inputs``.

The host checks an input against its schema unless ``validate_inputs`` names it, and NaN passes all its comparisons.
"""

import inspect
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..model_patches.store.disk import sentence_of

BY_NAME = inspect.Parameter.POSITIONAL_OR_KEYWORD
MAX_CHOICES_SHOWN = 20


class Faults(str):
    """What is wrong with some of a node's inputs; as text, the first fault.

    The host shows what ``validate_inputs`` returns once for every input that it names: six messages for one mistake.
    Its loop skips an ``ExecutionBlocker``, so this passes for one while the host looks at a correct input, and reads as
    the sentence of a faulty one. If a host's loop looks different, all inputs show the first sentence.
    """

    by_input: dict[str, str]

    def __new__(cls, by_input: dict[str, str]) -> "Faults":
        faults = super().__new__(cls, next(iter(by_input.values())))
        faults.by_input = by_input
        return faults

    @property
    def __class__(self) -> type:
        name = _current_input()
        return Faults if name is None or name in self.by_input else ExecutionBlocker

    def __str__(self) -> str:
        return self.by_input.get(_current_input() or "", super().__str__())


def _current_input() -> str | None:
    """Return the input that the host's loop looks at, two calls up."""
    name = sys._getframe(2).f_locals.get("x")
    return name if type(name) is str else None


def keep_limits(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Return a node that checks the limits of inputs that its ``validate_inputs`` names, and of all decimal numbers.

    What ``validate_inputs`` raises becomes its message. Choices of older versions, which a node lists in
    ``OLD_CHOICES`` by input, pass.
    """
    own_check = vars(node).get("validate_inputs")
    parameters = list(inspect.signature(node.validate_inputs).parameters.values()) if own_check else []
    names = {parameter.name for parameter in parameters}
    decimals = [each.id for each in node.define_schema().inputs if isinstance(each, io.Float.Input)]
    added = [inspect.Parameter(name, BY_NAME, default=None) for name in decimals if name not in names]
    if not parameters and not added:
        return node

    def validate_inputs(cls: type[io.ComfyNode], **values: Any) -> bool | str:
        inputs = {each.id: each for each in cls.define_schema().inputs}
        old_choices = getattr(cls, "OLD_CHOICES", {})
        current = {
            name: value for name, value in values.items() if value not in list(old_choices.get(name, ()))
        }
        faults = _faults(inputs, current, limit_fault)
        if own_check is not None:
            given = [each.name for each in parameters if each.name in values]
            own_values = {name: None if name in faults else values[name] for name in given}
            faults |= _own_fault(partial(own_check.__func__, cls), own_values)
        faults = faults or _faults(inputs, values, step_fault)
        return Faults(faults) if faults else True

    # the host reads off the signature which inputs to hand over
    signature = inspect.Signature([inspect.Parameter("cls", BY_NAME), *parameters, *added])
    validate_inputs.__signature__ = signature  # type: ignore[attr-defined]
    members = {
        "validate_inputs": classmethod(validate_inputs),
        "__doc__": node.__doc__,
        "__module__": node.__module__,
    }
    return type(node.__name__, (node,), members)


def limit_fault(widget: io.Input, value: Any) -> str | None:
    """Return why a schema forbids a value (not a number, too small, too large, not a choice), or None."""
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
    """Return which steps of its schema a whole number lies between, or None."""
    if not isinstance(widget, io.Int.Input) or not widget.step or widget.step == 1:
        return None
    low = widget.min or 0
    below = low + (value - low) // widget.step * widget.step
    if value == below:
        return None
    return f"{widget.id} is {value}; it goes in steps of {widget.step}. Use {below} or {below + widget.step}."


def _faults(
    inputs: dict[str, io.Input], values: dict[str, Any], fault_of: Callable[[io.Input, Any], str | None]
) -> dict[str, str]:
    """Return what is wrong, by input; None stands for a value that is linked and known only at run time."""
    known = ((inputs[name], value) for name, value in values.items() if name in inputs and value is not None)
    return {widget.id: text for widget, value in known if (text := fault_of(widget, value))}


def _own_fault(validate: Callable[..., bool | str], values: dict[str, Any]) -> dict[str, str]:
    """Return what a node's own check says, by the input at fault: the check passes without its value.

    If there are several such inputs, it is the last one of the signature that the sentence mentions.
    """
    text = _verdict(validate, values)
    if text is None:
        return {}
    suspects = [name for name in values if _verdict(validate, {**values, name: None}) is None]
    mentioned = [name for name in suspects if name in text]
    return {(mentioned or suspects or list(values))[-1]: text}


def _verdict(validate: Callable[..., bool | str], values: dict[str, Any]) -> str | None:
    try:
        verdict = validate(**values)
    except (ValueError, ImportError, OSError) as error:
        return sentence_of(error)
    return None if verdict is True else str(verdict)


def _choices(options: list) -> str:
    if not options:
        return "There is nothing to choose from yet; press R to refresh the list after copying a file."
    if len(options) > MAX_CHOICES_SHOWN:
        return "Choose one from the list; press R to refresh it."
    return f"Choose {', '.join(map(str, options))}."

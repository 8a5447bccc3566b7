"""What wraps every node: the system's refusals as sentences, and a cancel that is heard while inputs are looked at."""

import inspect
from collections.abc import Callable
from typing import Any

import comfy.model_management
from comfy_api.latest import io

from ..model_patches.store.disk import DiskRefused, refusal_text


def say_refusals(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Return a node that says in a sentence what the system refuses while it runs (a full disk, missing rights).

    A cancel while its inputs are fingerprinted is heard as well.
    """
    members: dict[str, Any] = {"__doc__": node.__doc__, "__module__": node.__module__}
    members["execute"] = classmethod(_saying(node.execute.__func__))
    if (fingerprint := _own(node, "fingerprint_inputs")) is not None:
        members["fingerprint_inputs"] = classmethod(_canceled_later(fingerprint))
    return type(node.__name__, (node,), members)


def _canceled_later(function: Callable) -> Callable:
    """Return a fingerprint that a cancel ends; the host expects none there, so the run of the node hears it."""

    def fingerprint(cls: type, *arguments: Any, **values: Any) -> Any:
        try:
            return function(cls, *arguments, **values)
        except comfy.model_management.InterruptProcessingException:
            comfy.model_management.interrupt_current_processing()
            return float("nan")

    fingerprint.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return fingerprint


def _own(node: type, name: str) -> Callable | None:
    """Return the function behind a class method that our node defines, None where it is the host's own."""
    owner = next((each for each in node.__mro__ if name in vars(each)), None)
    is_ours = owner is not None and issubclass(owner, io.ComfyNode) and owner is not io.ComfyNode
    return vars(owner)[name].__func__ if is_ours else None


def _saying(function: Callable) -> Callable:
    def guarded(cls: type, *arguments: Any, **values: Any) -> Any:
        try:
            return function(cls, *arguments, **values)
        except OSError as error:
            if error.errno is None:  # has a sentence of its own
                raise
            raise DiskRefused(refusal_text(error)) from error

    # the host reads off the signature which inputs to hand over
    guarded.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return guarded

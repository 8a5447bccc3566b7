"""A wrapper of every node: errors of the system become sentences, and a cancel works while inputs are fingerprinted."""

import inspect
from collections.abc import Callable
from typing import Any

import comfy.model_management
from comfy_api.latest import io

from ..model_patches.store.disk import DiskRefused, refusal_text


def say_refusals(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Return a node that explains in a sentence what the system refuses while it runs (a full disk, missing rights).

    A cancel also works while its inputs are fingerprinted.
    """
    members: dict[str, Any] = {"__doc__": node.__doc__, "__module__": node.__module__}
    members["execute"] = classmethod(_with_sentences(node.execute.__func__))
    if (fingerprint := _own_function(node, "fingerprint_inputs")) is not None:
        members["fingerprint_inputs"] = classmethod(_cancelable(fingerprint))
    return type(node.__name__, (node,), members)


def _cancelable(function: Callable) -> Callable:
    """Return a fingerprint function that a cancel ends. The host expects none there, so it is passed on to the run."""

    def fingerprint(cls: type, *arguments: Any, **values: Any) -> Any:
        try:
            return function(cls, *arguments, **values)
        except comfy.model_management.InterruptProcessingException:
            comfy.model_management.interrupt_current_processing()
            return float("nan")

    fingerprint.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return fingerprint


def _own_function(node: type, name: str) -> Callable | None:
    """Return the function of a class method that our node defines, None if it is the host's."""
    owner = next((each for each in node.__mro__ if name in vars(each)), None)
    is_ours = owner is not None and issubclass(owner, io.ComfyNode) and owner is not io.ComfyNode
    return vars(owner)[name].__func__ if is_ours else None


def _with_sentences(function: Callable) -> Callable:
    def guarded(cls: type, *arguments: Any, **values: Any) -> Any:
        try:
            return function(cls, *arguments, **values)
        except OSError as error:
            if error.errno is None:  # it has a sentence already
                raise
            raise DiskRefused(refusal_text(error)) from error

    # the host reads off the signature which inputs to hand over
    guarded.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return guarded

"""Hear a cancel while a network is loaded or called: between two of its weights, or of its layers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.hooks import RemovableHandle

from ..store.cancel import stop_if_canceled


@contextmanager
def loading_until_canceled() -> Iterator[None]:
    """Stop between two weights that are put into modules inside, by whatever library, when the run was canceled."""
    with register_module_parameter_registration_hook(lambda *_: stop_if_canceled()):
        yield


def ask_between_layers(
    module: nn.Module, ask: Callable[[], None] = stop_if_canceled
) -> list[RemovableHandle]:
    """Let every call of a module ask, and so perhaps stop, between two of its repeated layers; return the hooks."""
    lists = [part for part in module.modules() if isinstance(part, nn.ModuleList)]
    return [layer.register_forward_pre_hook(lambda *_: ask()) for layers in lists for layer in layers]


@contextmanager
def asking_between_layers(*modules: nn.Module, ask: Callable[[], None] = stop_if_canceled) -> Iterator[None]:
    """Let calls of modules inside ask, and so perhaps stop, between two of their repeated layers."""
    with ExitStack() as hooks:
        for module in modules:
            for hook in ask_between_layers(module, ask):
                hooks.enter_context(hook)
        yield

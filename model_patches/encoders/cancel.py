"""Let a cancel stop a network while it is loaded or called: between two weights, or between two layers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.hooks import RemovableHandle

from ..store.cancel import stop_if_canceled


@contextmanager
def loading_until_canceled() -> Iterator[None]:
    """Stop any loading of modules inside the block between two weights when the run was canceled."""
    with register_module_parameter_registration_hook(lambda *_: stop_if_canceled()):
        yield


def check_between_layers(
    module: nn.Module, check: Callable[[], None] = stop_if_canceled
) -> list[RemovableHandle]:
    """Let every call of a module run ``check``, which may raise, between its repeated layers; return the hooks."""
    lists = [part for part in module.modules() if isinstance(part, nn.ModuleList)]
    return [layer.register_forward_pre_hook(lambda *_: check()) for layers in lists for layer in layers]


@contextmanager
def checking_between_layers(
    *modules: nn.Module, check: Callable[[], None] = stop_if_canceled
) -> Iterator[None]:
    """Let calls of the modules inside the block run ``check``, which may raise, between their repeated layers."""
    with ExitStack() as hooks:
        for module in modules:
            for hook in check_between_layers(module, check):
                hooks.enter_context(hook)
        yield

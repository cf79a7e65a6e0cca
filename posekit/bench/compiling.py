"""torch.compile for any method: the networks that its steps call, found by watching one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torchmetrics import Metric


def compile_called(module: nn.Module, run: Callable[[], Any], **options: Any) -> list[str]:
    """Compiles, in place, the outermost submodules that ``run`` calls; names in state dicts stay as they are.

    What a method does around its networks (targets, decoding, logging) stays eager: it is a small part of a step, and
    full of Python.

    Args:
        module: A method.
        run: Does one step with it.
        options: Of ``torch.compile``.

    Returns:
        The names of the compiled modules.
    """
    called = outermost_called(module, run)
    for part in called.values():
        part.compile(**options)
    return list(called)


@contextmanager
def compiled(module: nn.Module, run: Callable[[], Any], **options: Any) -> Iterator[list[str]]:
    """Compiles as :func:`compile_called` does, and takes it back at the end."""
    names = compile_called(module, run, **options)
    try:
        yield names
    finally:
        parts = dict(module.named_modules())
        for name in names:
            parts[name]._compiled_call_impl = None


def outermost_called(module: nn.Module, run: Callable[[], Any]) -> dict[str, nn.Module]:
    """Returns the submodules that ``run`` calls from outside any other submodule, by name.

    Those of torch's own classes are looked through: the compiler leaves their code alone where it begins with it.
    """
    found: dict[str, nn.Module] = {}
    inside: list[str] = []

    def watch(name: str, part: nn.Module) -> list[Any]:
        def enter(*_: Any) -> None:
            if not inside:
                found[name] = part
            inside.append(name)

        def leave(*_: Any) -> None:
            inside.pop()

        # `always_call`: an error inside must not leave the place wrong for the next call.
        return [
            part.register_forward_pre_hook(enter),
            part.register_forward_hook(leave, always_call=True),
        ]

    parts = {name: part for name, part in module.named_modules() if name and _is_own(part)}
    handles = [handle for name, part in parts.items() for handle in watch(name, part)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _is_own(part: nn.Module) -> bool:
    return not isinstance(part, Metric) and not type(part).__module__.startswith("torch.")

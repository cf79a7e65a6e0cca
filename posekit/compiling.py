"""torch.compile for any method: the networks that its steps call, found by watching one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torchmetrics import Metric, MetricCollection

from posekit.errors import UserError, one_of

_NUMBERS = count()  # of compiled modules


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
        compile_part(part, **options)
    return list(called)


def compile_part(part: nn.Module, **options: Any) -> None:
    """Compiles a module in place, of torch's own classes, too; names in state dicts stay as they are.

    ``part.compile()`` would begin in ``forward``, which the compiler leaves alone where it is torch's code, as that of
    ``nn.Sequential`` and of what derives from it.

    Args:
        part: The module. ``part._compiled_call_impl = None`` takes it back.
        options: Of ``torch.compile``.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return part._call_impl(*args, **kwargs)

    # Code of its own, by name too: the compiler counts by code how often it begins anew, and soon has enough; and it
    # remembers by name which sizes vary.
    code = call.__code__.replace(co_name=f"call_{next(_NUMBERS)}")
    own = FunctionType(code, call.__globals__, closure=call.__closure__)
    part._compiled_call_impl = torch.compile(own, **options)


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
    """Returns the submodules that ``run`` calls from outside any other submodule, by name."""
    with watching(module) as found:
        run()
    return found


@contextmanager
def watching(module: nn.Module, besides: Collection[str] = ()) -> Iterator[dict[str, nn.Module]]:
    """Collects, while it is open, the submodules that are called from outside any other submodule, by name.

    Those of torch's own classes are looked through where they hold others (``nn.Sequential`` of a method's blocks), and
    passed over where they have no parameters: an activation alone is not worth it. Metrics are left alone.

    Args:
        module: A method.
        besides: Names of submodules that are left alone, with all that is in them.
    """
    found: dict[str, nn.Module] = {}
    inside: list[str] = []

    def watch(name: str, part: nn.Module) -> list[Any]:
        def enter(*_: Any) -> None:
            # The backward pass calls what was not kept again, from outside of what it is in.
            if not inside and torch._C._current_graph_task_id() == -1:
                found[name] = part
            inside.append(name)

        def leave(*_: Any) -> None:
            inside.pop()

        # `always_call`: an error inside must not leave the place wrong for the next call.
        return [
            part.register_forward_pre_hook(enter),
            part.register_forward_hook(leave, always_call=True),
        ]

    parts = {name: part for name, part in module.named_modules() if name and _is_network(part)}
    metrics = [name for name, part in module.named_modules() if isinstance(part, (Metric, MetricCollection))]
    left_alone = tuple(f"{name}." for name in (*besides, *metrics))
    handles = [
        handle for name, part in parts.items() if not f"{name}.".startswith(left_alone) for handle in watch(name, part)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def check_compiler(backend: str, mode: str | None = None) -> None:
    """Refuses a back end or a mode that torch.compile does not have.

    Raises:
        UserError: It is so.
    """
    known = [name for name in torch.compiler.list_backends(exclude_tags=()) if not name.endswith("TESTING_ONLY")]
    one_of("backend of torch.compile", backend, known)
    if mode is None:
        return
    if backend != "inductor":
        raise UserError(f"mode {mode} of torch.compile is of the backend inductor alone, not of {backend}")
    one_of("mode of torch.compile", mode, _modes())


def _modes() -> list[str]:
    from torch._inductor import list_mode_options  # takes a second to import

    return list(list_mode_options())


def _is_network(part: nn.Module) -> bool:
    """Tells whether a module is of a class outside of torch, or of torch's alone and has parameters."""
    if _is_own(part):
        return True
    return not any(map(_is_own, part.modules())) and next(part.parameters(), None) is not None


def _is_own(part: nn.Module) -> bool:
    return not type(part).__module__.startswith("torch.")

"""CompileNetworks: torch.compile for the training of any method."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from posekit.compiling import check_compiler, compile_part, watching
from posekit.errors import counted


class CompileNetworks(Callback):
    """Compiles the networks that training steps call; they are found by watching steps.

    The steps are the first of each epoch, and of each :attr:`~posekit.PoseModule.phase` of a method. Compiled are
    networks, and losses that are modules; targets, metrics and decoding stay eager. A warning says where a step calls
    none. Names in checkpoints stay as they are, so a run may be resumed without it, and other runs with it; compiled
    arithmetic differs in the last bits.

    Args:
        backend: Of ``torch.compile``.
        mode: Of ``torch.compile``: ``default``, ``reduce-overhead``, ``max-autotune`` …
        dynamic: Whether one program serves all sizes; None lets the compiler find out.

    Raises:
        UserError: An unknown back end or mode.
    """

    def __init__(self, backend: str = "inductor", mode: str | None = None, dynamic: bool | None = None) -> None:
        check_compiler(backend, mode)
        self.options: dict[str, Any] = {"backend": backend, "mode": mode, "dynamic": dynamic}
        self.compiled: dict[str, nn.Module] = {}
        self._watch = ExitStack()
        self._called: dict[str, nn.Module] = {}
        self._due = False
        self._phase = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the first step be watched: a run resumed in the middle of an epoch does not start one."""
        self._due = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the next step be watched: methods may call other networks in another epoch."""
        self._due = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begins to watch."""
        phase = getattr(pl_module, "phase", "")
        self._due = self._due or phase != self._phase
        self._phase = phase
        if self._due:
            self._called = self._watch.enter_context(watching(pl_module, self.compiled))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compiles what was called, from the next step on."""
        if not self._due:
            return
        self._due = False
        self._watch.close()
        for part in self._called.values():
            compile_part(part, **self.options)
        if self._called:
            names = ", ".join(self._called)
            rank_zero_info(f"torch.compile: {counted(len(self._called), 'module')} from the next step on: {names}")
        elif not self.compiled:
            rank_zero_warn(
                f"torch.compile has nothing to compile: this step of {type(pl_module).__name__} calls no network"
            )
        self.compiled |= self._called

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stops watching, and gives the networks back."""
        self._watch.close()
        self._give_back()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the networks back as they were, e.g. for export."""
        self._give_back()

    def _give_back(self) -> None:
        for part in self.compiled.values():
            part._compiled_call_impl = None
        self.compiled = {}

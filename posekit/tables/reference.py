"""The paper's row for a config, shown beside what a validation or test measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posekit.configs import find_config, read_config
from posekit.data.datamodule import LINKED
from posekit.errors import UserError
from posekit.plugins import import_class
from posekit.signatures import defaults_of
from posekit.tables.reader import load_table, shipped_tables

# What may differ from the config, as the measured number's meaning stays: how it is trained, and where the files are.
_FREE = {
    "model": {
        "optimizer", "lr", "weight_decay", "schedule", "milestones", "lr_warmup_steps", "lr_peak", "init_from",
        "init_skip", "monitor", "attraction_maps", *LINKED,
    },
    "data": {
        "root", "batch_size", "val_batch_size", "num_workers", "seed", "pin_memory", "augment", "augmentation",
        "scene_augmentation", "verify_images", "train_annotations", "train_images",
    },
}  # fmt: skip
_LIMITS = ("limit_val_batches", "limit_test_batches")


def paper_numbers(config: str, run: Mapping[str, Any] | None = None) -> tuple[str, dict[str, float]] | None:
    """Finds the paper's numbers for runs of a shipped config.

    Args:
        config: Name of the config without folder and suffix, e.g. ``coco_w32_512``.
        run: What the run's config has become with the user's options: ``model`` and ``data`` with ``class_path`` and
            ``init_args``, and ``trainer``. None asks for the config as it is shipped.

    Returns:
        Where the numbers stand, and the numbers by metric (``val/AP``, or ``test/PA-MPJPE`` where the paper's are of
        the test split) in the metric's own unit; None where no table has a row for the config, or the run measures
        something else: another network, picture size, data or joints, or a part of the data.
    """
    for name in shipped_tables():
        try:
            spec = load_table(name, real=True)
        except UserError:
            continue  # a broken table is no reason to hide a result
        for row in spec.rows:
            if row.config is not None and row.config.rpartition("/")[2] == config and row.paper:
                if run is not None and not _belongs(run, read_config(find_config(row.config))):
                    return None
                # A column with options of its own is another setting than the config's.
                scales = {c.name: (c.metric, c.scale) for c in spec.columns if not c.overrides}
                numbers = {scales[c][0]: value / scales[c][1] for c, value in row.paper.items() if c in scales}
                return (f"{spec.source} ({row.name})", numbers) if numbers else None
    return None


def _belongs(run: Mapping[str, Any], shipped: Mapping[str, Any]) -> bool:
    """Tells whether a run measures what the shipped config does."""
    trainer = run.get("trainer") or {}
    # 1.0 is all batches, the number 1 is one.
    whole = all(trainer.get(key) is None or repr(trainer[key]) == "1.0" for key in _LIMITS)
    if not whole or trainer.get("fast_dev_run") or trainer.get("overfit_batches"):
        return False
    return all(_same_part(run[key], shipped[key], free) for key, free in _FREE.items())


def _same_part(run: Mapping[str, Any], shipped: Mapping[str, Any], free: set[str]) -> bool:
    """Compares a run's model or data with the config's: the class, and all arguments but the free ones."""
    if run["class_path"].rpartition(".")[2] != shipped["class_path"].rpartition(".")[2]:
        return False
    given, listed = run.get("init_args") or {}, shipped.get("init_args") or {}
    usual = defaults_of(import_class(run["class_path"]))
    return all(_same(given[name], listed.get(name, usual.get(name))) for name in given if name not in free)


def _same(value: Any, listed: Any) -> bool:
    """Compares an argument with the config's, of which nested ones may leave out what is usual."""
    if isinstance(value, Mapping) and isinstance(listed, Mapping):
        if "class_path" in value and "class_path" in listed:
            return _same_part(value, listed, _FREE["data"])
        return all(name in value and _same(value[name], listed[name]) for name in listed)
    return bool(_plain(value) == _plain(listed))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

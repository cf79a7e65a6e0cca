"""Writes the network of a checkpoint as shipped weights: NAME.safetensors and NAME.json beside it.

python docs/maintainers/export_weights.py runs/starter/version_0/checkpoints/last.ckpt starter \
        --made-by "posekit fit --config examples/hdm/starter.yaml" --warning "..." --results results.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import save_file

from posekit.module import read_checkpoint
from posekit.nn.shipped import ASSETS
from posekit.nn.weights import checksum

KEPT = ("skeleton", "image_size", "backbone", "backbone_options", "loss", "loss_options", "decoder", "mapping")


def main() -> None:
    """Reads the arguments and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("name")
    parser.add_argument("--made-by", required=True)
    parser.add_argument("--warning", required=True)
    parser.add_argument("--results", help="JSON of what was measured, and how")
    options = parser.parse_args()
    checkpoint = read_checkpoint(options.checkpoint)
    tensors = {k: v.contiguous() for k, v in checkpoint["state_dict"].items() if k.startswith("network.")}
    path = ASSETS / f"{options.name}.safetensors"
    save_file(tensors, path)
    hparams = checkpoint["hyper_parameters"]
    record = {
        "sha256": checksum(path),
        "model": {
            "class_path": checkpoint["posekit"]["class_path"],
            "init_args": {key: hparams[key] for key in KEPT if key in hparams},
        },
        "made_by": options.made_by,
        "warning": options.warning,
        "results": json.loads(Path(options.results).read_text()) if options.results else {},
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, sha256 {record['sha256']}")


if __name__ == "__main__":
    main()

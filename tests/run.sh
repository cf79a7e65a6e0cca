#!/usr/bin/env bash
# Lint, types, import contract, tests. Prints pytest's own closing line last.
set -euo pipefail
cd "$(dirname "$0")/.."
packages="posekit posekit_hdm posekit_logocap posekit_maed posekit_tip posekit_nlrd"
ruff check .
ruff format --check .
mypy
lint-imports
export OMP_NUM_THREADS=1
# shellcheck disable=SC2086
python -m pytest -n 2 --doctest-modules tests $packages "$@"

#!/usr/bin/env bash
# Lint, types, import contract, tests. Prints pytest's own closing line last.
set -euo pipefail
cd "$(dirname "$0")/.."
packages="posekit posekit_hdm posekit_logocap posekit_maed posekit_tip posekit_nlrd"
ruff check .
ruff format --check .
mypy
lint-imports
if python -c 'import material, mkdocstrings' 2>/dev/null; then NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet; fi
export OMP_NUM_THREADS=1
# shellcheck disable=SC2086
python -m pytest -n 2 --doctest-modules tests $packages "$@"

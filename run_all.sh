#!/usr/bin/env bash
# Runs the notebooks and writes outputs/<profile>/index.html. Prepares .venv first where it is absent.
#
#   ./run_all.sh [--profile demo|paper] [--only NAME]... [--jobs N] [--data-root DIR] [--force] [--grid full] [--wait]
#                [--device auto|cpu|cuda|mps] [--precision auto|float32|bfloat16] [--publish]
#
# --precision float32, or DIFCORE_PRECISION=float32, forces float32; left to itself it is bfloat16 where that is faster.
# --grid full runs the whole grids of the detection tables (params/grids/full.yml) instead of the profile's thin ones.
# --publish writes docs/gallery.md and a page per notebook from the outputs.
#
# DIFCORE_USE_ACTIVE_ENV=1 uses the active environment instead of .venv (see scripts/environment.sh).
# Relative paths (--data-root, DIFCORE_DATA, ...) are those of the folder that it is called from.
set -euo pipefail
caller="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh
case "$PYTHON" in /*) ;; *) PYTHON="$PWD/$PYTHON" ;; esac
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
cd "$caller"
exec "$PYTHON" -P -m difcore.cli run "$@"  # -P: no module of the caller's folder takes the place of another

#!/usr/bin/env bash
# Runs the notebooks and writes outputs/<profile>/index.html. Prepares .venv first where it is absent.
#
#   ./run_all.sh [--profile demo|paper] [--only NAME]... [--jobs N] [--data-root DIR] [--force] [--grid full]
#
# --grid full runs the whole grids of the detection tables (params/grids/full.yml) instead of the profile's thin ones.
#
# DIFCORE_USE_ACTIVE_ENV=1 uses the active environment instead of .venv (see scripts/environment.sh).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh
exec "$PYTHON" -m difcore.cli run "$@"

#!/usr/bin/env bash
# Lint, format check, types and tests. Prepares .venv first where it is absent.
#
#   ./run_tests.sh [--slow] [pytest arguments]
#
# --slow also runs the tests marked slow. Tests that open a browser need /usr/bin/chromium: it is installed with apt where
# that is possible (Debian, root), otherwise those tests skip; so is qemu-user, on x86_64, for one of the slow tests.
# DIFCORE_USE_ACTIVE_ENV=1 uses the active environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh

selection=()
if [ "${1:-}" = "--slow" ]; then
    shift
    selection=(-m "slow or not slow")
fi

missing=()
if ! command -v /usr/bin/chromium >/dev/null; then
    missing+=(chromium)
fi
if [ "${#selection[@]}" -gt 0 ] && [ "$(uname -m)" = "x86_64" ] && ! command -v qemu-x86_64 >/dev/null; then
    missing+=(qemu-user)
fi
if [ "${#missing[@]}" -gt 0 ] && [ "$(id -u)" = "0" ] && command -v apt-get >/dev/null; then
    echo "Installing ${missing[*]}" >&2
    log="$(mktemp)"
    if ! { timeout 120 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        echo "${missing[*]} could not be installed, the tests that need them will skip: $(tail -n 1 "$log")" >&2
    fi
    rm -f "$log"
fi

# A process a core, up to four, of one thread each: most tests are too small for two. Containers often show more cores
# than they lend. A file's tests stay in one process and share what it prepared.
workers="$("$PYTHON" -c 'import joblib; print(min(joblib.cpu_count(), 4))')"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy difcore
exec "$PYTHON" -m pytest -n "$workers" --dist loadfile ${selection[@]+"${selection[@]}"} "$@"

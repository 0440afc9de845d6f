#!/usr/bin/env bash
# Lint, format check, types and tests. Prepares .venv first where it is absent.
#
#   ./run_tests.sh [--slow] [pytest arguments]
#
# --slow also runs the tests marked slow. Tests that open a browser need /usr/bin/chromium: it is installed with apt where
# that is possible (Debian, root), otherwise those tests skip; so is qemu-user, for one of the slow tests. DIFCORE_USE_ACTIVE_ENV=1 uses the active environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh

selection=()
if [ "${1:-}" = "--slow" ]; then
    shift
    selection=(-m "slow or not slow")
fi

# install COMMAND PACKAGE WHAT_SKIPS_WITHOUT: with apt, where that is possible.
install() {
    if command -v "$1" >/dev/null || [ "$(id -u)" != "0" ] || ! command -v apt-get >/dev/null; then
        return
    fi
    echo "Installing $2" >&2
    log="$(mktemp)"
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 \
        apt-get install -y -qq --no-install-recommends "$2"; } >"$log" 2>&1; then
        echo "$2 could not be installed, $3 will skip: $(tail -n 1 "$log")" >&2
    fi
    rm -f "$log"
}
install /usr/bin/chromium chromium "browser tests"
if [ "${#selection[@]}" -gt 0 ]; then
    install qemu-x86_64 qemu-user "the test on an emulated processor"
fi

# As many threads as this process may use; containers often show more cores than they lend.
cores="$("$PYTHON" -c 'import joblib; print(joblib.cpu_count())')"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$cores}"

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy difcore
exec "$PYTHON" -m pytest ${selection[@]+"${selection[@]}"} "$@"

# Sourced by run_all.sh and run_tests.sh from the project's folder: leaves the interpreter to use in $PYTHON.
#
# Without anything set, .venv is created from requirements.lock when it is absent, and brought up to date when the lock
# or pyproject.toml changed since (their hash is kept in .venv/.lock-hash).
# DIFCORE_USE_ACTIVE_ENV=1   use the python on PATH (an active venv or conda environment) and install nothing
# PYTHON=/path/to/python     the interpreter that .venv is created with; default python3

inputs_hash() {
    "$1" -c 'import hashlib, pathlib, sys
print(hashlib.sha256(b"".join(pathlib.Path(p).read_bytes() for p in sys.argv[1:])).hexdigest())' \
        requirements.lock pyproject.toml
}

prepare_environment() {
    if [ "${DIFCORE_USE_ACTIVE_ENV:-0}" = "1" ]; then
        PYTHON="$(command -v python || command -v python3)"
        return
    fi
    local base="${PYTHON:-python3}" stamp=.venv/.lock-hash
    if [ ! -x .venv/bin/python ]; then
        if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "difcore needs Python 3.11 or later, found: $("$base" --version 2>&1 || true)." \
                "Name another with PYTHON=/path/to/python." >&2
            exit 2
        fi
        echo "Creating .venv with $("$base" --version)" >&2
        "$base" -m venv .venv
    fi
    PYTHON=.venv/bin/python
    local wanted
    wanted="$(inputs_hash "$PYTHON")"
    if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
        echo "Installing the versions of requirements.lock into .venv (minutes, the first time)" >&2
        # Compiled afterwards, on all cores; pip compiles on one.
        "$PYTHON" -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.lock >&2
        "$PYTHON" -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true  # some files are templates, not Python
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
        echo "$wanted" >"$stamp"
    fi
}

prepare_environment

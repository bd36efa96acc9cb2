#!/usr/bin/env bash
# Makes the virtual environment VENV with PYTHON, or repairs it, and installs the development requirements into it.
# Usage: tools/setup.sh PYTHON VENV
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
venv=$2

fail() {
    echo "setup: $1" >&2
    exit 1
}

can_make_venvs() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null
}

command -v "$python" >/dev/null || fail "$python is not installed; Python 3.11 or later is needed"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old; name a Python 3.11 or later: make test PYTHON=python3.11"

# A virtual environment needs ensurepip, which Debian and Ubuntu ship in a package of its own.
if ! can_make_venvs && [[ $EUID == 0 ]] && command -v apt-get >/dev/null; then
    apt-get update
    apt-get install --yes --no-install-recommends python3-venv
fi
can_make_venvs || fail "$python cannot make virtual environments; install the package python3-venv"

"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}
# The locked packages are installed first, so that the tests run with the packages of the container; they also satisfy
# the version ranges of requirements-dev.txt.
install --require-hashes --requirement requirements.lock
install --requirement requirements-dev.txt

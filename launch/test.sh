#!/usr/bin/env bash
# The tests on this machine, from nothing: makes .venv, installs, runs pytest. --all adds the slow ones;
# what follows goes to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
setup test
marks=()
if [ "${1:-}" = "--all" ]; then
  shift
  marks=(-m "slow or not slow")
fi
echo "Running the tests ..."
# ${marks[@]+...}: bash before 4.4 (macOS) calls an empty array unset.
exec "$venv/bin/python" -m pytest -n auto --dist worksteal ${marks[@]+"${marks[@]}"} "$@"

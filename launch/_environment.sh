# Sourced by local.sh and test.sh: makes .venv once, with what requirements.txt and pyproject.toml name.
# WSOL_PYTHON names another interpreter; WSOL_VENV another place.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${WSOL_VENV:-.venv}

fail() { echo "error: $*" >&2; exit 1; }

find_python() {
  local candidate
  for candidate in "${WSOL_PYTHON:-}" python3.12 python3.11 python3.13 python3 python; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
      >/dev/null 2>&1 && { echo "$candidate"; return; }
  done
  fail "Python 3.11 or newer with venv was not found (on Debian: apt-get install python3-venv); WSOL_PYTHON=/path/to/python names one."
}

# setup EXTRA: "" for a run, "test" for the tests. Does nothing the second time; what the tests need
# is enough for a run.
setup() {
  local extra=$1 python stamp
  stamp="$venv/.wsol_jax_$(cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)"
  # -x follows the link: a .venv whose Python has left the system is made again.
  if [ -x "$venv/bin/python" ]; then
    [ -f "${stamp}_test" ] && return
    [ -z "$extra" ] && [ -f "$stamp" ] && return
  fi
  python=$(find_python) || exit 1
  # A .venv without pip is what a stopped first start leaves.
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "Making $venv with $("$python" --version 2>&1) ..."
    "$python" -m venv "$venv" || fail "could not make $venv."
  fi
  echo "Installing into $venv: about 350 MB, a minute or two the first time ..."
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".${extra:+[$extra]}" \
    2> >(grep -v "^WARNING: Location" >&2) \
    || fail "pip could not install the requirements (see above); is there a network?"
  touch "$stamp${extra:+_$extra}"
}

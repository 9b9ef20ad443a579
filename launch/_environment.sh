# Sourced by the launchers: makes .venv once, with what requirements.txt and pyproject.toml name.
# WSOL_PYTHON names another interpreter; WSOL_VENV another place.
# shellcheck shell=bash
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
venv=${WSOL_VENV:-.venv}

say() { echo "$0: $*" >&2; }
fail() { echo "error: $*" >&2; exit 1; }

# A command as a line that a shell reads back.
quoted() {
  local word line=
  for word; do
    case $word in
      '' | *[!A-Za-z0-9_./:=,@%+-]*) word="'$(printf %s "$word" | sed "s/'/'\\\\''/g")'" ;;
    esac
    line="$line $word"
  done
  printf '%s\n' "${line# }"
}

# The lines of comment that begin a script are its help.
show_help() { sed -n '2,/^[^#]/{/^#SBATCH/d;s/^# \{0,1\}//p;}' "$1"; }

find_python() {
  local candidate
  for candidate in "${WSOL_PYTHON:-}" python3.12 python3.11 python3.13 python3 python; do
    if [ -z "$candidate" ] || ! command -v "$candidate" >/dev/null 2>&1; then continue; fi
    "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
      >/dev/null 2>&1 && { echo "$candidate"; return; }
  done
  fail "Python 3.11 or newer with venv was not found (on Debian: apt-get install python3-venv); WSOL_PYTHON=/path/to/python names one."
}

# setup EXTRA: one of pyproject.toml's, or "" for a run on CPUs. Does nothing the second time; an
# environment with any extra is enough for a run on CPUs.
setup() {
  local extra=$1 python stamp
  stamp="$venv/.wsol_jax_$(cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)"
  # -x follows the link: a .venv whose Python has left the system is made again.
  if [ -x "$venv/bin/python" ]; then
    [ -f "$stamp${extra:+_$extra}" ] && return
    [ -z "$extra" ] && compgen -G "${stamp}_*" >/dev/null && return
  fi
  python=$(find_python) || exit 1
  # A .venv without pip is what a stopped first start leaves.
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "Making $venv with $("$python" --version 2>&1) ..."
    "$python" -m venv "$venv" || fail "could not make $venv."
  fi
  local size="about 350 MB, a minute or two"
  case ,$extra, in *,cuda,*) size="about 3 GB, some minutes" ;; esac
  echo "Installing into $venv: $size the first time ..."
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".${extra:+[$extra]}" \
    2> >(grep -v "^WARNING: Location" >&2) \
    || fail "pip could not install the requirements (see above); is there a network?"
  touch "$stamp${extra:+_$extra}"
}

#!/usr/bin/env bash
# An export (--mode=export --out=DIR) as DIR/model.onnx: makes an environment of its own, .venv-onnx, since
# jax2onnx asks for another orbax-checkpoint than this package; converts; checks with onnxruntime.
#
#   ./launch/to_onnx.sh DIR
#
#   --opset=N   ONNX's version of operators
#   --dry_run   print what would be done, and do nothing
#   --help      this text
#
# WSOL_PYTHON names another interpreter; WSOL_ONNX_VENV another place. Paths are the caller's.
set -euo pipefail
caller=$PWD
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WSOL_VENV=${WSOL_ONNX_VENV:-$here/../.venv-onnx}
case $WSOL_VENV in /*) ;; *) WSOL_VENV=$caller/$WSOL_VENV ;; esac
source "$here/_environment.sh"

dry=0 words=()
for word; do
  case $word in
    --help | -h) show_help launch/to_onnx.sh; exit ;;
    --dry_run) dry=1 ;;
    *) words+=("$word") ;;
  esac
done
[ ${#words[@]} -gt 0 ] || fail "the export's folder is missing; ./launch/to_onnx.sh --help has an example."
command=(env "PYTHONPATH=$here/..${PYTHONPATH:+:$PYTHONPATH}" JAX_PLATFORMS=cpu
  "$venv/bin/python" "$here/_to_onnx.py" "${words[@]}")
if [ "$dry" = 1 ]; then
  echo "# makes $venv with jax2onnx and onnxruntime, if it is not there yet"
  quoted "${command[@]}"
  exit
fi
packages=("jax2onnx==0.17.1" "onnxruntime>=1.20,<2")
# Of this package's requirements, all that its networks import; not orbax-checkpoint.
while read -r line; do
  case $line in
    "" | \#* | orbax* | tensorflow-datasets* | array_record* | clu* | tensorboardX* | tqdm* | scikit-image* | numba*) ;;
    *) packages+=("$line") ;;
  esac
done < requirements.txt
stamp="$venv/.wsol_jax_$(printf '%s\n' "${packages[@]}" | cksum | cut -d' ' -f1)"
if [ ! -f "$stamp" ]; then
  python=$(find_python) || exit 1
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv "$venv" || fail "could not make $venv."
  echo "Installing jax2onnx and onnxruntime into $venv: about 400 MB, a minute or two the first time ..."
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" \
    2> >(grep -v "^WARNING: Location" >&2) \
    || fail "pip could not install the requirements (see above); is there a network?"
  touch "$stamp"
fi
cd "$caller"
exec "${command[@]}"

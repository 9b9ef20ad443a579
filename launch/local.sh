#!/usr/bin/env bash
# The main job on this machine, from nothing: makes .venv, installs, trains CAM and SPG on the embedded
# data set into runs/, and prints both side by side. Flags go to wsol_jax.main instead, e.g.
#   ./launch/local.sh --config=configs/spg.py:folder,root=photos,backbone=mobilenet_v2,weights=imagenet \
#     --workdir=runs/mine
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
setup ""
python="$venv/bin/python"
if [ $# -gt 0 ]; then
  exec "$python" -m wsol_jax.main "$@"
fi
for method in cam spg; do
  echo "=== $method on the embedded data set -> runs/${method}_embedded"
  "$python" -m wsol_jax.main --config="configs/$method.py:embedded" --workdir="runs/${method}_embedded"
done
"$python" -m wsol_jax.report runs/cam_embedded runs/spg_embedded --out=runs/embedded.html

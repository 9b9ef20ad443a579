#!/usr/bin/env bash
# A training on all NVIDIA GPUs of this machine: makes .venv with the extra [cuda], looks for the GPUs,
# and starts one process that uses them all.
#
#   ./launch/gpu.sh --config=configs/spg.py:folder,root=photos,backbone=mobilenet_v2 --workdir=runs/mine
#
#   --dry_run   print what would be done, and do nothing
#   --help      this text
#
# Every other flag goes to wsol_jax.main. CUDA_VISIBLE_DEVICES=0,1 takes these GPUs alone.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

dry=0
words=()
for word; do
  case $word in
    --help | -h) show_help launch/gpu.sh; exit ;;
    --dry_run) dry=1 ;;
    *) words+=("$word") ;;
  esac
done
[ ${#words[@]} -gt 0 ] || fail "--config and --workdir are missing; ./launch/gpu.sh --help has an example."

python="$venv/bin/python"
look='import jax; print(*(f"{gpu.device_kind} ({gpu.id})" for gpu in jax.devices("gpu")), sep=", ")'
if [ "$dry" = 1 ]; then
  echo "# makes $venv with the extra [cuda], if it is not there yet"
  quoted "$python" -c "$look"
  quoted "$python" -m wsol_jax.main "${words[@]}"
  exit
fi
command -v nvidia-smi >/dev/null 2>&1 \
  || fail "nvidia-smi was not found: this machine has no NVIDIA driver; ./launch/local.sh runs on CPUs."
setup cuda
gpus=$("$python" -c "$look" 2>&1) || fail "JAX finds no GPU (${gpus##*$'\n'})"
echo "GPUs: $gpus"
exec "$python" -m wsol_jax.main "${words[@]}"

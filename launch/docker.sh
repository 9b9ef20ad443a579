#!/usr/bin/env bash
# A training in a container: builds launch/Dockerfile's image, and runs it with this folder's files, as the
# user who calls it.
#
#   ./launch/docker.sh --config=configs/spg.py:folder,root=photos,backbone=mobilenet_v2 --workdir=runs/mine
#
#   --extra=cuda     an image for NVIDIA GPUs, and all of this machine's in the container; others of
#                    pyproject.toml's extras behind commas: --extra=cuda,gcs
#   --mount=FOLDER   a folder elsewhere that the container reads, at the same path; any number of times
#   --image=NAME     default: wsol_jax, or wsol_jax:EXTRA
#   --build          build the image and do nothing else
#   --dry_run        print what would be done, and do nothing
#   --help           this text
#
# Every other flag goes to wsol_jax.main. Paths are those of this machine, below this folder or a mount.
# docker stop -t 120 lets the run save.
set -euo pipefail
here=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

extra='' image='' only_build=0 dry=0 words=()
more=()
for word; do
  value=${word#*=}
  case $word in
    --extra=*) extra=$value ;;
    --mount=*) more+=(--volume "$value:$value:ro") ;;
    --image=*) image=$value ;;
    --build) only_build=1 ;;
    --dry_run) dry=1 ;;
    --help | -h) show_help launch/docker.sh; exit ;;
    *) words+=("$word") ;;
  esac
done
if [ ${#words[@]} = 0 ] && [ "$only_build" = 0 ]; then
  fail "--config and --workdir are missing; ./launch/docker.sh --help has an example."
fi
tag=${extra//,/-}  # --extra=cuda,gcs: a tag has no commas
image=${image:-wsol_jax${tag:+:$tag}}
case ,$extra, in *,cuda,*) more+=(--gpus all) ;; esac

act() {
  if [ "$dry" = 1 ]; then quoted "$@"; else "$@"; fi
}

[ "$dry" = 1 ] || command -v docker >/dev/null 2>&1 || fail "docker was not found."
act docker build --file launch/Dockerfile --tag "$image" --build-arg "EXTRA=$extra" .
[ "$only_build" = 0 ] || exit 0
# What the run draws, fetches and compiles stays for the next one.
act docker run --rm --init --shm-size=2g --user "$(id -u):$(id -g)" --volume "$here:$here" --workdir "$here" \
  --volume wsol_jax_cache:/cache ${more[@]+"${more[@]}"} "$image" "${words[@]}"

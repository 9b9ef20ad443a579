#!/usr/bin/env bash
# The part of tpu.sh that runs on each worker of a TPU:
#   setup EXTRA BUCKET MOUNT COMMAND   runs the command, mounts the bucket (where there are any), installs
#   run TRY ARGS...   starts wsol_jax.main, or attaches to it where it runs already, and ends as it ends; the
#                     same TRY never starts it twice
#   state             prints "runs", "ended STATUS" or "none"
#   log               prints the run's log as it grows
#   stop              SIGTERM: the run saves and ends with 143
# A run does not hang on the line that started it: gcloud starts a command again when its line breaks.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"
keeps=$HOME/.wsol_jax_run  # of the latest run: command, pid, log, status

# A pid means nothing after a restart of the machine.
boot() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo none; }

state() {
  local pid started
  if [ ! -f "$keeps/pid" ]; then
    echo none
  elif [ -f "$keeps/status" ]; then
    echo "ended $(cat "$keeps/status")"
  else
    read -r pid started <"$keeps/pid"
    if [ "$started" = "$(boot)" ] && kill -0 "$pid" 2>/dev/null; then echo runs; else echo none; fi
  fi
}

# Ubuntu's own Python is too old on most of the TPU's images: uv brings one.
find_or_fetch_python() {
  (find_python >/dev/null 2>&1) && return
  python3 -m pip install --quiet --user uv || fail "neither Python 3.11 or newer nor pip is here."
  python3 -m uv python install 3.12 || fail "uv could not fetch Python 3.12."
  WSOL_PYTHON=$(python3 -m uv python find 3.12)
  export WSOL_PYTHON
}

mount_bucket() {
  local bucket=${1#gs://} place=$2 source
  mountpoint -q "$place" && return
  if ! command -v gcsfuse >/dev/null 2>&1; then
    source="gcsfuse-$(lsb_release -cs)"
    curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg \
      | sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
    echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt $source main" \
      | sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    sudo apt-get update -qq
    sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcsfuse >/dev/null
  fi
  sudo mkdir -p "$place"
  sudo chown "$(id -u):$(id -g)" "$place"
  # What one worker writes, the others see at once; a checkpoint is a folder that is renamed when whole.
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --rename-dir-limit=100000 "$bucket" "$place"
}

setup_worker() {
  local extra=$1 bucket=$2 place=$3 command=$4
  [ -z "$command" ] || bash -c "$command"
  [ -z "$bucket" ] || mount_bucket "$bucket" "$place"
  find_or_fetch_python
  setup "$extra"
}

run() {
  local now pid words try=$1
  shift
  words=$(quoted "$@")
  now=$(state)
  if [ "$now" = runs ]; then
    [ "$words" = "$(cat "$keeps/command")" ] \
      || fail "$(hostname): another run is under way: $(cat "$keeps/command"); ./launch/tpu.sh stop ends it."
  elif [ "$now" = none ] || [ "$try" != "$(cat "$keeps/try")" ]; then
    rm -rf "$keeps"
    mkdir -p "$keeps"
    echo "$try" >"$keeps/try"
    echo "$words" >"$keeps/command"
    # shellcheck disable=SC2016  # the inner shell's words
    setsid bash -c '"$@"; echo $? >"$0/status"' "$keeps" "$venv/bin/python" -m wsol_jax.main "$@" \
      >"$keeps/log" 2>&1 </dev/null &
    echo "$! $(boot)" >"$keeps/pid"
  fi
  read -r pid _ <"$keeps/pid"
  # One worker's lines are enough; the others' are in their logs.
  case $(hostname) in
    *-w-[1-9]*) tail --pid="$pid" -f /dev/null ;;
    *) tail -n +1 --pid="$pid" -f "$keeps/log" ;;
  esac
  [ -f "$keeps/status" ] || fail "$(hostname): the run was killed."
  exit "$(cat "$keeps/status")"
}

stop() {
  local pid
  [ "$(state)" = runs ] || return 0
  read -r pid _ <"$keeps/pid"
  pkill -TERM -P "$pid"  # the child: the shell stays, and writes its status
}

command=$1
shift
case $command in
  setup) setup_worker "$@" ;;
  run) run "$@" ;;
  state) state ;;
  log) tail -n 100 -F "$keeps/log" ;;
  stop) stop ;;
  *) fail "$command: expected setup, run, state, log or stop." ;;
esac

#!/usr/bin/env bash
# A training on Cloud TPU VMs by gcloud: asks for the TPU as a queued resource, installs on all its
# workers, runs the same command on all of them, and goes on after a pre-emption.
#
#   ./launch/tpu.sh run    --name=NAME --zone=ZONE --type=v5litepod-16 --spot --bucket=gs://BUCKET \
#                          --config=configs/spg.py:ilsvrc,root=/mnt/bucket/ILSVRC --workdir=/mnt/bucket/runs/spg
#   ./launch/tpu.sh status --name=NAME --zone=ZONE    whether the TPU is there, and whether the run goes on
#   ./launch/tpu.sh logs   --name=NAME --zone=ZONE    the run's log as it grows; --worker=3: that one's
#   ./launch/tpu.sh stop   --name=NAME --zone=ZONE    SIGTERM to the run, which saves first
#   ./launch/tpu.sh delete --name=NAME --zone=ZONE    gives the TPU back; until then it costs
#
# The run does not end with this command: Ctrl-C leaves it, and the same command attaches to it again.
#
#   --name=NAME --zone=ZONE    of the TPU; --project=PROJECT where it is not gcloud's own
#   --type=TYPE                accelerator type, such as v5litepod-8, v5p-32, v6e-16, v4-32
#   --spot                     cheaper, and may be taken away; without it the TPU is on demand
#   --runtime_version=V        default: by the type
#   --valid_until=6h           stop waiting for a TPU after this long; default: wait for ever
#   --create_flag=FLAG         a further flag of gcloud's create, such as --create_flag=--network=mine
#   --bucket=gs://BUCKET       mounted with gcsfuse on all workers, at --mount=FOLDER (/mnt/bucket)
#   --setup=COMMAND            run on each worker first, such as a mount of a file server
#   --max_restarts=10          how often a run is started again after a pre-emption or a lost worker
#   --poll=30                  seconds between two looks at the TPU's state
#   --delete_when_done         give the TPU back when the run has ended well
#   --dry_run                  print what would be done, and do nothing
#   --help                     this text
#
# Every other flag goes to wsol_jax.main, with --coordinator_address=auto. The workdir must be one that all
# workers see: below the mount, or gs:// for a TPU of one machine.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

name='' zone='' type='' runtime='' spot=0 valid='' bucket='' place=/mnt/bucket prepare='' worker=0
most=10 poll=30 drop=0 dry=0
project=() create_flags=() words=()
case ${1:-} in
  '' | --help | -h) show_help launch/tpu.sh; exit ;;
  run | status | logs | stop | delete) command=$1; shift ;;
  *) fail "$1: expected run, status, logs, stop or delete; ./launch/tpu.sh --help has examples." ;;
esac
for word; do
  value=${word#*=}
  case $word in
    --name=*) name=$value ;;
    --zone=*) zone=$value ;;
    --project=*) project=("$word") ;;
    --type=*) type=$value ;;
    --runtime_version=*) runtime=$value ;;
    --spot) spot=1 ;;
    --valid_until=*) valid=$value ;;
    --create_flag=*) create_flags+=("$value") ;;
    --bucket=*) bucket=$value ;;
    --mount=*) place=$value ;;
    --setup=*) prepare=$value ;;
    --worker=*) worker=$value ;;
    --max_restarts=*) most=$value ;;
    --poll=*) poll=$value ;;
    --delete_when_done) drop=1 ;;
    --dry_run) dry=1 ;;
    --help | -h) show_help launch/tpu.sh; exit ;;
    *) words+=("$word") ;;
  esac
done
[ -n "$name" ] || fail "--name is missing: a name for the TPU."
[ -n "$zone" ] || fail "--zone is missing: where the TPU is, such as --zone=us-central1-a."
case :$most:$poll: in *::* | *[!0-9:]*) fail "--max_restarts=$most --poll=$poll: expected whole numbers." ;; esac
[ "$dry" = 1 ] || command -v gcloud >/dev/null 2>&1 \
  || fail "gcloud was not found: https://cloud.google.com/sdk/docs/install"
here=("--zone=$zone" ${project[@]+"${project[@]}"})
again="./launch/tpu.sh delete --name=$name ${here[*]}"

# Does it, or prints it.
act() {
  if [ "$dry" = 1 ]; then quoted "$@"; else "$@"; fi
}

queue() {  # queue VERB FLAGS...
  local verb=$1
  shift
  act gcloud compute tpus queued-resources "$verb" "$name" "${here[@]}" "$@"
}

ssh_to() {  # ssh_to WORKER COMMAND
  act gcloud compute tpus tpu-vm ssh "$name" "${here[@]}" "--worker=$1" "--command=$2"
}

on_worker() {  # on_worker WORKER WORDS...: a command of _tpu_worker.sh
  local which=$1
  shift
  ssh_to "$which" "bash wsol_jax/launch/_tpu_worker.sh $(quoted "$@")"
}

# A field of what gcloud describes; NONE where there is no such thing. A break of the network is no answer.
described() {  # described KIND FORMAT
  local answer tries
  for tries in 1 2 3 4 5; do
    if answer=$(gcloud compute tpus "$1" describe "$name" "${here[@]}" "--format=value($2)" 2>&1); then
      echo "${answer##*$'\n'}"
      return
    fi
    case $answer in *NOT_FOUND* | *"not found"*) echo NONE; return ;; esac
    [ "$tries" = 5 ] || sleep "$poll"
  done
  fail "gcloud does not say how $name is (${answer##*$'\n'}); what runs there runs on, and the same command attaches to it."
}

# none, waiting, ready, failed, or gone: taken away.
health() {
  local of_queue of_node
  of_queue=$(described queued-resources state.state) || exit 1
  case $of_queue in
    NONE) echo none ;;
    FAILED) echo failed ;;
    SUSPENDING | SUSPENDED | DELETING) echo gone ;;
    ACTIVE)
      of_node=$(described tpu-vm state) || exit 1
      case $of_node in
        READY) echo ready ;;
        NONE | PREEMPTED | TERMINATED | STOPPED | STOPPING | DELETING) echo gone ;;
        *) echo waiting ;;
      esac
      ;;
    *) echo waiting ;;
  esac
}

create() {
  [ -n "$type" ] || fail "$name does not exist yet, and --type is missing: such as --type=v5litepod-8."
  case ${runtime:-$type} in
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    v2-[0-9]* | v3-* | v4-*) runtime=tpu-ubuntu2204-base ;;
    *) [ -n "$runtime" ] || fail "--type=$type: name its image too, by --runtime_version." ;;
  esac
  local more=()
  [ "$spot" = 0 ] || more+=(--spot)
  [ -z "$valid" ] || more+=("--valid-until-duration=$valid")
  queue create "--node-id=$name" "--accelerator-type=$type" "--runtime-version=$runtime" \
    ${more[@]+"${more[@]}"} ${create_flags[@]+"${create_flags[@]}"}
}

# Returns when the TPU is ready; 1 when it was taken away meanwhile.
wait_until_ready() {
  local now before=''
  while :; do
    now=$(health) || exit 1
    case $now in
      ready) return 0 ;;
      gone | none) return 1 ;;
      failed) fail "$name was refused: $(described queued-resources state.failedData.error.message)" ;;
    esac
    [ "$now" = "$before" ] || say "waiting for $name ..."
    before=$now
    sleep "$poll"
  done
}

# What a run needs and nothing else, to all workers.
send() {
  local folder status=0
  folder=$(mktemp -d)
  act tar -czf "$folder/wsol_jax.tar.gz" --exclude=__pycache__ \
    wsol_jax configs launch pyproject.toml requirements.txt README.md \
    && act gcloud compute tpus tpu-vm scp "$folder/wsol_jax.tar.gz" "$name:" "${here[@]}" --worker=all \
    && ssh_to all "rm -rf wsol_jax/wsol_jax wsol_jax/configs && mkdir -p wsol_jax && tar -xzf wsol_jax.tar.gz -C wsol_jax" \
    || status=$?
  rm -rf "$folder"
  return $status
}

# The run as worker 0 knows it; "none" where it cannot be asked.
run_state() { on_worker 0 state 2>/dev/null | tail -n 1 | grep -E '^(runs|ended [0-9]+|none)$' || echo none; }

train() {  # train TRY
  if [ "$dry" = 1 ] || [ "$(run_state)" != runs ]; then
    send || return
    on_worker all setup "$extra" "$bucket" "$place" "$prepare" || return
  fi
  say "running on all workers of $name ..."
  on_worker all run "$1" "${words[@]}"
}

# After an end that was no good one: whether the TPU stays. A pre-emption shows some time after the run's end.
stays() {
  local looks now
  for looks in 1 2 3; do
    now=$(health) || exit 1
    case $now in gone | none | failed) return 1 ;; esac
    [ "$looks" = 3 ] || sleep "$poll"
  done
}

run() {
  local tries=0 status now word extra=tpu
  [ ${#words[@]} -gt 0 ] || fail "--config and --workdir are missing; ./launch/tpu.sh --help has an example."
  for word in "${words[@]}"; do
    case $word in
      --coordinator_address=*) now=given ;;
      *gs://*) extra=tpu,gcs ;;  # the run reads or writes the bucket itself
    esac
  done
  [ "${now:-}" = given ] || words+=(--coordinator_address=auto)
  if [ "$dry" = 1 ]; then
    create
    echo "# waits until it is ready"
    train "$$.1"
    [ "$drop" = 0 ] || queue delete --force --quiet
    return
  fi
  trap 'say "what runs on $name goes on; the same command attaches to it, stop ends it."; exit 130' INT
  while :; do
    now=$(health) || exit 1
    case $now in
      none) say "asking for $name ..."; create ;;
      gone | failed) say "$name is there no more: asking for it again ..."; queue delete --force --quiet; create ;;
    esac
    if wait_until_ready; then
      status=0
      train "$$.$tries" || status=$?
      [ "$status" != 0 ] || break
      if stays; then
        now=$(run_state)
        case $now in
          ended\ 0) now="lost its line" ;;  # to the other workers at least
          ended*) fail_with "${now#ended }" ;;
          runs) now="lost its line" ;;
          *) now="lost its workers" ;;
        esac
      else
        now="was pre-empted"
      fi
    else
      now="was pre-empted"
    fi
    tries=$((tries + 1))
    [ "$tries" -le "$most" ] || fail "$name $now; that was the last of --max_restarts=$most. $again"
    say "$name $now: starting again ($tries of $most) ..."
  done
  if [ "$drop" = 1 ]; then
    queue delete --force --quiet
  else
    say "done. $name is still there, and costs: $again"
  fi
}

fail_with() {
  say "the run ended with status $1. $name is still there, and costs: $again"
  exit "$1"
}

case $command in
  run) run ;;
  delete) queue delete --force --quiet ;;
  logs) on_worker "$worker" log ;;
  stop) on_worker all stop ;;
  status)
    if [ "$dry" = 1 ]; then
      queue describe "--format=value(state.state)"
      on_worker 0 state
    else
      now=$(health)
      [ "$now" != ready ] || now="ready, run: $(run_state)"
      echo "$name: $now"
    fi
    ;;
esac

"""tpu.sh, against a cloud that is a folder: states of the TPU, a home for each worker."""

import os
import re
import shlex
import signal
import time

import pytest
from helpers.launchers import Machine

GCLOUD = r"""
set -u
flag() {
  local word
  for word in "${@:2}"; do case $word in "$1="*) echo "${word#*=}" ;; esac; done
}
case "$3 $4" in
  "queued-resources describe")
    [ -f "$STATE/queue" ] || { echo "ERROR: NOT_FOUND: Resource was not found" >&2; exit 1; }
    case "$*" in *error.message*) echo "no quota"; exit ;; esac
    cat "$STATE/queue"
    # A TPU that was asked for is there at the second look.
    [ "$(cat "$STATE/queue")" != WAITING_FOR_RESOURCES ] || {
      echo "${BECOMES:-ACTIVE}" >"$STATE/queue"; echo READY >"$STATE/node"; } ;;
  "queued-resources create")
    [ ! -f "$STATE/queue" ] || { echo "ALREADY_EXISTS" >&2; exit 1; }
    echo WAITING_FOR_RESOURCES >"$STATE/queue"
    for worker in 0 1; do rm -rf "$STATE/worker$worker"; mkdir "$STATE/worker$worker"; done ;;
  "queued-resources delete") rm -f "$STATE/queue" "$STATE/node" ;;
  "tpu-vm describe") cat "$STATE/node" ;;
  "tpu-vm scp") for worker in 0 1; do cp "$5" "$STATE/worker$worker/"; done ;;
  "tpu-vm ssh")
    [ "$(cat "$STATE/node")" = READY ] || exit 255
    which=$(flag --worker "$@")
    [ "$which" != all ] || which="0 1"
    pids=()
    for worker in $which; do
      (cd "$STATE/worker$worker" && HOME=$PWD WORKER=$worker WSOL_VENV='' \
        bash -c "$(flag --command "$@")") &
      pids+=($!)
    done
    # The line breaks once, and gcloud starts the command again.
    if [ -f "$STATE/breaks" ] && [[ "$*" = *"_tpu_worker.sh run"* ]]; then
      rm "$STATE/breaks"
      sleep 1
      pkill -P "$(IFS=,; echo "${pids[*]}")" tail
      kill "${pids[@]}" 2>/dev/null
      wait
      exec "$0" "$@"
    fi
    status=0
    for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
    exit $status ;;
  *) echo "what is $*?" >&2; exit 9 ;;
esac
"""
HERE = ("--name=t", "--zone=z", "--poll=0")
FLAGS = ("--config=configs/cam.py:folder,root=/mnt/bucket/my photos", "--workdir=/mnt/bucket/it's")
CREATE = (*HERE, "--type=v5litepod-16", "--spot")


@pytest.fixture
def cloud(tmp_path):
    machine = Machine(tmp_path)
    machine.program("gcloud", GCLOUD)
    machine.program("hostname", 'echo "t1v-n-1-w-$WORKER"')
    for name in ("sudo", "gcsfuse"):
        machine.program(name)
    machine.program("mountpoint", "exit 1")
    return machine


def verbs(cloud):
    return [f"{w[3]} {w[4]}" for w in cloud.calls("gcloud") if w[4] != "describe"]


def test_a_run_from_nothing(cloud):
    cloud.main('echo "worker $WORKER trains"')
    done = cloud.run("tpu.sh", "run", *CREATE, "--bucket=gs://B", *FLAGS)
    assert done.returncode == 0, done.stderr
    assert verbs(cloud)[:2] == ["queued-resources create", "tpu-vm ssh"]
    (create,) = (w for w in cloud.calls("gcloud") if w[4] == "create")
    assert {"--zone=z", "--node-id=t", "--accelerator-type=v5litepod-16", "--spot"} <= {*create}
    assert "--runtime-version=v2-alpha-tpuv5-lite" in create
    expected = [*FLAGS, "--coordinator_address=auto"]
    assert cloud.trainings() == [expected, expected]
    assert ["-m", "pip"] in [w[1:3] for w in cloud.calls("python")]
    assert any("-e" in w and ".[tpu]" in w for w in cloud.calls("python"))
    assert [w[-2:] for w in cloud.calls("gcsfuse")] == [["B", "/mnt/bucket"]] * 2
    assert "worker 0 trains" in done.stdout
    assert "worker 1" not in done.stdout  # in its log
    assert "./launch/tpu.sh delete --name=t --zone=z" in done.stderr


def test_a_run_that_writes_to_a_bucket_itself(cloud):
    done = cloud.run("tpu.sh", "run", *CREATE, FLAGS[0], "--workdir=gs://b/r")
    assert done.returncode == 0, done.stderr
    assert any("-e" in w and ".[tpu,gcs]" in w for w in cloud.calls("python"))
    assert not cloud.calls("gcsfuse")


PREEMPTED_ONCE = """
echo "try" >>"$STATE/tries$WORKER"
if [ "$(wc -l <"$STATE/tries$WORKER")" = 1 ]; then
  sleep 0.5
  echo {queue} >"$STATE/queue"; echo {node} >"$STATE/node"
  exit {status}
fi
"""


@pytest.mark.parametrize(
    ("queue", "node", "status"),
    [("SUSPENDED", "PREEMPTED", 143), ("ACTIVE", "PREEMPTED", 2), ("SUSPENDING", "READY", 2)],
)
def test_a_pre_emption(cloud, queue, node, status):
    cloud.main(PREEMPTED_ONCE.format(queue=queue, node=node, status=status))
    done = cloud.run("tpu.sh", "run", *CREATE, *FLAGS)
    assert done.returncode == 0, done.stderr
    assert [v for v in verbs(cloud) if "queued" in v] == [
        "queued-resources create",
        "queued-resources delete",
        "queued-resources create",
    ]
    assert "t was pre-empted: starting again (1 of 10)" in done.stderr
    assert len(cloud.trainings()) == 4
    assert len({tuple(words) for words in cloud.trainings()}) == 1


def test_pre_emptions_are_bounded(cloud):
    cloud.main('sleep 0.2; echo SUSPENDED >"$STATE/queue"; echo PREEMPTED >"$STATE/node"; exit 143')
    done = cloud.run("tpu.sh", "run", *CREATE, "--max_restarts=2", *FLAGS)
    assert done.returncode == 1
    assert "the last of --max_restarts=2" in done.stderr.splitlines()[-1]
    assert verbs(cloud).count("queued-resources create") == 3


@pytest.mark.parametrize("status", [1, 2, 143])
def test_a_run_that_fails_is_not_started_again(cloud, status):
    cloud.main(f'echo "error: no photos" >&2; exit {status}')
    done = cloud.run("tpu.sh", "run", *CREATE, *FLAGS)
    assert done.returncode == status
    assert "error: no photos" in done.stdout
    assert len(cloud.trainings()) == 2
    assert f"the run ended with status {status}" in done.stderr


def test_a_broken_line_does_not_start_the_run_twice(cloud):
    (cloud.state / "breaks").touch()
    cloud.main('sleep 3; echo "worker $WORKER has ended"')
    done = cloud.run("tpu.sh", "run", *CREATE, *FLAGS)
    assert done.returncode == 0, done.stderr
    assert "worker 0 has ended" in done.stdout
    assert not (cloud.state / "breaks").exists()
    assert len(cloud.trainings()) == 2


def test_a_run_is_left_attached_to_and_stopped(cloud):
    cloud.main("trap 'echo saved; exit 143' TERM; touch $STATE/on$WORKER; sleep 60 & wait; wait")
    first = cloud.start("tpu.sh", "run", *CREATE, *FLAGS)
    while not all((cloud.state / f"on{worker}").exists() for worker in (0, 1)):
        assert first.poll() is None
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)  # Ctrl-C
    text = first.communicate(timeout=60)[1]
    assert first.returncode == 130
    assert "goes on; the same command attaches to it" in text
    assert "t: ready, run: runs" in cloud.run("tpu.sh", "status", *HERE).stdout
    other = cloud.run("tpu.sh", "run", *CREATE, "--max_restarts=0", "--workdir=/other")
    assert "another run is under way" in other.stderr

    second = cloud.start("tpu.sh", "run", *CREATE, *FLAGS)
    time.sleep(1)
    assert cloud.run("tpu.sh", "stop", *HERE).returncode == 0
    out, text = second.communicate(timeout=60)
    assert second.returncode == 143, text
    assert "saved" in out
    assert len(cloud.trainings()) == 2
    assert "t: ready, run: ended 143" in cloud.run("tpu.sh", "status", *HERE).stdout
    assert cloud.run("tpu.sh", "delete", *HERE).returncode == 0
    assert cloud.run("tpu.sh", "status", *HERE).stdout == "t: none\n"


def test_a_refused_request_says_why(cloud):
    done = cloud.run("tpu.sh", "run", *CREATE, *FLAGS, BECOMES="FAILED")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: t was refused: no quota"
    assert not cloud.trainings()


def test_a_tpu_that_failed_before_is_asked_for_again(cloud):
    (cloud.state / "queue").write_text("FAILED\n")
    done = cloud.run("tpu.sh", "run", *CREATE, *FLAGS, "--delete_when_done")
    assert done.returncode == 0, done.stderr
    assert [v for v in verbs(cloud) if "queued" in v] == [
        f"queued-resources {verb}" for verb in ("delete", "create", "delete")
    ]


def test_dry_run_prints_the_commands_and_does_nothing(cloud):
    done = cloud.run("tpu.sh", "run", *CREATE, *FLAGS, "--create_flag=--network=n", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert not cloud.calls()
    lines = [shlex.split(line) for line in done.stdout.splitlines() if not line.startswith("#")]
    assert [words[:5] for words in lines if words[0] == "gcloud"] == [
        ["gcloud", "compute", "tpus", *rest]
        for rest in (
            ("queued-resources", "create"),
            ("tpu-vm", "scp"),
            *[("tpu-vm", "ssh")] * 3,
        )
    ]
    assert "--network=n" in lines[0]
    (command,) = (w for w in lines[-1] if w.startswith("--command="))
    assert shlex.split(command.partition("=")[2])[-3:] == [*FLAGS, "--coordinator_address=auto"]


@pytest.mark.parametrize("command", ["status", "logs", "stop", "delete"])
def test_the_other_commands_have_a_dry_run(cloud, command):
    done = cloud.run("tpu.sh", command, *HERE, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert not cloud.calls()
    assert done.stdout.startswith("gcloud compute tpus ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train"], "train: expected run, status"),
        (["run", "--zone=z", *FLAGS], "--name is missing"),
        (["run", "--name=t", *FLAGS], "--zone is missing"),
        (["run", *CREATE], "--config and --workdir are missing"),
        (["run", *HERE, *FLAGS], "--type is missing"),
        (["run", *HERE, "--type=v9-8", *FLAGS], "--runtime_version"),
        (["run", *CREATE, "--max_restarts=many", *FLAGS], "whole numbers"),
    ],
)
def test_a_mistake_is_one_sentence(cloud, words, expected):
    done = cloud.run("tpu.sh", *words)
    assert done.returncode == 1
    assert expected in done.stderr.splitlines()[-1]
    assert re.match("error: ", done.stderr.splitlines()[-1])
    assert "queued-resources create" not in verbs(cloud)


def test_without_gcloud(cloud):
    (cloud.bin / "gcloud").unlink()
    # Where the machine has the real one, it is out of sight.
    done = cloud.run("tpu.sh", "status", *HERE, PATH=f"{cloud.bin}:{_few(cloud)}")
    assert "error: gcloud was not found" in done.stderr


def _few(cloud):
    folder = cloud.folder / "few"
    folder.mkdir()
    for name in ("bash", "dirname", "sed", "cat"):
        (folder / name).symlink_to(f"/bin/{name}")
    return folder

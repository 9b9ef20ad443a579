"""slurm.sbatch, against programs that stand for Slurm's; and two real processes by SLURM_*."""

import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest
import tiny
from helpers.launchers import ROOT, Machine, environment_without

# As the real one: a SIGTERM to srun itself kills its tasks, with no time to save.
SRUN = r"""
while [ "${1#--}" != "$1" ]; do shift; done
SLURM_PROCID=0 "$@" &
echo $! >"$STATE/task"
trap 'kill -KILL $(cat "$STATE/task"); exit 137' TERM
wait $!
"""
FLAGS = ("--config=configs/cam.py:folder,root=my photos", "--workdir=runs/it's=a,b")
SAVES = """
trap 'touch "$STATE/saved"; exit 143' TERM
touch "$STATE/on"
for i in {1..600}; do sleep 0.1; done
"""


@pytest.fixture
def cluster(tmp_path):
    machine = Machine(tmp_path)
    machine.program("srun", SRUN)
    machine.program("scancel", 'kill -TERM "$(cat "$STATE/task")"')
    machine.program("squeue", 'cat "$STATE/job"')
    machine.program("scontrol")
    (machine.state / "job").write_text("RUNNING\n")
    machine.environment |= {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(ROOT)}
    return machine


def told_to_stop(cluster, *words, **environment):
    """The job, sent a SIGTERM as Slurm sends it before the job's end: to the script alone."""
    job = cluster.start("slurm.sbatch", *FLAGS, *words, **environment)
    try:
        while not (cluster.state / "on").exists():
            assert job.poll() is None, job.communicate()
            time.sleep(0.02)
        job.send_signal(signal.SIGTERM)
        out, err = job.communicate(timeout=60)
    finally:
        job.kill()
    return job.returncode, out + err


def test_a_job_that_ends_well(cluster):
    done = cluster.run("slurm.sbatch", *FLAGS)
    assert done.returncode == 0, done.stderr
    assert cluster.trainings() == [[*FLAGS, "--coordinator_address=auto"]]
    assert not cluster.calls("scontrol")
    assert any(w[-2:] == ["-e", "."] for w in cluster.calls("python"))


def test_a_sigterm_is_saved_and_the_job_goes_back_into_the_queue(cluster):
    cluster.main(SAVES)
    status, text = told_to_stop(cluster)
    assert status == 143, text
    assert (cluster.state / "saved").exists()
    assert cluster.calls("scancel") == [["scancel", "--signal=TERM", "7"]]
    assert cluster.calls("scontrol") == [["scontrol", "requeue", "7"]]
    assert "restart 1 of 100" in text


def test_slurms_own_sigterm_to_the_tasks_does_the_same(cluster):
    cluster.main("exit 143")
    done = cluster.run("slurm.sbatch", *FLAGS, SLURM_RESTART_COUNT="3")
    assert done.returncode == 143
    assert cluster.calls("scontrol") == [["scontrol", "requeue", "7"]]
    assert "restart 4 of 100" in done.stderr


@pytest.mark.parametrize("status", [1, 2, 137])
def test_a_job_that_fails_stays_out_of_the_queue(cluster, status):
    cluster.main(f"exit {status}")
    assert cluster.run("slurm.sbatch", *FLAGS).returncode == status
    assert not cluster.calls("scontrol")


def test_a_job_that_ends_well_in_spite_of_a_sigterm(cluster):
    cluster.main(SAVES.replace("exit 143", "exit 0"))
    status, _ = told_to_stop(cluster)
    assert status == 0
    assert not cluster.calls("scontrol")


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", ""])
def test_a_cancelled_job_stays_cancelled(cluster, state):
    (cluster.state / "job").write_text(f"{state}\n")
    cluster.main(SAVES)
    status, _ = told_to_stop(cluster)
    assert status == 143
    assert not cluster.calls("scontrol")


def test_restarts_are_bounded(cluster):
    cluster.main(SAVES)
    status, text = told_to_stop(cluster, "--max_restarts=2", SLURM_RESTART_COUNT="2")
    assert status == 1
    assert "the last of --max_restarts=2" in text
    assert not cluster.calls("scontrol")


def test_a_node_with_gpus_gets_cuda(cluster):
    cluster.program("nvidia-smi")
    assert cluster.run("slurm.sbatch", *FLAGS).returncode == 0
    assert any(w[-2:] == ["-e", ".[cuda]"] for w in cluster.calls("python"))
    cluster.run("slurm.sbatch", *FLAGS, "--extra=")
    assert not any(w[-2:] == ["-e", "."] for w in cluster.calls("python"))  # cuda's is enough


def test_dry_run_needs_no_slurm(cluster):
    done = cluster.run("slurm.sbatch", *FLAGS, "--dry_run", SLURM_JOB_ID="")
    assert done.returncode == 0, done.stderr
    assert not cluster.calls()
    (step,) = (line for line in done.stdout.splitlines() if line.startswith("srun"))
    assert shlex.split(step)[-3:] == [*FLAGS, "--coordinator_address=auto"]
    assert "scontrol requeue JOB" in done.stdout


def test_what_slurm_reads():
    lines = (ROOT / "launch/slurm.sbatch").read_text().splitlines()
    directives = {line.split()[1] for line in lines if line.startswith("#SBATCH ")}
    assert {"--signal=B:TERM@120", "--requeue", "--ntasks-per-node=1"} <= directives
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])  # sbatch stops there


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ([], {}, "--config and --workdir are missing"),
        (["--max_restarts=x", *FLAGS], {}, "--max_restarts=x"),
        (FLAGS, {"SLURM_JOB_ID": ""}, "this is no Slurm job"),
        (FLAGS, {"SLURM_SUBMIT_DIR": "/"}, "/ is no clone of wsol_jax"),
    ],
)
def test_a_mistake_is_one_sentence(cluster, words, environment, expected):
    done = cluster.run("slurm.sbatch", *words, **environment)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert not cluster.trainings()


@pytest.mark.slow
def test_two_processes_find_each_other_by_slurm(tmp_path):
    """--coordinator_address=auto, by what srun sets; the figures are those of one process."""
    words = ["--config=configs/cam.py:embedded,epochs=0.2", "--config.eval.gallery=2"]
    alone = tiny.run_command([*words, f"--workdir={tmp_path / 'alone'}"], timeout=900)
    assert alone.returncode == 0, alone.stderr
    with socket.socket() as found:  # JAX takes a job's port from its id
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    tasks = [
        subprocess.Popen(
            [sys.executable, "-m", "wsol_jax.main", *words, f"--workdir={tmp_path / 'both'}"]
            + ["--coordinator_address=auto"],
            cwd=ROOT,
            env={
                **environment_without("JAX_COORD", "JAX_NUM", "JAX_PROC", "SLURM_"),
                **_step(index),
                "JAX_COORDINATOR_PORT": str(port),
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    errors = [task.communicate(timeout=900)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], "\n".join(errors)
    for index, text in enumerate(errors):
        assert f"process {index} of 2" in text
    one, two = (tiny.metrics(tmp_path / name) for name in ("alone", "both"))
    for split in ("tune", "test"):
        figures = {k: v for k, v in one[split][split].items() if isinstance(v, float)}
        assert len(figures) > 5
        for name, value in figures.items():
            assert two[split][split][name] == pytest.approx(value, abs=0.01), name


def _step(index):
    """What srun sets for a task of two on this machine."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
    }

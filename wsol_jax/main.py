"""Trains, scores and uses a run: --mode, and what it needs.

python -m wsol_jax.main --config=configs/spg.py:embedded --workdir=runs/spg
python -m wsol_jax.main --mode=evaluate --workdir=runs/spg
python -m wsol_jax.main --mode=predict --workdir=runs/spg --images=photos --out=boxes
python -m wsol_jax.main --mode=export --workdir=runs/spg --out=exported
python -m wsol_jax.main --mode=describe --config=configs/spg.py --workdir=W
python -m wsol_jax.main --mode=describe --config=configs/spg.py --workdir=W --topology=v5e:4x4
python -m wsol_jax.main --mode=check_data --config=configs/cam.py:folder,root=photos --out=look

--config=configs/METHOD.py:DATASET,key=value,...
  METHOD   cam, spg, cams2i, two_phase, sec, ccnn, hide_and_seek or mcof; the first lines of its
           file have its commands, how long they take, and what to expect
  DATASET  embedded (drawn on first use), folder (your photos), cub, ilsvrc or voc
  key      of the data: root, train, tune, test, boxes, masks, coco, labels, layout, multi_label,
           strict, parts; of the network: backbone, weights, width, output_stride; of the training:
           size, batch, accumulate, epochs, lr, seed, dtype, recipe

Every other field is a flag, such as --config.optimizer.momentum=0.8: configs/common.py lists them
with their meaning. python -m wsol_jax prints what else there is to do, README.md has the layouts.
"""

import re
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags

from wsol_jax.api import configs
from wsol_jax.base import commands, ends, fields
from wsol_jax.base.errors import Interrupted, UserError
from wsol_jax.base.types import Config

MODES = ("train_and_evaluate", "evaluate", "predict", "export", "describe", "check_data")

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File and data set: configs/spg.py:voc,root=...", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, or its URL: checkpoints, figures, report."
)
_MODE = flags.DEFINE_enum("mode", "train_and_evaluate", MODES, "What to do.")
_STAGES = flags.DEFINE_list("stages", [], "A part of a run in stages: --stages=second,evaluate.")
_IMAGES = flags.DEFINE_string("images", None, "predict: a folder of photos, or one photo.")
_OUT = flags.DEFINE_string(
    "out",
    None,
    "predict: where boxes, heat maps and overlays go. export: where the network goes. check_data: "
    "where its page goes.",
)
_THRESHOLD = flags.DEFINE_float("threshold", None, "predict: of the boxes; default: the run's.")
_BOXES = flags.DEFINE_enum("boxes", "largest", ("largest", "all"), "predict: of each class.")
_MIN_SCORE = flags.DEFINE_float(
    "min_score",
    None,
    "predict: the least probability of a class that is in the photo; default 0.5 where an image "
    "may have several, else 0.",
)
_CLASSES = flags.DEFINE_list("classes", [], "predict: these alone: --classes=cat,dog.")
_VOC_SERVER = flags.DEFINE_string(
    "voc_server",
    "",
    "predict: comp6 or comp5: of the VOC folder --images, the list test's masks as VOC's "
    "evaluation server takes them.",
)
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    None,
    ("best", "latest"),
    "predict, export: which; default: as the run was scored.",
)
_TOPOLOGY = flags.DEFINE_string(
    "topology",
    "",
    "describe: the step on hardware that is not here, v5e:4x4 or h100:8; pip install "
    "'wsol_jax[aot]' brings what compiles for it.",
)
_FIT = flags.DEFINE_bool("fit", False, "describe: the largest batch that a chip of it holds.")
_ADDRESS = flags.DEFINE_string(
    "coordinator_address", "", "host:port of process 0, or 'auto' under Slurm and on TPU VMs."
)
_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many processes share the run.")
_INDEX = flags.DEFINE_integer("process_id", -1, "This process's index, from 0.")


def _need(flag: flags.FlagHolder, what: str) -> str:
    if not flag.value:
        raise UserError(f"--{flag.name} is missing: {what}.")
    return flag.value


def _set_up_jax() -> None:
    import jax

    from wsol_jax.base import processes, sharding
    from wsol_jax.runs import mirror, workdirs

    if _TOPOLOGY.value and not jax.config.jax_platforms:  # nothing of it runs on devices here
        jax.config.update("jax_platforms", "cpu")
    sharding.keep_compiled_programs()
    sharding.start_distributed(_ADDRESS.value, _PROCESSES.value, _INDEX.value)
    processes.watch(lambda: workdirs.kept(mirror.place(_WORKDIR.value or ".")))
    logging.info("process %d of %d", jax.process_index(), jax.process_count())
    kinds = {device.device_kind for device in jax.devices()}
    logging.info("%d device(s): %s", jax.device_count(), ", ".join(sorted(kinds)))


def _given_config() -> Config:
    """The config of the flags, checked."""
    if _CONFIG.value is None:
        raise UserError("--config is missing: name a file, e.g. --config=configs/spg.py:embedded")
    config = _CONFIG.value
    configs.check_overrides(
        config_flags.get_override_values(flags.FLAGS["config"]), config.get("early", ())
    )
    fields.check(config)
    return config


def _check_modes(mode: str) -> None:
    """Raises UserError for flags of another mode than the one that is asked for."""
    of_predict = (_THRESHOLD, _BOXES, _MIN_SCORE, _CLASSES, _VOC_SERVER)
    flags_of = {
        ("predict",): of_predict,
        ("predict", "export"): (_CHECKPOINT,),
        ("describe",): (_TOPOLOGY, _FIT),
    }
    for modes, given in flags_of.items():
        for flag in given:
            if flag.present and mode not in modes:
                where = " and ".join(f"--mode={name}" for name in modes)
                raise UserError(f"--{flag.name} goes with {where}.")
    if _FIT.value and not _TOPOLOGY.value:
        raise UserError("--fit goes with --topology, such as v5e:2x2.")
    if _STAGES.value and mode not in ("train_and_evaluate", "describe"):
        raise UserError(f"--stages goes with training, not with --mode={mode}.")


def _predict() -> None:
    from wsol_jax.api import predict
    from wsol_jax.base import fetched, outputs
    from wsol_jax.runs import mirror

    workdir = _need(_WORKDIR, "the folder of a trained run")
    images = _need(_IMAGES, "a folder of photos, or one photo")
    out = _need(_OUT, "the folder for boxes, heat maps and overlays")
    _set_up_jax()
    with outputs.to_folder("--out", out) as folder:
        predict.predict(
            mirror.read(workdir, choose=mirror.network_alone),
            fetched.local(images, f"--images={images}", folder=None),
            folder,
            threshold=_THRESHOLD.value,
            boxes=_BOXES.value,
            min_score=_MIN_SCORE.value,
            classes=_CLASSES.value,
            checkpoint=_CHECKPOINT.value or "",
            voc_server=_VOC_SERVER.value,
        )


def _export() -> None:
    from wsol_jax.api import export
    from wsol_jax.base import outputs
    from wsol_jax.runs import mirror

    workdir = _need(_WORKDIR, "the folder of a trained run")
    out = _need(_OUT, "the folder for the network")
    _set_up_jax()
    with outputs.to_folder("--out", out) as folder:
        run = mirror.read(workdir, choose=mirror.network_alone)
        export.export(run, folder, _CHECKPOINT.value or "")


def _dispatch() -> None:
    from wsol_jax.base import outputs

    mode = _MODE.value
    _check_modes(mode)
    if mode == "predict":
        _predict()
        return
    if mode == "export":
        _export()
        return
    if mode == "check_data":
        from wsol_jax.report import check_data

        config = _given_config()
        with outputs.to_folder("--out", _OUT.value or _WORKDIR.value) as folder:
            check_data.check_data(config, folder)
        return
    workdir = _need(_WORKDIR, "the folder that the run is written to")
    again = mode == "evaluate" and _CONFIG.value is None
    config = None if again else _given_config()
    if _STAGES.value and not config.stages:
        raise UserError("--stages: this config's run has one stage; configs/two_phase.py has more.")
    if mode == "describe":
        from wsol_jax.stages import describe

        _set_up_jax()
        with outputs.to_folder("--workdir", workdir) as folder:
            describe.describe(config, folder, _TOPOLOGY.value, _FIT.value, _STAGES.value)
        return
    _train_or_evaluate(config, workdir, mode)


def _train_or_evaluate(config: Config | None, workdir: str, mode: str) -> None:
    """``config``: None for the run's own."""
    from wsol_jax.base import remote
    from wsol_jax.runs import mirror, workdirs

    if config is None and not remote.is_url(workdir):  # told before a device is looked for
        config, _ = workdirs.load_to_run(mirror.place(workdir))
    _set_up_jax()
    with mirror.opened(workdir) as folder:
        if config is None:
            config, _ = workdirs.load_to_run(folder)
        if mode == "evaluate" and not config.stages:
            from wsol_jax.stages.evaluate import evaluate_workdir

            evaluate_workdir(config, folder)
        else:
            from wsol_jax.api.train import train_config

            train_config(config, folder, ("evaluate",) if mode == "evaluate" else _STAGES.value)


def _main(argv: list[str]) -> int:
    if len(argv) > 1:
        print(f"error: {argv[1]!r} is no flag; flags read --name=value.", file=sys.stderr)
        return 2
    sys.unraisablehook = ends.report_unraisable
    logging.set_verbosity(logging.INFO)
    # Orbax and grain tell every rename at INFO; a run's own lines would drown.
    logging.get_absl_handler().addFilter(ends.is_ours)
    commands.clean_logs()
    from wsol_jax.base import processes

    try:
        _dispatch()
        processes.leave()
        processes.close()
        return 0
    except Interrupted as stop:
        print(str(stop), file=sys.stderr)
        processes.leave()  # they were told to stop at the same step
        status = 128 + stop.signum
    except (Exception, KeyboardInterrupt) as error:
        processes.wait_for_cause(error)
        status = ends.status(error, _WORKDIR.value)
        if status is None:  # a defect, whose traceback is wanted
            traceback.print_exc()
            status = 1
        processes.tell(error)
    processes.end(status)
    return status


def _parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with a config's mistakes as one sentence."""
    path = next((w.partition("=")[2] for w in argv if re.match("--?config=", w)), "")
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _ = _CONFIG.value.method  # a file that could not be loaded says so when it is used
        return rest
    except ends.OF_FLAGS as error:
        sys.exit(commands.fail(ends.sentence(error, path)))


def run() -> None:
    """The command's entry point."""
    app.run(_main, flags_parser=_parse_flags)


if __name__ == "__main__":
    run()

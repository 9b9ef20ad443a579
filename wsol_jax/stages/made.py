"""What the stages of a run have left: networks, labels, and what each was made of."""

import dataclasses
import pathlib
from collections.abc import Mapping

from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data.lists import Lists
from wsol_jax.data.pseudo_labels import LabelFolder, parse_labels
from wsol_jax.methods import Labeller, Variables
from wsol_jax.runs import workdirs
from wsol_jax.runs.opened import OpenedRun, open_run
from wsol_jax.runs.plan import Plan
from wsol_jax.runs.state import fingerprint
from wsol_jax.stages import label, product
from wsol_jax.stages.product import own_network
from wsol_jax.stages.sections import networks_of, stage_config


@dataclasses.dataclass(frozen=True)
class Made:
    """What the stages of one run have left.

    ``opened``: the networks at hand, by stage and checkpoint choice; ``checked``: hashes of labels
    that were found to be what this config makes.
    """

    config: Config
    workdir: pathlib.Path
    lists: Lists
    labellers: Mapping[str, Labeller]
    opened: dict[tuple[str, str], OpenedRun] = dataclasses.field(default_factory=dict)
    checked: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def folders(self) -> dict[str, LabelFolder]:
        """Of the label stages, done or not."""
        places = {name: self.workdir / name for name in self.labellers}
        return {name: LabelFolder(x, self.labellers[name].products) for name, x in places.items()}

    def open(self, name: str, choice: str = "") -> OpenedRun:
        """A finished stage's network; ``choice``: of its checkpoints, "" is eval.checkpoint."""
        config = stage_config(self.config, name)
        choice = choice or config.eval.checkpoint
        if (name, choice) not in self.opened:
            folder, run = self.workdir / name, None
            with config.unlocked():
                config.eval.checkpoint = choice
            if workdirs.has_checkpoint(folder):
                run = open_run(config, folder, lists=self.lists)
            mesh = sharding.data_mesh(config.train.devices)
            steps = Plan.of(config.train, len(self.lists.train), mesh).num_steps
            done = workdirs.latest_step(folder)
            if run is None or done != steps:
                raise UserError(
                    f"stage {name!r} is not done (step {done} of {steps} in {folder}): run it "
                    f"first, --stages={name}"
                )
            self.opened[name, choice] = run
        return self.opened[name, choice]

    def network(self, name: str, reader: str) -> Variables:
        """What a finished stage trained, at the checkpoint that another stage builds on."""
        config, folder = stage_config(self.config, reader), self.workdir / reader
        if workdirs.has_checkpoint(folder):  # eval.checkpoint may have changed since it began
            config, _ = workdirs.load(folder)
        run = self.open(name, config.eval.checkpoint)
        return own_network(run.variables, stage_config(self.config, name).reads)

    def label_stage(self, name: str) -> label.LabelStage:
        """A label stage with what it reads, which must be there."""
        labeller, networks, earlier, hashes = self.labellers[name], {}, {}, {}
        for role, read in labeller.reads.items():
            if read in self.labellers:
                hashes[role] = self.labels_hash(read)
                earlier[role] = self.folders[read]
            else:
                networks[role] = self.open(read)
        config, folder = stage_config(self.config, name), self.workdir / name
        inputs = (networks, earlier, hashes, self.lists.train)
        return label.LabelStage(config, labeller, *inputs, folder)

    def labels_hash(self, name: str) -> str:
        """Of a finished label stage, which must be what this config makes."""
        if name not in self.checked:
            stage = self.label_stage(name)
            self.checked[name] = label.check_labels(stage, stage.inputs())["sha256"]
        return self.checked[name]

    def label_hashes(self, name: str) -> dict[str, str]:
        """Of the labels that a training reads, by stage."""
        places = parse_labels(stage_config(self.config, name).labels).values()
        return {stage: self.labels_hash(stage) for stage, _ in places}

    def check_inputs(self, name: str) -> None:
        """Raises UserError where a training has begun with inputs that are others now."""
        folder, labels = self.workdir / name, self.label_hashes(name)
        reads = networks_of(stage_config(self.config, name))
        if not (reads or labels) or not workdirs.has_checkpoint(folder):
            return
        recorded = product.read_inputs(folder)
        if recorded is None or not {*reads, *labels} <= set(recorded):
            raise UserError(
                f"{folder / product.INPUTS} is missing or damaged, so nobody knows what stage "
                f"{name!r} was trained on: remove {folder} and run it again."
            )
        for read, digest in labels.items():
            if recorded[read] != digest:
                raise UserError(
                    f"stage {name!r} was trained with other labels than {self.workdir / read} "
                    f"holds now: remove {folder} to train it again, or put those labels back."
                )
        for read in reads:
            if recorded[read] != fingerprint(self.network(read, name)):
                raise UserError(
                    f"stage {name!r} was trained with another network of stage {read!r} than "
                    f"{self.workdir / read} holds now: remove {folder} to train it again, or put "
                    f"that network back."
                )

    def seeds(self, name: str) -> OpenedRun | None:
        """The network that a training's labels grew from, as their labellers say (``seeds``).

        A network that was itself trained on labels grew from theirs.
        """
        for stage, _ in parse_labels(stage_config(self.config, name).labels).values():
            while stage in self.labellers:
                labeller = self.labellers[stage]
                stage = labeller.reads.get(labeller.seeds, "")
            if stage:
                learnt = stage_config(self.config, stage).labels
                return self.seeds(stage) if learnt else self.open(stage)
        return None

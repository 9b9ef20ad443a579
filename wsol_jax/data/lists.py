"""Opens the lists that a config names."""

import dataclasses
import functools

from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.data import sources
from wsol_jax.data.records import Source, image_ids


@dataclasses.dataclass(frozen=True)
class Lists:
    """The lists of a run. All have the same class names in the same order."""

    train: Source
    tune: Source | None
    tests: dict[str, Source]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.train.class_names)

    @functools.cached_property
    def tune_in(self) -> dict[str, int]:
        """How many images of the tune list other lists hold too, by their names, where any."""
        if self.tune is None:
            return {}
        tune = set(image_ids(self.tune))
        others = {source.name: source for source in (self.train, *self.tests.values())}
        found = {n: sum(i in tune for i in image_ids(source)) for n, source in others.items()}
        return {name: count for name, count in found.items() if count}

    def describe_tune(self) -> str:
        """The tune list's name, and where else its images stand: a choice on it is theirs too."""
        if self.tune is None:
            return ""
        of = f"of its {len(self.tune)} images"
        said = [f"{count} {of} are in {name} too" for name, count in self.tune_in.items()]
        return f"{self.tune.name} ({'; '.join(said)})" if said else self.tune.name


def open_lists(data: Config) -> Lists:
    """The training, tuning and test lists of a config's ``data`` section.

    Raises:
      UserError: a folder, file or list is missing or malformed, or a list is empty.
    """
    if not data.train:
        raise UserError("data.train is empty: name the list to train on.")
    if not data.test.strip("+"):
        raise UserError("data.test is empty: name the list to score, or several as one+other.")
    several = [name for name, row in sources.DATASETS.items() if row.several]
    if data.multi_label and data.name not in several:
        raise UserError(
            f"data.multi_label: the {data.name} data have one label an image; several may have "
            f"{', '.join(several)}."
        )
    drawn = [name for name, row in sources.DATASETS.items() if data.parts <= row.parts]
    if data.parts > 1 and data.name not in drawn:
        raise UserError(
            f"data.parts={data.parts}: how many parts tell a class can be chosen of "
            f"{', '.join(drawn)} alone, not of the {data.name} data."
        )
    opened = sources.opener(data)
    tests = [opened(name) for name in data.test.split("+") if name]
    if len({source.name for source in tests}) < len(tests):
        raise UserError(f"data.test={data.test}: two lists have one name; rename one.")
    tests = {source.name: source for source in tests}
    lists = Lists(
        train=opened(data.train), tune=opened(data.tune) if data.tune else None, tests=tests
    )
    for source in (lists.train, lists.tune, *tests.values()):
        if source is not None and len(source) == 0:
            raise UserError(f"list {source.name!r} of data set {data.name!r} has no images.")
    if trained := lists.tune_in.get(lists.train.name):
        logging.warning(
            "data.tune=%s: %d of its %d images are trained on, so the threshold and the best "
            "checkpoint are chosen on images that the network has learned; name another list, or "
            "tune=none after the data set",
            data.tune, trained, len(lists.tune),
        )  # fmt: skip
    if data.labels:
        _check_labels(data, lists.train)
    if not data.multi_label:
        _check_single_label(lists.train)
    return lists


def open_present(data: Config, name: str) -> Source:
    """One list of a config's ``data`` section from what is on this disk: nothing is fetched.

    Raises:
      UserError: the data set or the list is not here, or malformed.
    """
    return sources.opener(data, fetch=False)(name)


def _check_labels(data: Config, train: Source) -> None:
    """Whether the file of image labels is one of this list's images."""
    if not sources.DATASETS[data.name].label_file:
        having = [name for name, row in sources.DATASETS.items() if row.label_file]
        raise UserError(
            f"data.labels: the {data.name} data take no file of image labels; "
            f"{' and '.join(having)} do."
        )
    known = getattr(train, "labelled", len(train))
    if not known:
        raise UserError(f"data.labels={data.labels} names no image of list {train.name!r}.")
    if known < len(train):
        logging.warning(
            "data.labels=%s names %d of the %d images of list %s; the others' labels are those "
            "of their annotations", data.labels, known, len(train), train.name,
        )  # fmt: skip


def _check_single_label(source: Source) -> None:
    # The first record stands for the list: sources refuse several labels themselves when opened.
    labels = source[0].labels
    if len(labels) != 1:
        raise UserError(
            f"list {source.name!r}: {source[0].image_id} has {len(labels)} labels, not 1."
        )

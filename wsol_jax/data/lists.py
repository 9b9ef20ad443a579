"""Opens the lists that a config names."""

import dataclasses
from typing import Any

from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.data.records import Source


@dataclasses.dataclass(frozen=True)
class Lists:
    """The lists of a run. All have the same class names in the same order."""

    train: Source
    tune: Source | None
    tests: dict[str, Source]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.train.class_names)


_SEVERAL = ("embedded", "voc")  # data sets with several labels an image


def open_lists(data: Any) -> Lists:
    """The training, tuning and test lists of a config's ``data`` section.

    Raises:
      UserError: a folder, file or list is missing or malformed, or a list is empty.
    """
    if not data.train:
        raise UserError("data.train is empty: name the list to train on.")
    if not data.test.strip("+"):
        raise UserError("data.test is empty: name the list to score, or several as one+other.")
    if data.multi_label and data.name not in _SEVERAL:
        raise UserError(
            f"data.multi_label: the {data.name} data have one label an image; several have "
            f"{' and '.join(_SEVERAL)}."
        )
    opened = _opener(data)
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
    if data.labels:
        _check_labels(data, lists.train)
    if not data.multi_label:
        _check_single_label(lists.train)
    return lists


def open_present(data: Any, name: str) -> Source:
    """One list of a config's ``data`` section from what is on this disk: nothing is fetched.

    Raises:
      UserError: the data set or the list is not here, or malformed.
    """
    return _opener(data, fetch=False)(name)


def _check_labels(data: Any, train: Source) -> None:
    """Whether the file of image labels is one of this list's images."""
    if data.name != "voc":
        raise UserError(f"data.labels: a file of image labels is VOC's, not for {data.name}.")
    known = train.labelled
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


def _opener(data: Any, fetch: bool = True):
    """name -> Source; ``fetch``: what is not on this disk is drawn or downloaded."""
    match data.name:
        case "embedded":
            from wsol_jax.data.embedded.source import is_drawn, open_embedded

            if not fetch and not is_drawn(multi=data.multi_label):
                raise UserError("the embedded data set is not drawn on this machine.")
            return lambda name: open_embedded(name, multi=data.multi_label)
        case "voc":
            from wsol_jax.data.sources.voc import open_voc, voc_classes_in
            from wsol_jax.data.sources.voc_labels import read_image_labels

            _need_root(data)
            classes = None if data.multi_label else voc_classes_in(data.root, data.train)
            labels = read_image_labels(data.labels) if data.labels else None
            settings = dict(classes=classes, multi_label=data.multi_label, labels=labels)
            return lambda name: open_voc(data.root, name, **settings)
        case "folder":
            from wsol_jax.data.sources.folder import open_folder

            _need_root(data)
            return lambda name: open_folder(
                data.root, name, boxes_csv=data.boxes or None, train_list=data.train
            )
        case "cub":
            from wsol_jax.data.sources.cub import open_cub
            from wsol_jax.data.sources.cub_files import ensure_cub, ensure_cub_masks, find_cub

            root = ensure_cub(data.root) if fetch else find_cub(data.root)
            if root is None:
                raise UserError("CUB_200_2011 is not on this machine.")
            if (
                fetch and not data.root
            ):  # the cache is ours to complete; a folder of the user's is not
                try:
                    ensure_cub_masks(root)
                except UserError as error:  # boxes are enough to go on with
                    logging.warning("no segmentations, so no PxAP: %s", error)
            return lambda name: open_cub(root, name)
        case "ilsvrc":
            from wsol_jax.data.sources.ilsvrc import open_ilsvrc

            _need_root(data)
            # The best fixed box is fit on the training list's boxes; batches never see them.
            return lambda name: open_ilsvrc(data.root, name, train_boxes=True)
        case other:
            raise UserError(
                f"data.name: {other!r} is not one of embedded, folder, cub, ilsvrc, voc."
            )


def _need_root(data: Any) -> None:
    if not data.root:
        raise UserError(
            f"data.root is empty: name the folder of the {data.name} data, e.g. "
            f"--config=configs/spg.py:{data.name},root=/data/{data.name}"
        )

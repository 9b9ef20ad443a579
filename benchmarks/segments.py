"""The time of scoring a segmenter, with the test-time CRF and without it: photos/s, cores, memory.

    python benchmarks/segments.py                        # photos and a network made for the purpose
    python benchmarks/segments.py --workdir=RUN --photos=0  # a run of SEC, all photos of its list

The work is ``--mode=evaluate``'s: network batches, the maps at each photo's size, the dense CRF on
the photo, the confusion with the truth. The peer takes the same network batches and brings one
photo at a time to its edges by pydensecrf2, in one thread; without pydensecrf2 there is none. First
all sides score the list once, which compiles, and the masks under both CRFs are compared; then they
score it in turns. Of a run, predict is timed too, each time from loading the run to the page.

Without a run: photos of noise in several sizes, and an untrained network whose last layer is
enlarged, so that its classes differ between cells. Its mean IoU means nothing, its time does.
"""

import dataclasses
import functools
import importlib.util
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import cv2
import jax
import numpy as np

from benchmarks import common, machine
from configs import sec
from wsol_jax import methods
from wsol_jax.api.predict import predict
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.records import Chosen, Record, has_masks
from wsol_jax.data.sources.voc_labels import VOC_CLASSES
from wsol_jax.evaluate import kinds
from wsol_jax.evaluate.kind import Task
from wsol_jax.evaluate.localize import localize_list
from wsol_jax.evaluate.photo_size import segment_probabilities
from wsol_jax.evaluate.score import score_list
from wsol_jax.evaluate.segments import Segments
from wsol_jax.ops.crf_settings import CrfSettings
from wsol_jax.runs import opened, workdirs
from wsol_jax.stages.sections import stage_config

PEER = "pydensecrf2" if importlib.util.find_spec("pydensecrf") else ""
if PEER:
    from benchmarks.crf import peer as pydensecrf

SIZES = ((500, 375), (375, 500), (500, 333), (333, 500), (320, 240))  # (width, height)
WITH, WITHOUT, PREDICT = "with the CRF", "without a CRF", "predict"
COMPARED = 8  # photos whose masks of both CRFs are kept


def read_flags(argv=None):
    parser = common.make_parser(__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, help="a run of SEC; none: one is made up")
    parser.add_argument("--photos", type=int, default=40, help="evenly drawn; 0: all of the list")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--backbone", default="mobilenet_v2", help="of the network made up")
    parser.add_argument("--width", type=float, default=1.0, help="its channel multiplier")
    parser.add_argument("--size", type=int, default=321, help="pixels of its square image")
    return parser.parse_args(argv)


@dataclasses.dataclass(frozen=True)
class Scored(Chosen):
    """Some records of a list with their masks."""

    def mask(self, index):
        return self.source.mask(self.indices[index])


class MadeUp:
    """Photos of noise in several sizes; the truth is an ellipse of one class after the other."""

    name, class_names = "made up", VOC_CLASSES

    def __init__(self, folder, count):
        self.paths = common.write_photos(folder, count, SIZES)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        label = (index % len(VOC_CLASSES),)
        return Record(image_id=f"{index:05d}", image=self.paths[index], labels=label)

    def mask(self, index):
        width, height = SIZES[index % len(SIZES)]
        mask = np.zeros((height, width), np.uint8)
        ellipse = ((width / 2, height / 2), (width / 2, height / 3), 20)
        cv2.ellipse(mask, ellipse, 1 + index % len(VOC_CLASSES), -1)
        return mask


def untrained(flags):
    """SEC's network with random weights."""
    words = f"voc,backbone={flags.backbone},weights=none,width={flags.width},size={flags.size}"
    config = stage_config(sec.get_config(words), "segment")
    method = methods.build(config, len(VOC_CLASSES))
    photo = np.zeros((1, flags.size, flags.size, 3), np.uint8)
    variables = jax.jit(method.init)(jax.random.key(0), photo)
    params = variables["params"]
    last = {**params["head"]["fc8"], "kernel": 60 * params["head"]["fc8"]["kernel"]}
    params = {**params, "head": {**params["head"], "fc8": last}}
    mesh = sharding.data_mesh(1)
    variables = sharding.replicate({**variables, "params": params}, mesh)
    return opened.Network(config, method, variables, mesh)


def open_list(flags, folder):
    """(network, the photos that are scored)."""
    if flags.workdir is None:
        return untrained(flags), MadeUp(folder, flags.photos or len(SIZES))
    place = workdirs.network_folder(flags.workdir)
    run = opened.open_run(workdirs.load_to_run(place)[0], place)
    if not isinstance(kinds.of(run), Segments):
        raise UserError(f"--workdir={flags.workdir}: no segmenter's run; expected one of SEC.")
    sources = [source for source in run.lists.tests.values() if has_masks(source)]
    if not sources:
        raise UserError(f"--workdir={flags.workdir}: none of its test lists has masks.")
    count = min(flags.photos or len(sources[0]), len(sources[0]))
    drawn = np.linspace(0, len(sources[0]) - 1, count).round().astype(int).tolist()
    return run, Scored(sources[0], tuple(drawn))


def by_pydensecrf(network, source, kept=frozenset()):
    """The list's results by the peer: a photo at a time in this thread."""
    crf = network.config.eval.crf
    settings = CrfSettings.of(crf, "eval.crf", "lattice")
    kernels = dict(bilateral=settings.bilateral, spatial=settings.spatial)
    results = kinds.of(network).empty(source.class_names)
    for image in localize_list(network, source, what=PEER):
        truth, record = source.mask(image.index), source[image.index]
        probabilities = segment_probabilities(image.maps, truth.shape[::-1])
        unary = -np.log(np.clip(probabilities, crf.clip, 1))
        photo = decode_rgb(record.image, record.image_id)
        found = pydensecrf(unary, photo, iterations=settings.iterations, **kernels)
        labels = found.argmax(-1).astype(np.uint8)
        results.update(record.image_id, truth, labels)
        if image.index in kept:
            results.labels[image.index] = labels
    return results


def compare(ours, peer):
    """How far the results of the two CRFs are apart; ends the program where too far."""
    same = np.mean([np.mean(ours.labels[i] == peer.labels[i]) for i in ours.labels])
    values = {name: r.figures(intervals=False)["miou"] for name, r in ((WITH, ours), (PEER, peer))}
    print(
        f"same label at {100 * same:.3f}% of {len(ours.labels)} photos' pixels; mean IoU ", end=""
    )
    print(", ".join(f"{100 * value:.2f} {name}" for name, value in values.items()))
    if same < 0.99:
        sys.exit("error: the two CRFs' masks are not the same; see above.")
    return {"agreement": float(same), "miou": values}


def sides_of(network, source):
    """{side: a call that scores the list, given the photos whose masks are kept}."""
    kind = kinds.of(network)

    def score(name, kept=frozenset()):
        return score_list(network, source, kind, Task(crf=name == WITH, shown=kept), what=name)

    sides = {name: functools.partial(score, name) for name in (WITHOUT, WITH)}
    return sides | ({PEER: functools.partial(by_pydensecrf, network, source)} if PEER else {})


def predict_all(flags, source, folder):
    """Predict on the list's photos, as files of a folder."""
    photos = folder / "photos"
    if not photos.is_dir():
        photos.mkdir()
        for i in range(len(source)):
            pixels = decode_rgb(source[i].image, source[i].image_id)
            cv2.imwrite(str(photos / f"{i:06}.jpg"), pixels[..., ::-1])
    predict(flags.workdir, photos, folder / "predicted")


def rows_of(times, setting, count):
    """The rows, and the cores that each side keeps busy; ``times``: (rounds, wall and CPU)."""
    rates = {name: count / x[:, 0] for name, x in times.items()}
    rows = []
    for name in (x for x in times if x != PEER):
        peer = (rates[PEER], f"{PEER}, one thread") if name == WITH and PEER else ()
        what = name if name == PREDICT else f"segments scored {name}"
        rows.append(common.Row(what, setting, rates[name], *peer, unit="photos/s"))
    busy = {name: float(np.median(x[:, 1] / x[:, 0])) for name, x in times.items()}
    for row in rows:
        print(row)
    print("cores busy: " + ", ".join(f"{value:.2f} {name}" for name, value in busy.items()))
    return rows, busy


def measure(flags, folder):
    """Compares, then times; the rows and what else was found."""
    network, source = open_list(flags, folder)
    what = "an untrained network" if flags.workdir is None else network.config.method
    trunk = network.config.model.backbone
    setting = f"{what} on {trunk}, {len(source)} photos of {source.name}"
    print(machine.heading(setting), flush=True)
    sides, first, peaks, results = sides_of(network, source), {}, {}, {}
    kept = frozenset(range(min(COMPARED, len(source))))
    for name, side in sides.items():
        keep = functools.partial(side, kept=kept)
        first[name], _ = common.clock(lambda n=name, k=keep: results.update({n: k()}))
        peaks[name] = machine.peak_memory()
        words = ", ".join(f"{k} {v:.2f}" for k, v in peaks[name].items())
        print(f"{name}, first pass: {len(source) / first[name]:.2f} photos/s; peak {words} so far")
    compared = compare(results[WITH], results[PEER]) if PEER else {}
    results.clear()
    if flags.workdir is not None:
        sides[PREDICT] = functools.partial(predict_all, flags, source, folder)
        sides[PREDICT]()
    clocks = {name: functools.partial(common.clock, side) for name, side in sides.items()}
    rows, busy = rows_of(common.in_turns(clocks, flags.rounds), setting, len(source))
    found = dict(cores_busy=busy, first_pass_seconds=first, peak_memory_after=peaks)
    return rows, {**found, "compared": compared}


def main(argv=None):
    flags = read_flags(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows, found = measure(flags, pathlib.Path(folder))
    common.write(flags, rows, **found)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")

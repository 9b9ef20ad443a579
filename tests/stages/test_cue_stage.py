"""The stage that writes cues, and the segmenter that trains on them: whole, killed, resumed."""

import dataclasses
import functools
import hashlib
import io
import json
import shutil
import signal

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import tiny
from helpers.runs import saved, start_pair, step_of
from helpers.voc import write_voc
from PIL import Image

from configs import sec as sec_config
from configs import two_phase as two_phase_config
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.data.index_png import voc_palette
from wsol_jax.data.pseudo_labels import UNLABELLED, read_cue, write_cue
from wsol_jax.data.records import Record
from wsol_jax.methods import Localization
from wsol_jax.runs import workdirs
from wsol_jax.runs.opened import OpenedRun, open_run
from wsol_jax.stages import label as cueing
from wsol_jax.stages import recipe as stages

# ---------------------------------------------------------------- networks that are a formula
#
# Red is class 0, green class 1; what is dark is background. One compilation for all of it.

SIZE = 8


@dataclasses.dataclass(frozen=True)
class Painted:
    """Photos of coloured squares; ``broken`` ones do not decode, ``masks`` are not to be read."""

    count: int = 7
    broken: tuple[int, ...] = ()
    swapped: tuple[int, ...] = ()  # whose labels are others
    name: str = "train"
    class_names: tuple[str, ...] = ("red", "green")

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[2:10, 2:8, index % 2] = 200 + index
        pixels[12:, 12:, 1 - index % 2] = 255
        pixels[..., 2] = np.arange(16)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        image = b"none" if index in self.broken else buffer.getvalue()
        label = index % 2 if index not in self.swapped else 1 - index % 2
        return Record(f"part/id{index}", image, (label,))

    def mask(self, index):
        raise AssertionError("a mask was read for a cue")


def localize(variables, images):
    maps = images[..., :2].astype(jnp.float32) * variables["scale"]
    return Localization(jnp.zeros((len(images), 2)), maps)


def saliency(variables, images, layer):
    assert layer == "layer"
    return jnp.sum(images.astype(jnp.float32), axis=-1) * variables["scale"]


@dataclasses.dataclass(frozen=True)
class Formula:
    localize = staticmethod(localize)
    saliency = staticmethod(saliency)


@functools.cache
def opened(scale=1.0):
    config = ml_collections.ConfigDict(
        {
            "eval": {"size": 16, "batch_size": 4},
            "data": {"crop": 16, "max_corrupt": 2, "workers": 0, "threads": 2},
        }
    )
    mesh = sharding.data_mesh(1)
    return OpenedRun(config, None, mesh, Formula(), {"scale": jnp.float32(scale)}, 1)


def options(**changes):
    fields = dict(size=SIZE, foreground=0.5, background=0.25, layer="layer")
    return ml_collections.ConfigDict({**fields, **changes})


INPUTS = {"maps": "a", "saliency": "b", "settings": "c", "labels": "d"}


def make(folder, source=None, inputs=INPUTS, **changes):
    source = source or Painted()
    return cueing.make_cues(opened(), opened(), options(**changes), source, folder, inputs)


def content(folder):
    """Every picture of a folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.png")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Cues that nothing disturbed; read them, do not write there."""
    folder = tmp_path_factory.mktemp("made") / "cues"
    return folder, make(folder)


def test_cues_are_what_the_maps_are_sure_of(made):
    folder, found = made
    assert set(content(folder)) == {f"part/id{i}.png" for i in range(7)}
    counts = np.zeros(256, int)
    for index in range(7):
        record = Painted()[index]
        pixels = np.array(Image.open(io.BytesIO(record.image))).astype(float)
        # From 16 to 8 cells bilinearly: the mean of each four pixels.
        cells = pixels.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
        own, total = cells[..., index % 2], cells.sum(axis=-1)
        expected = np.full((8, 8), UNLABELLED)
        expected[total <= np.sort(total.ravel())[16]] = 0
        expected[own > 0.5 * own.max()] = 1 + index % 2
        cue = read_cue(folder, record.image_id, SIZE)
        np.testing.assert_array_equal(cue, expected)
        assert set(np.unique(cue).tolist()) == {0, 1 + index % 2, UNLABELLED}
        counts += np.bincount(cue.ravel(), minlength=256)
    total = counts.sum()
    assert (found["images"], found["size"]) == (7, SIZE)
    assert found["foreground"] == pytest.approx((counts[1] + counts[2]) / total)
    assert found["background"] == pytest.approx(counts[0] / total)
    assert found["unlabelled"] == pytest.approx(counts[255] / total)
    assert found["by_class"] == {"red": counts[1] / total, "green": counts[2] / total}
    assert json.loads((folder / "cues.json").read_text()) == found == cueing.read_summary(folder)
    assert found["inputs"] == json.loads((folder / "inputs.json").read_text()) == INPUTS


def test_the_hash_is_of_every_pixel_in_the_lists_order(made):
    folder, found = made
    digest = hashlib.sha256()
    for index in range(7):
        cue = read_cue(folder, f"part/id{index}", SIZE)
        digest.update(f"part/id{index}\n".encode() + cue.tobytes())
    assert found["sha256"] == digest.hexdigest()


class Stop(BaseException):
    """Ends a process as a signal would: nothing tidies up."""


def test_a_stage_that_stopped_goes_on_with_what_is_missing(made, tmp_path, monkeypatch):
    folder, whole = made
    written = []

    def dies(place, name, cue):
        if len(written) == 4:
            raise Stop
        written.append(name)
        write_cue(place, name, cue)

    monkeypatch.setattr(cueing, "write_cue", dies)
    with pytest.raises(Stop):
        make(tmp_path)
    assert len(content(tmp_path)) == 4 and cueing.read_summary(tmp_path) is None
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    again = []
    write = lambda *x: (again.append(x[1]), write_cue(*x))
    monkeypatch.setattr(cueing, "write_cue", write)
    assert make(tmp_path) == whole
    assert sorted(again + written) == [f"part/id{i}" for i in range(7)]
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert content(tmp_path) == content(folder)
    again.clear()
    assert make(tmp_path) == whole and not again  # and all of it is done


def test_a_process_killed_in_its_first_write_leaves_no_claim(made, tmp_path):
    """What write_whole had not renamed yet is nobody's cue."""
    (tmp_path / ".host.17.18.tmp").write_text('{"maps": "ot')
    assert make(tmp_path) == made[1]


def test_a_summary_that_was_cut_is_made_again(made, tmp_path):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    before = content(tmp_path)
    for damage in ("", '{"images": 7, "sha', "null", "[]", "{}"):
        (tmp_path / "cues.json").write_text(damage)
        assert cueing.read_summary(tmp_path) is None, damage
        assert make(tmp_path) == made[1]
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", list(INPUTS))
@pytest.mark.parametrize("done", [True, False])
def test_cues_of_other_inputs_are_refused(made, tmp_path, name, done):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    if not done:
        (tmp_path / "cues.json").unlink()
        (tmp_path / "part/id3.png").unlink()
    before = content(tmp_path)
    with pytest.raises(UserError) as error:
        make(tmp_path, inputs={**INPUTS, name: "other"})
    assert str(error.value) == (
        f"{tmp_path} holds cues that were made of other networks, labels or settings than this "
        "config's: remove it to make them again, or put those back."
    )
    assert content(tmp_path) == before


@pytest.mark.parametrize("damage", ["missing", "cut", "no object"])
def test_cues_that_nobody_knows_the_inputs_of_are_refused(made, tmp_path, damage):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    record = tmp_path / "inputs.json"
    if damage == "missing":
        record.unlink()
    else:
        record.write_text({"cut": '{"maps": "a', "no object": "[]"}[damage])
    with pytest.raises(UserError, match="made of other networks, labels or settings"):
        make(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "size", "colours"])
def test_a_damaged_cue_is_named_when_they_are_summed_up(made, tmp_path, damage):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "cues.json").unlink()
    path = tmp_path / "part" / "id5.png"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:50])
    elif damage == "size":
        write_cue(tmp_path, "part/id5", np.zeros((3, 3), np.uint8))
    else:
        Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(path)
    with pytest.raises(UserError, match=r"part.id5\.png"):
        make(tmp_path)
    assert cueing.read_summary(tmp_path) is None
    path.unlink()  # the cure
    assert make(tmp_path) == made[1]


def test_an_unreadable_photo_has_no_cue(made, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        found = make(tmp_path, Painted(broken=(2, 4)))
    assert found["images"] == 5 and "part/id2" in caplog.text
    expected = {
        k: v for k, v in content(made[0]).items() if k not in ("part/id2.png", "part/id4.png")
    }
    assert content(tmp_path) == expected
    with pytest.raises(UserError, match=r"cannot be read, more than data\.max_corrupt=2"):
        make(tmp_path / "more", Painted(broken=(1, 2, 4)))


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"size": 0}, r"cues\.size: expected cells a side, got 0"),
        ({"size": -3}, r"cues\.size"),
        ({"foreground": 1.0}, r"cues\.foreground: expected a share in \[0, 1\), got 1\.0"),
        ({"foreground": float("nan")}, r"cues\.foreground"),
        ({"background": -0.1}, r"cues\.background: expected a share"),
    ],
)
def test_options_are_checked(changes, sentence):
    cueing.check_options(options(), 254)
    with pytest.raises(UserError, match=sentence):
        cueing.check_options(options(**changes), 2)


def test_more_classes_than_a_cue_holds_are_refused():
    with pytest.raises(UserError, match="cues hold 254 classes at most, not 255"):
        cueing.check_options(options(), 255)


def test_cues_that_went_missing_are_made_again(made, tmp_path):
    folder, found = made
    shutil.copytree(folder, tmp_path / "cues")
    gone = tmp_path / "cues" / "part" / "id3.png"
    gone.unlink()
    with pytest.raises(UserError, match=r"id3\.png and 0 more are missing: --stages=cues makes"):
        cueing.check_cues(tmp_path / "cues", options(), Painted(), INPUTS)
    assert make(tmp_path / "cues") == found
    assert content(tmp_path / "cues") == content(folder)
    assert cueing.check_cues(tmp_path / "cues", options(), Painted(), INPUTS) == found


def test_cues_that_were_changed_are_refused(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "cues")
    other = (tmp_path / "cues" / "part" / "id2.png").read_bytes()
    (tmp_path / "cues" / "part" / "id3.png").write_bytes(other)
    for ask in (
        lambda folder: make(folder),
        lambda folder: cueing.check_cues(folder, options(), Painted(), INPUTS),
    ):
        with pytest.raises(UserError, match="were changed since they were made: remove it"):
            ask(tmp_path / "cues")


def test_cues_of_other_inputs_are_no_ones_to_use(made):
    with pytest.raises(UserError, match="made of other networks, labels or settings"):
        cueing.check_cues(made[0], options(), Painted(), {**INPUTS, "maps": "another"})


def test_an_unreadable_photo_is_not_missing(tmp_path):
    source = Painted(broken=(2,))
    found = make(tmp_path, source)
    assert found["unreadable"] == ["part/id2"]
    assert cueing.check_cues(tmp_path, options(), source, INPUTS) == found


# ---------------------------------------------------------------- configs


def tiny_config(file=sec_config, words="", **changes):
    root = tiny.data()
    config = file.get_config(
        f"folder,root={root},backbone=mobilenet_v2,weights=none,width=0.25,size=32,batch=6{words}"
    )
    with config.unlocked():
        config.model.freeze_until = ""
        config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"cues.maps": "nonsense"}, r"cues\.maps: 'nonsense' is no training before the stage"),
        ({"cues.maps": "segment"}, r"cues\.maps: 'segment' is no training before"),
        ({"cues.saliency": "cues"}, r"cues\.saliency: 'cues' is no training before"),
        ({"cues.layer": "block_99"}, r"cues\.layer: the network has 0 layers named 'block_99'"),
        ({"cues.layer": ""}, r"cues\.layer is empty"),
        ({"cues.layer": "head"}, r"cues\.layer: the network has 0 layers named 'head'"),
        ({"cues.foreground": 1.0}, r"cues\.foreground"),
        ({"cues.size": 0}, r"cues\.size: expected cells a side"),
        ({"stage.segment.sec.seed": -1.0}, r"sec\.seed"),
        ({"stage.segment.sec.bilateral": (10.0, 80.0)}, r"sec: bilateral is \(weight, sxy, srgb"),
        ({"stage.segment.sec.iterations": -1}, r"sec: iterations=-1"),
        ({"eval.crf.bilateral": (10.0, 80.0)}, r"eval\.crf: bilateral is"),
        ({"stage.segment.data.resize": 400}, r"data\.resize: cues belong to whole photos"),
        ({"eval.mean_classes": ("cow",)}, r"eval\.mean_classes: 'cow' is not one of"),
        ({"stages": ("cues", "evaluate")}, "nothing is trained"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        stages.run(tiny_config(**changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_segments_of_two_phase_learning_come_after_its_phases():
    config = tiny_config(two_phase_config, ",segment=true")
    assert tuple(config.stages) == ("first", "second", "cues", "segment", "evaluate")
    assert config.cues.maps == "second" and config.cues.saliency == "first"
    own = stages.stage_config(config, "segment")
    assert own.sec.expand == 0 and own.sec.seed == own.sec.constrain == 1
    assert "sec" not in stages.stage_config(config, "second")
    assert own.method == "sec" and own.data.cues == config.cues.size
    assert stages.stage_config(config, "second").data.cues == 0
    assert "cues" not in tiny_config(two_phase_config)


def test_the_cells_of_cues_are_one_number():
    """cues.size, set late, is what the segmenter reads."""
    config = tiny_config(**{"cues.size": 7})
    assert stages.stage_config(config, "segment").data.cues == 7


def test_other_cues_need_no_other_classifier(tmp_path):
    """No training reads the section; the folder of cues and the segmenter's data.cues hold it."""
    own = stages.stage_config(tiny_config(), "first")
    workdirs.claim(tmp_path, own, ("a",))
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    cues = {"cues.foreground": 0.5, "cues.layer": "block_3_project", "cues.size": 9}
    workdirs.claim(tmp_path, stages.stage_config(tiny_config(**cues), "first"), ("a",))
    later = tiny_config(**{"stage.segment.sec.channels": 8})
    workdirs.claim(tmp_path, stages.stage_config(later, "first"), ("a",))
    with pytest.raises(UserError, match=r"two_phase\.head"):
        other = tiny_config(**{"two_phase.head": "fcn"})
        workdirs.claim(tmp_path, stages.stage_config(other, "first"), ("a",))
    segment = tmp_path / "segment"
    workdirs.claim(segment, stages.stage_config(tiny_config(), "segment"), ("a",))
    (segment / "checkpoints" / "2").mkdir(parents=True)
    with pytest.raises(UserError, match=r"sec\.channels"):
        workdirs.claim(segment, stages.stage_config(later, "segment"), ("a",))
    with pytest.raises(UserError, match=r"data\.cues=20.* has 9"):
        workdirs.claim(segment, stages.stage_config(tiny_config(**cues), "segment"), ("a",))


def test_segment_is_written_after_the_configs_path(tmp_path):
    words = tiny.flags(
        tiny.data(), tmp_path / "w", "--config.two_phase.segment=true", method="two_phase"
    )
    done = tiny.run(words)
    assert "write segment=... after the config's path" in tiny.error_sentence(done)


# ---------------------------------------------------------------- whole runs

LAST, CELLS = 6, 6  # 12 photos, batches of 6, 3 epochs
FIELDS = {
    "model.final_endpoint": "block_1",
    "train.eval_epochs": 0.0,
    "train.epochs": 1.0,
    "data.resize": 32,
    "cues.layer": "block_1_project",
    "cues.size": CELLS,
    "cues.foreground": 0.3,
    "cues.background": 0.1,
    "stage.segment.data.crop": 32,
    "stage.segment.data.resize": 32,
    "stage.segment.model.final_endpoint": "block_1",
    "stage.segment.model.output_stride": 8,
    "stage.segment.train.batch_size": 6,
    "stage.segment.train.epochs": 3.0,
    "stage.segment.sec.channels": 8,
    "stage.segment.sec.dilation": 1,
    "eval.crf.iterations": 2,
}
CLOCK = ("seconds", "train_seconds", "images_per_second", "stages")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("voc") / "voc")


def words(root, workdir, *more):
    fields = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    flags = tiny.flags(tiny.data(), workdir, *fields, *more, method="sec")
    place = f":folder,root={tiny.data()},boxes={tiny.data()}/boxes.csv"
    assert flags[0].count(place) == 1
    return [flags[0].replace(place, f":voc,root={root}"), *flags[1:]]


def run(*args, **options):
    done = tiny.run(words(*args), **options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A run that nothing disturbed; read it, do not write there."""
    workdir = tmp_path_factory.mktemp("sec")
    run(root, workdir)
    return workdir


def start(finished, workdir, *names):
    """A run whose first stages are done."""
    for name in names:
        shutil.copytree(finished / name, workdir / name)
    return workdir


def figures_of(workdir):
    return {k: v for k, v in tiny.metrics(workdir).items() if k not in CLOCK}


@pytest.mark.slow
def test_the_run_leaves_cues_figures_and_pictures(finished):
    cues = json.loads((finished / "cues" / "cues.json").read_text())
    assert set(content(finished / "cues")) == {f"{i:02}.png" for i in range(12)}
    assert cues["images"] == 12 and cues["size"] == CELLS
    assert cues["foreground"] + cues["background"] + cues["unlabelled"] == pytest.approx(1)
    assert min(cues["foreground"], cues["background"]) > 0
    assert saved(finished / "segment")[-1] == LAST
    rows = tiny.history(finished / "segment")
    assert {"train/seed", "train/expand", "train/constrain"} <= set(rows[0])
    inputs = json.loads((finished / "segment" / "inputs.json").read_text())
    assert inputs == {"cues": cues["sha256"]}
    figures = tiny.metrics(finished)
    assert set(figures["stages"]) == {"first", "cues", "segment", "evaluate"}
    assert set(figures["parts"]) == {"before_crf", "cam"}
    for entry in (figures, *figures["parts"].values()):
        scores = entry["test"]["val"]
        assert scores["images"] == 4  # the fifth has no mask
        assert 0 <= scores["miou"] <= 1 and 0 <= scores["pixel_accuracy"] <= 1
    for part in ("", "before_crf", "cam"):
        assert (finished / "scores" / part / "val.npz").is_file()
    page = (finished / "report.html").read_text()
    assert "cues" in page and "before the CRF" in page and "thresholded class maps" in page


@pytest.mark.slow
def test_cues_are_those_of_the_stages_network(finished, root):
    """From the checkpoint's maps and gradients, by loops in NumPy."""
    opened = open_run(stages.stage_config(_config_of(finished), "first"), finished / "first")
    train = opened.lists.train
    localize = jax.jit(opened.method.localize)
    salient = jax.jit(functools.partial(opened.method.saliency, layer="block_1_project"))

    def at_size(x):
        shape = (1, CELLS, CELLS, *x.shape[3:])
        return np.asarray(jax.image.resize(x, shape, "bilinear", antialias=False))

    different = 0
    for index in range(len(train)):
        pixels = cv2.imread(train[index].image)[..., ::-1]
        small = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_LINEAR)[None]
        maps = at_size(localize(opened.variables, small).maps)[0]
        height = at_size(salient(opened.variables, small))[0]
        expected = np.full((CELLS, CELLS), UNLABELLED)
        expected[height <= np.sort(height.ravel())[int(0.1 * CELLS**2)]] = 0
        sure = {
            c: maps[..., c] > 0.3 * maps[..., c].max()
            for c in train[index].labels
            if maps[..., c].max() > 0
        }
        for c in sorted(sure, key=lambda c: (-sure[c].sum(), -c)):  # the smallest last
            expected[sure[c]] = 1 + c
        different += (expected != read_cue(finished / "cues", train[index].image_id, CELLS)).sum()
    assert different <= 4  # of 432, by rounding


def _config_of(workdir):
    return workdirs.load(workdir)[0]


@pytest.mark.slow
def test_killed_among_the_cues(finished, root, tmp_path):
    start(finished, tmp_path, "first")
    patch = "helpers.patches:die_in_the_sixth_cue"
    done = tiny.run(words(root, tmp_path, "--stages=cues"), patch=patch)
    assert done.returncode == -signal.SIGKILL
    folder = tmp_path / "cues"
    assert len(content(folder)) == 5 and not (folder / "cues.json").exists()
    # Half of the cues are none.
    for stage in ("segment", "segment,evaluate"):
        sentence = tiny.error_sentence(tiny.run(words(root, tmp_path, f"--stages={stage}")))
        assert f"the cues in {folder} are not all made: run their stage first, --stages=cues" in (
            sentence
        )
        assert not (tmp_path / "segment" / "checkpoints").exists()
    times = {p: p.stat().st_mtime_ns for p in folder.glob("*.png")}
    run(root, tmp_path, "--stages=cues")
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert content(folder) == content(finished / "cues")
    for name in ("cues.json", "inputs.json"):
        assert (folder / name).read_bytes() == (finished / "cues" / name).read_bytes()
    times = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    done = run(root, tmp_path, "--stages=cues")
    assert "stage cues was done: 12 images" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in times} == times


@pytest.mark.slow
def test_the_segmenter_killed_and_gone_on_with(finished, root, tmp_path):
    """Ends with an unbroken run's bits."""
    start(finished, tmp_path, "first", "cues")
    folder = tmp_path / "segment"
    started = tiny.Run(words(root, tmp_path, "--stages=segment"))
    started.until(lambda: step_of(folder) >= 3 and saved(folder))
    started.send(signal.SIGKILL)
    assert started.wait().returncode == -signal.SIGKILL
    assert 0 < saved(folder)[-1] < LAST
    sentence = tiny.error_sentence(tiny.run(words(root, tmp_path, "--stages=evaluate")))
    assert f"stage 'segment' is not done (step {saved(folder)[-1]} of {LAST}" in sentence
    done = run(root, tmp_path)
    assert "goes on at step" in done.stderr and "stage cues was done" in done.stderr
    expected, found = tiny.arrays(finished / "segment", LAST), tiny.arrays(folder, LAST)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert tiny.history(folder) == tiny.history(finished / "segment")
    assert figures_of(tmp_path) == figures_of(finished)


@pytest.mark.slow
def test_cues_of_other_settings_labels_or_networks(finished, root, tmp_path):
    """Each is refused with a sentence, and what it advises helps."""
    workdir = start(finished, tmp_path / "run", "first", "cues", "segment")
    folder = workdir / "cues"
    before = content(folder)
    refusal = f"{folder} holds cues that were made of other networks, labels or settings"
    more = "--config.cues.foreground=0.6"
    assert refusal in tiny.error_sentence(tiny.run(words(root, workdir, more, "--stages=cues")))
    other = tmp_path / "voc"
    shutil.copytree(root, other)
    path = other / "Annotations" / "03.xml"
    path.write_text(path.read_text().replace("<name>bird</name>", "<name>cow</name>"))
    assert refusal in tiny.error_sentence(tiny.run(words(other, workdir, "--stages=cues")))
    assert content(folder) == before
    # Another threshold needs no other classifier: without the cues it makes them of the first.
    shutil.rmtree(folder)
    run(root, workdir, more, "--stages=cues")
    assert content(folder) != before
    # A part of the run does not take what the whole would refuse.
    for part in ("segment", "evaluate"):
        assert refusal in tiny.error_sentence(tiny.run(words(root, workdir, f"--stages={part}")))
    done = tiny.run(words(root, workdir, more, "--stages=segment"))
    assert "stage 'segment' was trained with other cues than" in tiny.error_sentence(done)
    # Nor do cues follow a network that is another now.
    for photo in (other / "JPEGImages").glob("*.jpg"):
        cv2.imwrite(str(photo), 255 - cv2.imread(str(photo)))
    shutil.rmtree(workdir / "first")
    run(other, workdir, more, "--stages=first")
    path.write_text((root / "Annotations" / "03.xml").read_text())
    assert refusal in tiny.error_sentence(tiny.run(words(other, workdir, more, "--stages=cues")))


@pytest.mark.slow
def test_a_damaged_cue_is_named(finished, root, tmp_path):
    start(finished, tmp_path, "first", "cues")
    path = tmp_path / "cues" / "07.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    done = tiny.run(words(root, tmp_path, "--stages=segment"))
    assert str(path) in tiny.error_sentence(done)
    path.unlink()
    done = tiny.run(words(root, tmp_path, "--stages=segment"))
    assert f"cues {path} and 0 more are missing: --stages=cues" in tiny.error_sentence(done)
    assert not saved(tmp_path / "segment")
    run(root, tmp_path, "--stages=cues")  # what the sentence advises
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_two_processes_write_the_cues_of_one(finished, root, tmp_path):
    start(finished, tmp_path, "first")
    for run in start_pair(words(root, tmp_path, "--stages=cues"), devices=2):
        done = run.wait(timeout=400)
        assert done.returncode == 0, done.stderr
        assert "4 device(s)" in done.stderr
    found, expected = content(tmp_path / "cues"), content(finished / "cues")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    summaries = [json.loads((w / "cues/cues.json").read_text()) for w in (tmp_path, finished)]
    assert summaries[0] == summaries[1]


@pytest.mark.slow
def test_two_processes_train_the_segmenter_of_one(finished, root, tmp_path):
    """Each reads its own rows' cues; a CRF for each photo, wherever it lies."""
    start(finished, tmp_path, "first", "cues")
    gentle = ("--config.stage.segment.sec.dropout=0.0",)
    whole = start(finished, tmp_path / "whole", "first", "cues")
    done = tiny.run(words(root, whole, "--stages=segment", *gentle))
    assert done.returncode == 0, done.stderr
    for one in start_pair(words(root, tmp_path, "--stages=segment", *gentle), devices=2):
        done = one.wait(timeout=400)
        assert done.returncode == 0, done.stderr
    rows, others = (tiny.history(w / "segment") for w in (whole, tmp_path))
    assert [row["step"] for row in rows] == list(range(1, LAST + 1))
    for row, other in zip(rows, others, strict=True):
        for name in ("train/loss", "train/seed", "train/expand", "train/constrain"):
            # The constrain loss is 1e-5 here, a thousandth of it the others' rounding.
            np.testing.assert_allclose(other[name], row[name], rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_predict_leaves_a_mask_of_each_photo(finished, root, tmp_path):
    """Of the photo's own size, in VOC's colours; a photo larger than the CRF works on, too."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("00.jpg", "03.jpg"):
        shutil.copy(root / "JPEGImages" / name, photos)
    large = cv2.resize(cv2.imread(str(photos / "00.jpg")), (560, 60))
    cv2.imwrite(str(photos / "large.png"), large)
    out = tmp_path / "out"
    done = tiny.run(
        ["--mode=predict", f"--workdir={finished}", f"--images={photos}", f"--out={out}"]
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 3
    sizes = {"00.jpg": (48, 40), "03.jpg": (48, 40), "large.png": (560, 60)}
    for name, size in sizes.items():
        with Image.open(out / "masks" / f"{name}.png") as mask:
            assert mask.mode == "P" and mask.size == size
            palette = np.array(mask.getpalette(), np.uint8).reshape(-1, 3)
            classes = np.array(mask)
        np.testing.assert_array_equal(palette, voc_palette()[: len(palette)])
        assert classes.max() <= 20
    assert "segmentation" in (out / "index.html").read_text()

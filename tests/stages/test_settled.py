"""Rounds that change nothing any more: what is compared, what is left out, what is still scored."""

import json
import types

import numpy as np
import pytest
import tiny
from helpers import rounds
from helpers.fake_stages import Fake
from helpers.labels import Painted, write_labels

from configs import common
from configs import mcof as mcof_config
from wsol_jax.base.errors import UserError
from wsol_jax.data.label_formats import cells, mask
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.methods import Labeller
from wsol_jax.stages import checks, product, settled
from wsol_jax.stages import recipe as stages

ROUNDS = 5
TRAININGS = ["one", "two", "three", "four", "five"]


def folder(place, values):
    """A label stage's masks of some of ``Painted``'s photos, by index."""
    found = LabelFolder(place, {"masks": mask()})
    for index, value in values.items():
        write_labels(found, f"part/id{index}", {"masks": np.asarray(value, np.uint8)})
    return found


def test_changed_share_counts_pixels_of_both(tmp_path):
    """Larger photos have more of them; a photo that one has no mask of counts for nothing."""
    small, large = np.zeros((4, 5)), np.full((10, 8), 3)
    other, larger = small.copy(), large.copy()
    other[1, :3], larger[0], larger[1, 0] = 255, 1, 0
    before = folder(tmp_path / "a", {0: small, 1: large, 3: small, 5: small})
    now = folder(tmp_path / "b", {0: other, 1: larger, 3: small, 4: large})
    assert settled.changed_share(now, before, Painted()) == (3 + 9) / (20 + 80 + 20)
    assert settled.changed_share(before, now, Painted()) == (3 + 9) / (20 + 80 + 20)
    assert settled.changed_share(now, now, Painted()) == 0
    assert settled.changed_share(now, folder(tmp_path / "none", {}), Painted()) is None


# ---------------------------------------------------------------- rules


def config_of(least=0.1, settled_at=3, **changes):
    """Five rounds, each a training and its labels; from the third on left out once settled."""
    config = rounds.get_config(f"folder,root={tiny.data()},size=32,batch=6,epochs=4")
    with config.unlocked():
        names = []
        for k, name in enumerate(TRAININGS, start=1):
            training = common.stage(config, name)
            training.labels = ""
            made = common.label_stage(config, f"masks_{k}", config.method, "bright")
            made.rounds = {"net": name}
            names += [name, f"masks_{k}"]
            if k > 1:
                made.before = f"masks_{k - 1}"
            if k >= settled_at:
                training.settled = made.settled = (f"masks_{k - 1}", least)
        config.stages = (*names, "evaluate")
        config.update_from_flattened_dict(changes)
    return config


def folders_of(workdir):
    return {
        f"masks_{k}": LabelFolder(workdir / f"masks_{k}", {"masks": mask()})
        for k in range(1, 1 + ROUNDS)
    }


def left_out(workdir, config, **changed):
    """The stages that are left out where the labels' figures say so."""
    for name, value in changed.items():
        (workdir / name).mkdir(parents=True, exist_ok=True)
        figures = {} if value is None else {"changed": value}
        product.write_figures(workdir / name, {"images": 3, **figures})
    folders = folders_of(workdir)
    return [x for x in config.stages[:-1] if settled.is_left_out(config, x, folders)]


def test_a_round_is_left_out_where_less_has_changed(tmp_path):
    config = config_of(0.1)
    assert left_out(tmp_path / "a", config) == []  # nothing is known yet
    assert left_out(tmp_path / "a", config, masks_2=0.2) == []
    assert left_out(tmp_path / "a", config, masks_2=0.1) == []  # not fewer
    last = ["five", "masks_5"]
    assert left_out(tmp_path / "b", config, masks_2=0.3, masks_3=0.2, masks_4=0.05) == last
    assert left_out(tmp_path / "c", config, masks_1=None, masks_2=None) == []
    assert left_out(tmp_path / "d", config_of(0.0), masks_2=0.0) == []


def test_all_rounds_behind_a_settled_one_are_left_out(tmp_path):
    """Those of the next one have no labels that could say how much has changed."""
    rest = ["three", "masks_3", "four", "masks_4", "five", "masks_5"]
    config = config_of(0.1)
    assert left_out(tmp_path / "a", config, masks_2=0.05) == rest
    # Nor do the labels of an earlier day's run, which was settled later, have a say.
    assert left_out(tmp_path / "b", config, masks_2=0.05, masks_3=0.5, masks_4=0.5) == rest
    assert left_out(tmp_path / "c", config, masks_2=0.5, masks_3=0.05) == rest[2:]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"stage.three.settled": ("masks_3", 0.1)}, "stage.three.settled: 'masks_3' is no label"),
        ({"stage.three.settled": ("two", 0.1)}, "stage.three.settled: 'two' is no label"),
        ({"stage.three.settled": ("nonsense", 0.1)}, "stage.three.settled: 'nonsense' is no label"),
        ({"stage.masks_2.before": "masks_2"}, "stage.masks_2.before: 'masks_2' is no label"),
        ({"stage.masks_2.before": "one"}, "stage.masks_2.before: 'one' is no label"),
    ],
)
def test_rules_name_label_stages_before(changes, sentence, tmp_path):
    settled.check_rules(config_of())
    with pytest.raises(UserError) as error:
        stages.run(config_of(**changes), tmp_path)
    assert str(error.value) == f"{sentence} stage before it."
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- a run


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the five rounds; ``differs``: rows of 4 that the labels of each round change."""
    fake = Fake(monkeypatch)
    fake.values = {name: float(k) for k, name in enumerate(TRAININGS, start=1)}

    def evaluate_run(run, workdir, maps):
        fake.beside.append(workdir.name)
        return types.SimpleNamespace(figures={"test": {}})

    def whole(differs, **changes):
        def labeller(config, classes):
            k = TRAININGS.index(config.rounds.net)
            values = np.zeros((4, 4), np.uint8)
            values[: differs[k]] = 1 + k
            leave = lambda photo, made, earlier: {"masks": values}
            return Labeller({"net": config.rounds.net}, {"masks": cells(4)}, None, leave)

        monkeypatch.setattr(checks.methods, "build_labeller", labeller)
        fake.beside = []
        monkeypatch.setattr(stages, "evaluate_run", evaluate_run)
        return stages.run(config_of(0.3, **changes), tmp_path)

    return fake, whole, tmp_path


def names(fake):
    return [name for name, _ in fake.trained]


def test_a_run_whose_later_rounds_are_left_out_is_still_scored(run):
    """The second round's labels change a quarter, fewer than 30 %: its network is the last."""
    fake, whole, workdir = run
    figures = whole([0, 1, 4, 4, 4], **{"eval.stages": ("one", "two", "four")})
    assert names(fake) == ["one", "two"]
    # The last network, and of the others that were asked for those that there are.
    assert fake.scored[0]["params"] == 2.0 and fake.beside == ["one"]
    assert set(figures["stages"]) == {"one", "masks_1", "two", "masks_2", "evaluate"}
    assert figures["stages"]["masks_2"]["changed"] == 0.25
    assert "changed" not in figures["stages"]["masks_1"]
    assert json.loads((workdir / "masks_2/metrics.json").read_text())["changed"] == 0.25
    assert not any((workdir / name).exists() for name in ("three", "masks_3", "five", "masks_5"))
    assert whole([0, 1, 4, 4, 4])["stages"].keys() == figures["stages"].keys()  # it is all done
    assert names(fake) == ["one", "two"]


def test_a_run_goes_on_as_long_as_its_labels_change(run):
    fake, whole, _ = run
    figures = whole([0, 2, 4, 4, 4])  # 50 %, 100 %, then all again: the classes are others
    assert names(fake) == TRAININGS and fake.scored[0]["params"] == 5.0
    assert [figures["stages"][f"masks_{k}"]["changed"] for k in range(2, 6)] == [0.5, 1, 1, 1]


def test_a_round_that_settles_later(run):
    fake, whole, _ = run
    figures = whole([0, 2, 0, 1, 4])
    assert [figures["stages"][f"masks_{k}"]["changed"] for k in (2, 3, 4)] == [0.5, 0.5, 0.25]
    assert names(fake) == TRAININGS[:4] and fake.scored[0]["params"] == 4.0


def test_mcofs_rounds_are_settled_by_the_one_before():
    config = mcof_config.get_config("voc,root=x,weights=none,rounds=4,settled=0.01")
    settled.check_rules(config)
    rules = {n: tuple(config.stage[n].get("settled", ())) for n in config.stages[:-1]}
    for k in (1, 2):
        assert not any(rules[n] for n in rules if n.endswith(f"_{k}"))
    for k in (3, 4):
        own = {rules[n] for n in rules if n.endswith(f"_{k}")}
        assert own == {(f"masks_{k - 1}", 0.01)}
    plain = mcof_config.get_config("voc,root=x,weights=none,rounds=4")
    assert not any(plain.stage[n].get("settled", ()) for n in plain.stages[:-1])

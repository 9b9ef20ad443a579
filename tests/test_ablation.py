"""``benchmarks/ablation.py``: tables of finished runs, which runs share a training, failures."""

import json
import pathlib
import sys
import time

import numpy as np
import pytest
import tiny
from helpers.voc import write_voc

from benchmarks import ablation, ablation_runs, ablation_tables
from configs.hide_and_seek import TABLES, VARIANTS, get_config
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.runs import workdirs

IDS = ("p", "q", "r", "s")
DATA = "--data=embedded"


def write_run(folder: pathlib.Path, wrong: int) -> float:
    """A finished run on 8x8 masks, half of each an object; the mean IoU before its CRF.

    Before the CRF the object is missed in ``wrong`` of its 4 columns, after it in one less.
    """
    truth = np.repeat([[0] * 4 + [1] * 4], 8, axis=0).astype(np.uint8)
    sides = [SegmentationScores(("cat",)) for _ in range(2)]
    for number, name in enumerate(IDS):
        for side, scores in enumerate(sides):
            found = truth.copy()
            found[:, 4 : 4 + max(wrong - side + number % 2, 0)] = 0
            scores.update(name, truth, found)
    before, after = sides
    tests = [{"val": scores.figures()} for scores in sides]
    metrics = {"test": tests[1], "threshold": 0.5, "seconds": 7.0, "train_seconds": 5.0}
    metrics["parts"] = {"before_crf": {"test": tests[0], "threshold": 0.5}}
    after.save(folder / "scores" / "val.npz")
    before.save(folder / "scores" / "before_crf" / "val.npz")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    missed = (wrong + wrong + 1) / 2  # columns, over the images
    return ((4 - missed) / 4 + 4 / (4 + missed)) / 2


def write_network(folder: pathlib.Path, variant: str) -> None:
    workdirs.write(folder, get_config(f"embedded,variant={variant}"), ("cat",))
    (folder / "checkpoints" / "12").mkdir(parents=True)


def begin(out: pathlib.Path) -> None:
    out.mkdir(exist_ok=True)
    (out / "ablation.json").write_text(json.dumps({"data": "embedded", "flags": []}))


def test_the_papers_tables_have_titles_and_variants():
    assert set(TABLES) == set(ablation_tables.TITLES)
    assert {row.variant for rows in TABLES.values() for row in rows} == set(VARIANTS)


def test_both_sides_stand_in_the_table(tmp_path, capsys):
    begin(tmp_path)
    mious = {}
    for variant, wrongs in {"one_cam": (3, 3), "two_cams": (1, 2)}.items():
        runs = [write_run(tmp_path / variant / str(s), w) for s, w in enumerate(wrongs)]
        mious[variant] = runs
    words = ["--print-only", "--tables=II", "--seeds=0,1", f"--out={tmp_path}"]
    assert ablation.main(words) == 0
    text = capsys.readouterr().out
    assert (tmp_path / "tables.md").read_text() == text
    assert "Not finished: three_cams, seed 0; three_cams, seed 1." in text
    first, second, third = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[-3:]
    ]
    assert first[:2] == ["without hide-and-seek (1 CAM)", "69.80 / 33.04"]
    assert first[2] == f"56.2 / {100 * mious['one_cam'][0]:.1f}"
    low, high = sorted(100 * value for value in mious["two_cams"])
    mean = (low + high) / 2
    assert second[2].endswith(f" / {mean:.1f} ({low:.1f}-{high:.1f})")
    assert second[3] == "75.98 / 36.50" and second[6] == "+1.03"
    assert second[5].startswith("+") and "[" in second[5]
    assert third[2] == third[4] == third[5] == "-" and third[6] == "+0.57"
    found = json.loads((tmp_path / "tables.json").read_text())
    pair = found["tables"]["II"][1]["difference"]["ours"]["before"]["miou"]
    assert pair["value"] == pytest.approx(mean / 100 - mious["one_cam"][0], abs=1e-6)
    assert pair["interval_95"][0] <= pair["value"] <= pair["interval_95"][1]
    own = found["runs"]["two_cams"]["1"]
    assert own["before"]["miou"] == pytest.approx(mious["two_cams"][1])
    assert own["seconds"] == 7 and own["trained_as"] == "" and own["images"] == 4


def test_where_the_paper_has_no_crf_the_difference_is_taken_before_it(tmp_path, capsys):
    begin(tmp_path)
    before = [write_run(tmp_path / name / "0", w) for name, w in (("filter", 2), ("full", 1))]
    assert ablation.main(["--print-only", "--tables=VI", f"--out={tmp_path}"]) == 0
    last = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")]
    assert last[6].startswith(f"{100 * (before[1] - before[0]):+.1f} [")
    assert last[6].endswith("] before the CRF") and last[7] == "+1.89 before the CRF"


def test_the_page_has_the_papers_figures():
    page = (tiny.ROOT / "docs/hide_and_seek.md").read_text()
    for table, rows in TABLES.items():
        for row in rows:
            (line,) = (x for x in page.splitlines() if x.startswith(f"| `{row.variant}` "))
            _, text, before, after, tables = map(str.strip, line.split("|")[1:-1])
            assert text == VARIANTS[row.variant].text and table in tables.split(", ")
            assert before == "{:.2f} / {:.2f}".format(*row.before)
            assert row.after is None or after == "{:.2f} / {:.2f}".format(*row.after)


def runs_of(
    out: pathlib.Path, tables: str, seeds: str = "0", data: str = "embedded"
) -> list[ablation.Run]:
    words = [DATA, f"--tables={tables}", f"--seeds={seeds}", f"--out={out}"]
    return ablation.list_runs(ablation.read_flags(words), data)


def test_what_differs_at_test_time_alone_is_trained_once(tmp_path):
    every = runs_of(tmp_path, "I,II,III,IV,V,VI,VII", "0,1", "voc")
    groups = ablation_runs.share_trainings(every)
    shared = [[run.variant for run in group] for group in groups if len(group) > 1]
    assert shared == [["crf", "filter"]] * 2
    assert all(len({run.seed for run in group}) == 1 for group in groups)
    assert sum(map(len, groups)) == 2 * len(VARIANTS)


def test_a_copied_training_is_scored_by_the_other_variants_fields(tmp_path):
    crf, filtered = runs_of(tmp_path, "V")
    write_network(crf.folder, "crf")
    write_run(crf.folder, 1)
    ablation_runs.copy_training(crf, filtered)
    assert filtered.has_begun() and not filtered.is_finished()
    assert not (filtered.folder / "scores").exists() and crf.is_finished()
    config, _ = workdirs.load(filtered.folder)
    assert (config.hide_and_seek.variant, config.hide_and_seek.filter) == ("filter", "weigh")
    workdirs.claim(filtered.folder, filtered.config, ("cat",))
    assert ablation_runs.trained_as(filtered.folder) == "crf"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((DATA, "--tables=IV,IX"), "no table 'IX'; there are I, II"),
        ((DATA, "--seeds=0,one"), "--seeds=0,one: expected whole numbers"),
        ((DATA, "--jobs=0"), "--jobs=0: expected 1 or more"),
        (("--data=vc",), "no data set 'vc'; did you mean 'voc'?"),
        (("--data=embedded,variant=full",), "no key 'variant'"),
        ((), "--data is missing"),
        (("--print-only",), "nothing was run there"),
        ((DATA, "--job=2"), "--help lists the flags"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, capsys, words, sentence):
    out = tmp_path / "out"
    assert ablation.main([*words, f"--out={out}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and sentence in said and said.count("\n") == 1
    assert not out.exists()


def test_a_folder_keeps_to_its_data_and_flags(tmp_path, capsys, monkeypatch):
    begin(tmp_path)
    monkeypatch.setattr(ablation_runs.Pool, "run", lambda *_: [])
    words = [DATA, "--tables=V", f"--out={tmp_path}"]
    flags = ["--flags=--config.train.devices=1  --config.eval.mean_classes=('a', 'b')"]
    assert ablation.main([*words, *flags]) == 0  # nothing is lost
    found = json.loads((tmp_path / "ablation.json").read_text())
    assert found["flags"] == ["--config.train.devices=1", "--config.eval.mean_classes=('a', 'b')"]
    write_network(tmp_path / "crf" / "0", "crf")
    assert ablation.main(words) == 2
    assert "take another folder, or those" in capsys.readouterr().err
    assert ablation.main([*words, *flags]) == 0


def script(pool, run) -> list[str]:
    """Stands for a run's command: the variant "crf" fails, "two_cams" is as slow as it can be."""
    code = {
        "crf": "import sys; print('error: no photos.', file=sys.stderr); sys.exit(2)",
        "two_cams": "import time; time.sleep(60)",
    }.get(run.variant, f"import pathlib; pathlib.Path({str(run.folder)!r}, 'metrics.json').touch()")
    run.folder.mkdir(parents=True, exist_ok=True)
    return [sys.executable, "-c", code]


def test_a_failed_run_is_told_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ablation_runs.Pool, "_command", script)
    monkeypatch.setattr(ablation, "read_run", lambda folder: {})
    monkeypatch.setattr(ablation, "make_table", lambda name, runs: [])
    words = [DATA, "--tables=V,VI", f"--out={tmp_path}", "--jobs=2"]
    assert ablation.main(words) == 1
    said = capsys.readouterr().err
    assert f"error: crf, seed 0 failed: no photos. (status 2, {tmp_path}/crf/0.log)" in said
    assert "error: filter, seed 0 failed: it shares its training with crf, seed 0" in said
    for name in ("fixed_1000", "fixed_5000", "full"):
        assert f"{name}, seed 0: done in" in said
    found = json.loads((tmp_path / "tables.json").read_text())
    assert found["missing"] == ["crf, seed 0", "filter, seed 0"]
    capsys.readouterr()
    assert ablation.main(words) == 1
    assert "full, seed 0" not in capsys.readouterr().err  # it is finished


def test_ctrl_c_ends_the_runs(tmp_path, capsys, monkeypatch):
    def press(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ablation_runs.Pool, "_command", script)
    monkeypatch.setattr(ablation_runs.Pool, "_tell", press)
    monkeypatch.setattr(ablation_runs, "_TELL", 1.0)
    start = time.monotonic()
    assert ablation.main([DATA, "--tables=IV", f"--out={tmp_path}", "--jobs=2"]) == 130
    assert time.monotonic() - start < 50


@pytest.mark.slow
def test_two_variants_of_one_training(tmp_path, capsys, monkeypatch):
    """The real commands on a few photos: one training, two scorings, one table."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    data = f"voc,root={write_voc(tmp_path / 'voc')},train=train,test=val2,backbone=mobilenet_v2"
    data += ",weights=none,width=0.25,size=64,batch=6,epochs=1"
    own = {"channels": 16, "cam_size": 64, "cam_stride": 8, "early_steps": 0, "conv5": "block_3"}
    model = {"final_endpoint": "block_3", "freeze_until": "", "output_stride": 8}
    fields = {f"hide_and_seek.{name}": value for name, value in own.items()}
    fields |= {f"model.{name}": value for name, value in model.items()}
    flags = [f"--flags=--config.{name}={value}" for name, value in fields.items()]
    out = tmp_path / "out"
    assert ablation.main([f"--data={data}", "--tables=V", f"--out={out}", *flags]) == 0
    assert "filter, seed 0: begins, trained as crf" in capsys.readouterr().err
    steps = [sorted(p.name for p in out.glob(f"{v}/0/checkpoints/*")) for v in ("crf", "filter")]
    assert steps[0] == steps[1] != []
    found = json.loads((out / "tables.json").read_text())
    assert found["missing"] == [] and found["runs"]["filter"]["0"]["trained_as"] == "crf"
    assert "Table V" in (out / "tables.md").read_text()
    assert ablation.main([f"--data={data}", "--tables=V", f"--out={out}", *flags]) == 0
    assert "begins" not in capsys.readouterr().err

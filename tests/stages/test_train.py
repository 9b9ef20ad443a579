"""What a run leaves behind, and that it compiles nothing twice."""

import numpy as np
import pytest
import tiny
from helpers.runs import events

LISTED = (
    *("top1_acc", "top5_acc", "top1_loc", "top5_loc", "top5_star_loc", "gt_known_loc"),
    *("max_box_acc", "max_box_acc_v2", "pxap", "central_box", "gaussian_pxap"),
)


def test_metrics_json():
    figures = tiny.metrics(tiny.finished())
    assert set(figures["test"]) == {"test"}
    listed = figures["test"]["test"]
    assert set(LISTED) <= set(listed)
    for name in LISTED:
        if name in ("pxap", "gaussian_pxap"):  # folders have no masks
            assert listed[name] is None
        else:
            assert 0 <= listed[name] <= 1, name
    assert listed["images"] == 4
    assert 0 <= figures["threshold"] < 1
    assert "tune" in figures["threshold_from"]
    assert figures["steps"] == 11
    assert figures["seconds"] >= figures["train_seconds"] > 0


def test_latest_and_best_are_kept():
    rows = [r for r in tiny.history(tiny.finished()) if "tune/max_box_acc" in r]
    assert [row["step"] for row in rows] == [3, 6, 9, 11]
    # pxap is the metric, but for want of masks max_box_acc decides; of equals the newest is best.
    best = max(rows, key=lambda row: (row["tune/max_box_acc"], row["step"]))["step"]
    kept = {int(path.name) for path in (tiny.finished() / "checkpoints").iterdir()}
    assert kept == {10, 11, best}


def test_report_and_scores():
    page = (tiny.finished() / "report.html").read_text()
    assert "GT-known" in page and "loss" in page and "</html>" in page
    with np.load(tiny.finished() / "scores" / "test.npz", allow_pickle=False) as rows:
        assert len(rows["hits/ids"]) == 4


def test_evaluate_mode_gives_the_same_figures(tmp_path):
    workdir = tiny.copy_finished(tmp_path / "w")
    (workdir / "metrics.json").unlink()
    (workdir / "report.html").unlink()
    done = tiny.run(["--mode=evaluate", f"--workdir={workdir}"])
    assert done.returncode == 0, done.stderr
    before, after = tiny.metrics(tiny.finished()), tiny.metrics(workdir)
    for name in ("test", "tune", "threshold", "steps"):
        assert after[name] == before[name], name
    assert (workdir / "report.html").is_file()


def test_log_is_for_people():
    """The command itself: no warnings of other libraries, plain lines off a terminal."""
    words = tiny.flags(tiny.data(), tiny.finished())
    done = tiny.run(words)  # finished already: it only scores again
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr and "checkpoint_manager" not in done.stderr, done.stderr
    assert "evaluate test: 4/4" in done.stderr
    (said,) = (line for line in done.stderr.splitlines() if line.endswith("compiling ..."))
    assert said.startswith("evaluate ")  # both lists by one program
    assert "report.html" in done.stdout and "GT-known" in done.stdout


def test_tensorboard_events_are_the_history():
    drawn = {
        (event.step, value.tag): value.simple_value
        for event in events(tiny.finished() / "tensorboard")
        for value in event.summary.value
    }
    rows = tiny.history(tiny.finished())
    assert len(rows) == 11 + 4
    for row in rows:
        for name, value in row.items():
            if name != "step":
                assert drawn[int(row["step"]), name] == pytest.approx(value, rel=1e-6)


def test_nothing_compiles_after_the_first_step_and_evaluation(tmp_path):
    done = tiny.run(tiny.flags(tiny.data(), tmp_path), patch="helpers.patches:count_compilations")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("train: compiling ...\n") == 1
    rows = tiny.history(tmp_path)
    steps = {row["step"]: row["compiled"] for row in rows if "train/loss" in row}
    evaluations = {row["step"]: row["compiled"] for row in rows if "tune/top1_acc" in row}
    assert steps[1] > 0, "the event has another name: nothing was counted"
    assert steps[3] == steps[2] == steps[1]
    assert evaluations[3] > steps[3]
    assert steps[11] == evaluations[11] == evaluations[3]


@pytest.mark.slow
def test_worker_processes_change_nothing(tmp_path):
    """The real command, with readers in processes of their own."""
    done = tiny.run_command(tiny.flags(tiny.data(), tmp_path, "--config.data.workers=2"))
    assert done.returncode == 0, done.stderr
    expected, found = tiny.arrays(tiny.finished(), 11), tiny.arrays(tmp_path, 11)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert tiny.history(tmp_path) == tiny.history(tiny.finished())


@pytest.mark.slow
def test_a_resnet_trains_on_the_embedded_data_and_is_reported(tmp_path):
    """By its name alone after the data set: twelve steps, a narrow one."""
    words = "embedded,backbone=resnet50,width=0.125,size=48,epochs=0.2"
    config = f"--config={tiny.ROOT}/configs/cam.py:{words}"
    more = ("--config.train.log_every=1", "--config.eval.gallery=2")
    done = tiny.run([config, f"--workdir={tmp_path}", *more])
    assert done.returncode == 0, done.stderr
    rows = [row for row in tiny.history(tmp_path) if "train/loss" in row]
    assert len(rows) == 12 and all(np.isfinite(row["train/loss"]) for row in rows)
    assert all(0 < row["train/gradient_norm"] < np.inf for row in rows)
    figures = tiny.metrics(tmp_path)["test"]["test"]
    assert figures["images"] == 400
    assert all(0 <= figures[name] <= 1 for name in LISTED)
    page = (tmp_path / "report.html").read_text()
    assert "CAM" in page and "GT-known" in page

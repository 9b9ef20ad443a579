"""history.jsonl and TensorBoard's events of a run that was killed and goes on."""

from helpers.runs import events

from wsol_jax.runs.history import MetricWriter, curves, read_history


def test_history_of_a_run_that_goes_on(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write_scalars(step, {"train/loss": 1.0 / step})
    writer.close()
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')  # killed within a write
    writer = MetricWriter(tmp_path, first_step=2)
    writer.write_scalars(3, {"train/loss": 0.125})
    writer.close()
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2, 3]
    assert curves(tmp_path) == {"train/loss": [(1, 1.0), (2, 0.5), (3, 0.125)]}


def test_tensorboard_forgets_what_a_killed_run_drew(tmp_path):
    writer = MetricWriter(tmp_path, first_step=5)
    writer.write_scalars(6, {"train/loss": 1.0})
    writer.close()
    found = events(tmp_path / "tensorboard")
    assert any(event.session_log.status and event.step == 6 for event in found)

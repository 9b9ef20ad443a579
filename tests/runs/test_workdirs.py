"""What of a config a folder holds its run to, and what may change, as the config itself says."""

import json

import pytest

from configs import cam, mcof, sec, two_phase
from wsol_jax.base.errors import UserError
from wsol_jax.runs import workdirs
from wsol_jax.stages.sections import stage_config


def begun(workdir, config, *without):
    """A folder whose run has saved something; ``without``: fields that it has never heard of."""
    workdirs.write(workdir, config, ("a",))
    (workdir / "checkpoints" / "2").mkdir(parents=True)
    content = json.loads((workdir / "config.json").read_text())
    for name in without:
        del content["config"][name]
    (workdir / "config.json").write_text(json.dumps(content))


def changed(config, **fields):
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return config


_NEWER = ("free", "early", "start", "settled", "before")


@pytest.mark.parametrize("without", [(), _NEWER], ids=["today", "of earlier days"])
def test_a_methods_free_fields_may_differ(tmp_path, without):
    begun(tmp_path, sec.get_config(), *without)
    fields = {"cues.foreground": 0.5, "cues.layer": "conv3_1", "two_phase.voters": ("first",)}
    fields["two_phase.phases"] = 3
    workdirs.claim(tmp_path, changed(sec.get_config(), **fields), ("a",))
    with pytest.raises(UserError, match=r"two_phase\.share_trunk"):
        other = changed(sec.get_config(), **{"two_phase.share_trunk": True})
        workdirs.claim(tmp_path, other, ("a",))


def test_a_field_that_one_of_the_two_calls_free_is_free(tmp_path):
    """Without a segmenter there are no cues: it is that choice which the sentence names."""
    own, other = (
        stage_config(two_phase.get_config(f"voc,segment={choice}"), "first")
        for choice in ("true", "false")
    )
    for number, pair in enumerate(((own, other), (other, own))):
        begun(tmp_path / str(number), pair[0])
        with pytest.raises(UserError, match=r"a run with two_phase\.segment="):
            workdirs.claim(tmp_path / str(number), pair[1], ("a",))


def test_what_a_config_frees_is_its_own(tmp_path):
    begun(tmp_path, cam.get_config())
    workdirs.claim(tmp_path, changed(cam.get_config(), free=("seed",), seed=7), ("a",))
    with pytest.raises(UserError, match=r"seed=0, but this config has 7"):
        workdirs.claim(tmp_path, changed(cam.get_config(), seed=7), ("a",))


@pytest.mark.parametrize("place", ["method", "stage.cues.method"])
def test_a_folder_names_no_code_outside_the_package(tmp_path, monkeypatch, place):
    workdirs.write(tmp_path, changed(sec.get_config(), **{place: "theirs.evil"}), ("a",))
    workdirs.load(tmp_path)  # data
    with pytest.raises(UserError, match=r"config\.json: method 'theirs\.evil' is code outside"):
        workdirs.load_to_run(tmp_path)
    monkeypatch.setenv("WSOL_JAX_TRUST", "mine,theirs")
    config, _ = workdirs.load_to_run(tmp_path)
    assert config.stages


@pytest.mark.parametrize("name", ["history.jsonl", "report.html", "metrics.json", "checkpoints"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds {name}, which would be overwritten"):
        workdirs.write(tmp_path, cam.get_config(), ("a",))
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize("content", ['{"port": 80}', "[]", "mine"])
def test_a_foreign_config_is_left_alone(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        workdirs.write(tmp_path, cam.get_config(), ("a",))
    assert (tmp_path / "config.json").read_text() == content


def test_other_files_beside_a_run_are_nobodys_business(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    workdirs.write(tmp_path, cam.get_config(), ("a",))
    workdirs.write(tmp_path, cam.get_config(), ("a",))


def test_what_was_kept(tmp_path):
    assert workdirs.kept(tmp_path / "gone") == "No checkpoint was saved yet."
    begun(tmp_path / "first", sec.get_config())
    assert "Step 2 in" in workdirs.kept(tmp_path) and "is whole and kept" in workdirs.kept(tmp_path)


@pytest.mark.parametrize(
    ("done", "taken"),
    [
        ((), ""),
        (("first",), "first"),
        (("first", "region_1"), "region_1"),
        (("first", "region_1", "pixel_1", "region_2"), "pixel_1"),
        (("first", "region_1", "pixel_1", "region_2", "pixel_2"), "pixel_2"),
    ],
)
def test_the_network_of_a_run_in_stages(tmp_path, done, taken):
    workdirs.write(tmp_path, mcof.get_config("voc,root=x,backbone=mobilenet_v2,rounds=2"), ("a",))
    for name in done:
        (tmp_path / name / "checkpoints" / "2").mkdir(parents=True)
    assert workdirs.network_folder(tmp_path) == tmp_path / taken

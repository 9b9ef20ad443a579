"""Configs of recipes with labels: what is refused before anything is trained, and what follows."""

import json

import pytest
import tiny

from configs import cam as cam_config
from configs import sec as sec_config
from configs import two_phase as two_phase_config
from wsol_jax.base.errors import UserError
from wsol_jax.runs import workdirs
from wsol_jax.stages import recipe as stages


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
        ({"cues.maps": "nonsense"}, r"'cues' reads maps='nonsense', which is no stage before it"),
        ({"cues.maps": "segment"}, r"stage 'cues' reads maps='segment', which is no stage before"),
        ({"cues.saliency": "cues"}, r"stage 'cues' reads saliency='cues', which is no stage befor"),
        (
            {"stage.cues.labeller": "cue"},
            r"labeller: wsol_jax/methods/sec\.py has no function",
        ),
        (
            {"stage.cues.method": "mine.sec"},
            r"method: 'mine\.sec' names a function of a mod",
        ),
        (
            {"stage.segment.labels": ""},
            r"stage\.segment\.labels: sec trains on labels call",
        ),
        ({"stage.segment.labels": "cues"}, r"labels: expected NAME=STAGE or NAME=STAGE/PRODUCT"),
        ({"stage.segment.labels": "cues=cues,cues=cues"}, r"labels: expected .* each name once"),
        ({"stage.segment.labels": "cues=cues,x=cues"}, r"sec asks for no labels called 'x'"),
        ({"stage.segment.labels": "cues=first"}, r"'first', for 'cues', is no label stage before"),
        ({"stage.segment.labels": "cues=cues/x"}, r"have no product 'x', but cues"),
        ({"eval.stages": ("segment",)}, r"eval\.stages: 'segment' is no training before the last"),
        ({"eval.stages": ("cues",)}, r"eval\.stages: 'cues' is no training before.*: first\."),
        ({"eval.stages": ("first", "first")}, r"eval\.stages: 'first' stands there twice"),
        ({"stages": ("first", "first", "evaluate")}, r"stages: two are called 'first'"),
        ({"cues.layer": "block_99"}, r"cues\.layer: the network has 0 layers named 'block_99'"),
        ({"cues.layer": ""}, r"cues\.layer is empty"),
        ({"cues.layer": "head"}, r"cues\.layer: the network has 0 layers named 'head'"),
        ({"cues.foreground": 1.0}, r"cues\.foreground"),
        ({"cues.size": 0}, r"cues\.size=0: expected a whole number from 1"),
        ({"stage.segment.sec.seed": -1.0}, r"sec\.seed"),
        ({"stage.segment.sec.bilateral": (10.0, 80.0)}, r"sec: bilateral is \(weight, sxy, srgb"),
        (
            {"stage.segment.sec.iterations": -1},
            r"sec\.iterations=-1: expected a whole number from 0",
        ),
        ({"eval.crf.bilateral": (10.0, 80.0)}, r"eval\.crf: bilateral is"),
        ({"eval.mean_classes": ("cow",)}, r"eval\.mean_classes: 'cow' is not one of"),
        ({"stages": ("cues", "evaluate")}, "nothing is trained"),
        ({"stage.segment.reads": ("cues",)}, r"stage\.segment\.reads: 'cues' is no training befo"),
        ({"stage.first.reads": ("second",)}, r"'second' is no training before it: none\."),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        stages.run(tiny_config(**changes), tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_a_later_phase_s_layer_is_told_before_the_first_is_trained(tmp_path):
    config = tiny_config(file=two_phase_config, **{"two_phase.hide_at": "block_99"})
    with pytest.raises(UserError, match=r"two_phase\.hide_at: .*0 layers named .block_99"):
        stages.run(config, tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_segments_of_two_phase_learning_come_after_its_phases():
    config = tiny_config(two_phase_config, ",segment=true")
    assert tuple(config.stages) == ("first", "second", "cues", "segment", "evaluate")
    assert config.cues.maps == "second" and config.cues.saliency == "first"
    own = stages.stage_config(config, "segment")
    assert own.sec.expand == 0 and own.sec.seed == own.sec.constrain == 1
    assert "sec" not in stages.stage_config(config, "second")
    assert own.method == "sec" and own.sec.cells == config.cues.size
    assert own.labels == "cues=cues" and own.labeller == ""
    assert stages.stage_config(config, "second").labels == ""
    assert stages.label_stages(config) == ["cues"]
    assert stages.stage_config(config, "cues").method == "two_phase"
    assert "cues" not in tiny_config(two_phase_config)


def test_the_cells_of_cues_are_one_number():
    """cues.size, set late, is what the segmenter reads."""
    config = tiny_config(**{"cues.size": 7})
    assert stages.stage_config(config, "segment").sec.cells == 7


def test_other_cues_need_no_other_classifier(tmp_path):
    """No training reads the section; the folder of cues and the segmenter's sec.cells hold it."""
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
    with pytest.raises(UserError, match=r"sec\.cells=20.* has 9"):
        workdirs.claim(segment, stages.stage_config(tiny_config(**cues), "segment"), ("a",))


def test_segment_is_written_after_the_configs_path(tmp_path):
    words = tiny.flags(
        tiny.data(), tmp_path / "w", "--config.two_phase.segment=true", method="two_phase"
    )
    done = tiny.run(words)
    assert "write segment=... after the config's path" in tiny.error_sentence(done)


def test_labels_are_scored_where_there_are_some(tmp_path):
    config = tiny_config(two_phase_config, **{"eval.labels": True})
    with pytest.raises(UserError, match=r"eval\.labels: no stage of this run writes labels"):
        stages.run(config, tmp_path)
    with pytest.raises(UserError, match=r"eval\.labels: list 'train' has no masks to score"):
        stages.run(tiny_config(**{"eval.labels": True}), tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("changes", [{"eval.labels": True}, {"eval.stages": ("first",)}])
def test_a_run_of_one_stage_has_nothing_more_to_score(tmp_path, changes):
    config = cam_config.get_config(
        f"folder,root={tiny.data()},backbone=mobilenet_v2,weights=none,width=0.25,size=32,batch=6"
    )
    with config.unlocked():
        config.model.freeze_until = ""
        config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=next(iter(changes))):
        stages.train_and_evaluate(config, tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize(
    "labels, sentence",
    [
        ("", "labels: sec trains on labels called 'cues'"),
        ("cues=cues", "'cues', for 'cues', is no"),
    ],
)
def test_a_training_alone_has_no_labels(tmp_path, labels, sentence):
    own = stages.stage_config(tiny_config(**{"stage.segment.labels": labels}), "segment")
    with pytest.raises(UserError, match=sentence):
        stages.train_and_evaluate(own, tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_runs_of_the_time_of_cues_alone_are_known(tmp_path):
    """Their config.json, as it was written then, means what this config says."""
    config = tiny_config()
    workdirs.write(tmp_path, config, ("a",))
    content = json.loads((tmp_path / "config.json").read_text())
    old = content["config"]
    segment = old["stage"]["segment"]
    for name in ("labels", "labeller", "free", "early"):
        del old[name]
    for name in ("stages", "labels"):
        del old["eval"][name]
    del old["stage"]["cues"], segment["labels"]
    segment["data"]["cues"] = segment["sec"].pop("cells")
    old["data"]["cues"] = 0
    (tmp_path / "config.json").write_text(json.dumps(content))
    found, _ = workdirs.load(tmp_path)
    # What is asked of the command line is the command's alone.
    assert workdirs._flat(found) | {"early": list(config.early)} == workdirs._flat(config)
    own = workdirs._flat(stages.stage_config(found, "segment")) | {"early": list(config.early)}
    assert own == workdirs._flat(stages.stage_config(config, "segment"))


def test_a_stage_of_that_time_is_gone_on_with(tmp_path):
    own = stages.stage_config(tiny_config(), "segment")
    workdirs.write(tmp_path, own, ("a",))
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    content = json.loads((tmp_path / "config.json").read_text())
    old = content["config"]
    old["data"]["cues"] = old["sec"].pop("cells")
    del old["labels"], old["labeller"], old["free"], old["early"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    workdirs.claim(tmp_path, own, ("a",))

"""What of a config a folder holds its run to, and what may change, as the config itself says."""

import json

import pytest

from configs import cam, sec, two_phase
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

"""What a folder decides of its config: once, when a run begins."""

import json

import pytest
from helpers import own_data

from configs import cam, two_phase
from wsol_jax.base.errors import UserError
from wsol_jax.runs import workdirs
from wsol_jax.runs.data_choices import choose


@pytest.fixture
def root(tmp_path):
    own_data.several_labels(tmp_path / "photos")
    return tmp_path / "photos"


def _begun(workdir, config, names=("cat", "dog")):
    workdirs.write(workdir, config, names)
    (workdir / "checkpoints" / "2").mkdir(parents=True)


def test_the_data_decide(root):
    config = cam.get_config(f"folder,root={root}")
    chosen = choose(config)
    assert (chosen.data.layout, chosen.data.multi_label) == ("table", True)
    assert (config.data.layout, config.data.multi_label) == ("auto", None)
    (root / "labels.csv").unlink()
    chosen = choose(config)
    assert (chosen.data.layout, chosen.data.multi_label) == ("folders", False)


def test_a_key_says_otherwise(root):
    config = choose(cam.get_config(f"folder,root={root},multi_label=true,layout=folders"))
    assert (config.data.layout, config.data.multi_label) == ("folders", True)
    for method in (cam, two_phase):
        config = choose(method.get_config(f"folder,root={root},backbone=mobilenet_v2"))
        assert config.data.multi_label is True


def test_other_data_sets_have_nothing_to_decide():
    for name in ("embedded", "cub", "voc,root=VOC", "ilsvrc,root=ILSVRC"):
        config = cam.get_config(name)
        assert choose(config) is config and config.data.multi_label is False


def test_a_run_goes_on_with_what_it_decided(root, tmp_path):
    config = cam.get_config(f"folder,root={root},layout=folders")
    _begun(tmp_path / "w", choose(config))
    later = cam.get_config(f"folder,root={root}")
    assert choose(later).data.layout == "table"
    assert choose(later, tmp_path / "w").data.layout == "folders"
    workdirs.claim(tmp_path / "w", choose(later, tmp_path / "w"), ("cat", "dog"))
    other = cam.get_config(f"folder,root={root},layout=table")
    with pytest.raises(UserError, match=r"data.layout='folders', but this config has 'table'"):
        workdirs.claim(tmp_path / "w", choose(other, tmp_path / "w"), ("cat", "dog"))


@pytest.mark.parametrize("name", ["folder", "cub"])
def test_a_run_of_earlier_days_reads_its_folder_as_it_did(root, tmp_path, name):
    config = cam.get_config(f"{name},root={root}")
    with config.unlocked():
        config.data.multi_label = False
    _begun(tmp_path / "w", config)
    content = json.loads((tmp_path / "w/config.json").read_text())
    for field in ("layout", "coco", "masks", "strict"):
        del content["config"]["data"][field]
    (tmp_path / "w/config.json").write_text(json.dumps(content))
    found = choose(cam.get_config(f"{name},root={root}"), tmp_path / "w")
    assert found.data.layout == ("flat" if name == "folder" else "auto")
    assert found.data.multi_label is False
    workdirs.claim(tmp_path / "w", found, ("cat", "dog"))

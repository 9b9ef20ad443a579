"""The words after a config's path: what they set, and what they refuse, each in a sentence."""

import jax
import jax.numpy as jnp
import pytest

from configs import cam, cams2i, keywords, spg, two_phase
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.data import sources
from wsol_jax.networks import backbones
from wsol_jax.networks.backbones import table
from wsol_jax.runs.plan import Plan
from wsol_jax.runs.state import learning_rate

FILES = {"cam": cam, "spg": spg, "cams2i": cams2i}

# A value for every key, as typed, and what the field then holds.
VALUES = {
    "root": ("some/folder", "some/folder"),
    "train": ("mine", "mine"),
    "tune": ("mine_tune", "mine_tune"),
    "test": ("a+b", "a+b"),
    "boxes": ("boxes.csv", "boxes.csv"),
    "labels": ("cls_labels.npy", "cls_labels.npy"),
    "coco": ("annotations.json", "annotations.json"),
    "masks": ("some/masks", "some/masks"),
    "layout": ("table", "table"),
    "multi_label": ("true", True),
    "strict": ("false", False),
    "parts": ("2", 2),
    "backbone": ("mobilenet_v2", "mobilenet_v2"),
    "weights": ("W.npz", "W.npz"),
    "width": ("0.25", 0.25),
    "output_stride": ("8", 8),
    "size": ("160", 160),
    "batch": ("4", 4),
    "accumulate": ("2", 2),
    "epochs": ("0.5", 0.5),
    "lr": ("1e-4", 1e-4),
    "seed": ("7", 7),
    "dtype": ("bfloat16", "bfloat16"),
    "recipe": ("paper", "paper"),  # "released": test_spg_config.py
}


def field(config, path):
    for name in path.split("."):
        config = config[name]
    return config


def test_every_key_has_a_case_here():
    assert VALUES.keys() == keywords.KEYS.keys()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("dataset", sources.DATASETS)
@pytest.mark.parametrize("key", VALUES)
def test_every_key_sets_its_field(file, dataset, key):
    text, value = VALUES[key]
    config = FILES[file].get_config(f"{dataset},{key}={text}")
    found = field(config, keywords.KEYS[key])
    assert found == value and type(found) is type(value)
    assert config.data.name == dataset and config.method == file


@pytest.mark.parametrize("file", FILES)
def test_all_keys_at_once(file):
    words = ",".join(f"{key}={text}" for key, (text, _) in VALUES.items())
    config = FILES[file].get_config(f"voc,{words}")
    for key, (_, value) in VALUES.items():
        assert field(config, keywords.KEYS[key]) == value, key


@pytest.mark.parametrize("file", FILES)
def test_bare_is_cub_with_the_papers_recipe(file):
    config = FILES[file].get_config()
    assert config == FILES[file].get_config("") == FILES[file].get_config("cub")
    data, train, optimizer = config.data, config.train, config.optimizer
    assert (data.name, data.train, data.tune, data.test) == ("cub", "fit", "tune", "test")
    # SPG, section 4.1 and 3.3: 256, crop 224, batch 30, SGD .9, decay 5e-4, lr 1e-3 and x10.
    assert (data.resize, data.resize_mode, data.crop) == (256, "warp", 224)
    assert train.batch_size == 30
    assert (optimizer.backbone_lr, optimizer.head_lr) == (1e-3, 1e-2)
    assert (optimizer.momentum, optimizer.weight_decay, optimizer.nesterov) == (0.9, 5e-4, False)
    # CAMs2i, section 3.4: "decay of 0.95 each epoch".
    decay = {"cams2i": (1, 0.95)}.get(file, (10, 0.1))
    assert optimizer.schedule == "step"
    assert (optimizer.decay_epochs, optimizer.decay_factor) == decay
    assert config.model.backbone == ("inception_v3" if file == "spg" else "vgg16")
    # SPG, section 3.3, CAMs2i, section 3.4: class scores averaged over ten crops.
    assert config.eval.ten_crop
    # CAMs2i, table 6.
    assert config.eval.threshold == (0.6 if file == "cams2i" else -1)


@pytest.mark.parametrize("file", FILES)
def test_the_papers_score_all_of_ilsvrcs_validation_images(file):
    get = FILES[file].get_config
    config = get("ilsvrc")
    assert (config.data.tune, config.data.test, config.eval.ten_crop) == ("val_tune", "val", True)
    assert config.eval.threshold == (0.7 if file == "cams2i" else -1)
    assert get("ilsvrc,test=val_rest").data.test == "val_rest"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("dataset", sources.DATASETS)
def test_a_run_may_have_no_tune_list(file, dataset):
    config = FILES[file].get_config(f"{dataset},tune=none")
    assert config.data.tune == ""
    assert config.data.train and config.data.test


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("voc,sede=3", "no key 'sede'; did you mean 'seed'\\?"),
        ("voc,qqqq=3", "no key 'qqqq'; expected root, train, "),
        ("vocs", "no data set 'vocs'; did you mean 'voc'\\?"),
        ("7", "no data set '7'; expected .*embedded"),
        ("voc,seed=0,epochs=3,seed=1", "the key 'seed' stands twice after the data set\\."),
        ("voc,seed", "'seed' after the data set should read key=value"),
    ],
)
def test_what_cannot_be_read_after_a_config_is_refused(arg, message):
    with pytest.raises(UserError, match=message):
        spg.get_config(arg)


def test_the_threshold_of_cams2i_is_the_papers_the_tune_lists_or_a_number():
    chosen = lambda arg: cams2i.get_config(arg).eval.threshold
    assert chosen("cub,threshold=paper") == chosen("cub") == 0.6
    assert chosen("ilsvrc,threshold=paper") == chosen("ilsvrc") == 0.7
    assert chosen("cub,threshold=tune") == chosen("embedded") == chosen("voc") == -1
    assert chosen("voc,threshold=0.3") == 0.3
    refused = {
        "voc,threshold=paper": "the paper has one for cub and ilsvrc, none for voc",
        "cub,threshold=high": "expected a number",
        "cub,threshold=1": "below 1",
    }
    for arg, words in refused.items():
        with pytest.raises(UserError, match=words):
            chosen(arg)


@pytest.mark.parametrize(
    ("words", "name", "endpoint", "stride"),
    [
        ("cub", "alexnet", "fc7", 32),
        ("cub,features=squeezenet", "squeezenet", "fire9", 16),
        ("voc,backbone=mobilenet_v2", "mobilenet_v2", "Conv_1", 32),
        ("voc,backbone=mobilenet_v2,features=squeezenet", "squeezenet", "fire9", 16),
    ],
)
def test_what_compares_images_ends_where_its_backbone_does(words, name, endpoint, stride):
    features = cams2i.get_config(words).features
    found = features.backbone, features.final_endpoint, features.output_stride
    assert found == (name, endpoint, stride)
    network = backbones.build(features.copy_and_resolve_references())
    shape = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    made = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x)[0], shape)
    assert endpoint in made  # a stride that the trunk lacks would be refused


def test_a_backbone_that_compares_images_must_be_one():
    with pytest.raises(UserError, match="no backbone 'alexnot'; did you mean 'alexnet'"):
        cams2i.get_config("cub,features=alexnot")


def test_the_rate_of_cams2i_falls_after_each_epoch_of_ilsvrc():
    """Section 3.4, in the steps of 1,281,167 images: what the config's docstring says."""
    config = cams2i.get_config("ilsvrc")
    plan = Plan.of(config.train, 1_281_167, sharding.data_mesh(1))
    assert (plan.steps_per_epoch, plan.num_steps) == (42_706, 128_117)
    factor = learning_rate(config.optimizer, plan.num_steps, plan.steps_per_epoch)
    steps = (0, 42_705, 42_706, 85_411, 85_412, plan.num_steps - 1)
    rates = [config.optimizer.backbone_lr * float(factor(step)) for step in steps]
    assert rates == pytest.approx([1e-3, 1e-3, 9.5e-4, 9.5e-4, 9.025e-4, 9.025e-4], rel=1e-6)


@pytest.mark.parametrize("dataset", ["cub", "ilsvrc"])
@pytest.mark.parametrize("backbone", table.BACKBONES)
def test_cam_and_spg_differ_in_the_method_alone(dataset, backbone):
    """The papers' recipes; on small data each method has learning rates of its own."""
    one, other = (
        file.get_config(f"{dataset},backbone={backbone}").to_dict() for file in (cam, spg)
    )
    other.pop("spg")
    for part in ("branch", "guide"):
        assert other["optimizer"].pop(f"{part}_lr") == one["optimizer"]["head_lr"]
    assert (one.pop("method"), other.pop("method")) == ("cam", "spg")
    assert one == other


def test_spg_b_follows_the_heads_rate_until_it_is_set():
    config = spg.get_config("cub")
    config.optimizer.head_lr = 0.5
    assert config.optimizer.branch_lr == 0.5
    config.optimizer.branch_lr = 0.25
    assert (config.optimizer.head_lr, config.optimizer.branch_lr) == (0.5, 0.25)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("dataset", sources.DATASETS)
@pytest.mark.parametrize("backbone", table.BACKBONES)
def test_every_backbone_goes_with_every_data_set(file, dataset, backbone):
    """The endpoints that a config names exist on its backbone."""
    import jax
    import jax.numpy as jnp

    config = FILES[file].get_config(f"{dataset},backbone={backbone},width=0.1")
    trunk = backbones.build(config.model)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    endpoints = jax.eval_shape(lambda x: trunk.init_with_output(jax.random.key(0), x)[0], images)
    assert (config.model.endpoint or config.model.final_endpoint) in endpoints
    if file == "spg":
        assert {config.spg.b1_endpoint, config.spg.b2_endpoint} <= endpoints.keys()
    if file == "cams2i":
        assert config.cams2i.endpoint_2 in endpoints
        f = backbones.build(config.features)
        found = jax.eval_shape(lambda x: f.init_with_output(jax.random.key(0), x)[0], images)
        assert config.features.final_endpoint in found


def test_whose_weights_compare_images():
    """CAMs2i's second trunk: ImageNet's, those of the same backbone, or none at all."""
    weights = lambda arg: cams2i.get_config(arg).features.weights
    assert weights("cub") == weights("cub,weights=W.h5") == "imagenet"
    assert weights("voc,backbone=mobilenet_v2,weights=W.npz") == "W.npz"
    assert weights("cub,weights=none") == "none" and weights("embedded") == ""


def test_sizes_keep_the_recipes_proportion():
    """A crop is never larger than the image that it is cut from, and no keyhole in it either."""
    for size in (112, 160, 299, 321):
        config = cam.get_config(f"cub,size={size}")
        assert config.data.resize == pytest.approx(size * 256 / 224, abs=1)
    assert cam.get_config("embedded,size=64").data.resize == 64


MISTAKES = {
    "embeded": "'embedded'",
    "CUB": "cub",
    "voc,rot=x": "'root'",
    "voc,bach=3": "'batch'",
    "voc,backbone=mobilenet": "'mobilenet_v2'",
    "voc,backbone=vgg19": "'vgg16'",
    "cub,recipe=relased": "'released'",
    "voc,recipe=": "recipe",
    "voc,batch": "key=value",
    "voc,batch=ten": "whole number",
    "voc,batch=2.5": "whole number",
    "voc,batch=": "whole number",
    "voc,width=wide": "a number",
    "voc,output_stride=x": "whole number",
    "cub,seed=1e3": "whole number",
    "voc,=3": "key",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("arg, said", MISTAKES.items())
def test_mistakes_are_refused_with_the_nearest_name(file, arg, said):
    with pytest.raises(UserError) as error:
        FILES[file].get_config(arg)
    assert said in str(error.value)


@pytest.mark.parametrize("file", FILES)
def test_a_misspelt_field_is_refused(file):
    """What ``--config.field=value`` writes to: a locked config that names the nearest field."""
    config = FILES[file].get_config("embedded")
    with pytest.raises(AttributeError, match="weight_decay"):
        config.optimizer.weight_decy = 0.1
    with pytest.raises(KeyError, match="crop"):
        config.data["crp"] = 3
    with pytest.raises(TypeError):
        config.train.batch_size = "four"


def test_an_override_on_the_command_line(monkeypatch):
    """The flags' own parser: the override reaches the field, a typo is refused and named."""
    import sys

    from absl import flags
    from ml_collections import config_flags

    def parse(arg, *words):
        monkeypatch.setattr(sys, "argv", ["prog", f"--config=configs/spg.py:{arg}", *words])
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", None, "", lock_config=True, flag_values=values)
        values(sys.argv)
        return values["config"].value

    config = parse("embedded,batch=4", "--config.train.epochs=0.5", "--config.spg.thresholds=paper")
    assert config.train.epochs == 0.5 and config.spg.thresholds == "paper"
    assert config.train.batch_size == 4
    with pytest.raises((AttributeError, KeyError), match="epochs"):
        parse("embedded", "--config.train.epoch=0.5")
    with pytest.raises(UserError, match="batch"):
        parse("embedded,bach=4")


@pytest.mark.parametrize("file", [cam, cams2i, spg, two_phase], ids=lambda file: file.__name__)
def test_a_field_that_comes_too_late_has_a_key_of_its_last_name(file):
    config, keys = file.get_config(), keywords.KEYS | getattr(file, "KEYS", {})
    assert {"recipe", "model.backbone"} <= set(config.early)
    for path in config.early:
        assert keys[path.rpartition(".")[2]] == path
        field(config, path)

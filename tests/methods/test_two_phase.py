"""Two-phase learning on a tiny network: suppression, voting and losses from the equations."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import BATCH, FLAT_RATE, IMAGES, KEY, SIDE, assert_trees_equal, sigmoid

from configs import two_phase as two_phase_config
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.methods import two_phase
from wsol_jax.networks.heads import FcnHead
from wsol_jax.runs import plan as assemble
from wsol_jax.runs.state import learning_rate, optimizer
from wsol_jax.stages import recipe as stages

PHASES = ("first", "second", "third")
SHARES = (0.6, 0.4)
MULTI = dict(BATCH, labels=np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [1, 0, 1, 0, 1], [0] * 5]))
MULTI["labels"] = MULTI["labels"].astype(np.float32)
PLAIN = {"model.dropout": 0.0}
# These networks take longer to compile than to run.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def tiny(phase="second", words="", **changes):
    """Three narrow layers of VGG16 under either head, 8x8: the config of one phase's stage."""
    config = two_phase_config.get_config(
        f"cub,phases=3,backbone=vgg16,weights=none,width=0.1,size=32,output_stride=8{words}"
    )
    with config.unlocked():
        config.two_phase.head, config.model.head_layers = "cam", 1
        config.model.final_endpoint, config.model.head_channels = "conv2_1", 16
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.model.preprocessing = "tf"
        config.dtype = "float32"
        config.update_from_flattened_dict(changes)
    return stages.stage_config(config, phase)


def network_of(config):
    backbone, head = two_phase._parts(config, 5)
    return two_phase.TwoPhaseNetwork(backbone, head, config.model.final_endpoint, "tf")


def spread(variables, scale=300.0, bias=0.0):
    """Class maps that differ, of both signs: fresh ones are all but flat."""
    head = dict(variables["params"]["head"])
    head["class_maps"] = {"kernel": head["class_maps"]["kernel"] * scale}
    if "bias" in variables["params"]["head"]["class_maps"]:
        head["class_maps"]["bias"] = jnp.full((5,), bias)
    return {**variables, "params": {**variables["params"], "head": head}}


@functools.cache
def trained():
    """A network for each phase."""
    network = network_of(tiny())
    start = quick(lambda key: network.init({"params": key}, jnp.asarray(IMAGES)))
    return {name: spread(start(jax.random.key(i))) for i, name in enumerate(PHASES)}


@functools.cache
def compiled():
    """As a network is used: no batch statistics move, nothing is dropped."""
    network = network_of(tiny())
    return quick(lambda v, keep=None: network.apply(v, jnp.asarray(IMAGES), keep=keep))


def outputs(variables, keep=None):
    """Logits and raw maps."""
    return [np.asarray(x, np.float64) for x in compiled()(variables, keep)]


class Made:
    """A phase's method, what each phase trained, and its compiled loss and gradient."""

    def __init__(self, phase, **changes):
        self.config = tiny(phase, **changes)
        self.method = methods.build(self.config, 5)
        self.each = {name: trained()[name] for name in PHASES[: PHASES.index(phase) + 1]}
        self.own = self.each.pop(phase)
        self.variables = {**self.own, **self.each}

        def total(variables, batch):
            return self.method.loss(variables, batch, KEY, jnp.asarray(3))

        self.loss = quick(total)
        self._call = quick(jax.value_and_grad(total, has_aux=True))

    def __call__(self, batch=BATCH, **variables):
        return self._call({**self.variables, **variables}, batch)

    def mask(self, labels, shares=SHARES):
        """Eqs. 1 and 2 on the raw maps of every earlier network."""
        keep = np.ones((len(labels), 8, 8))
        for name, share in zip(self.each, shares, strict=False):
            _, maps = outputs(self.each[name])
            for n, c in np.argwhere(labels > 0):
                one = maps[n, :, :, c]
                if one.max() > 0:
                    keep[n][one > share * one.max()] = 0
        return keep


@pytest.fixture(scope="module")
def built():
    """Phases, made once."""
    found = {}

    def get(phase="second", **changes):
        name = (phase, *sorted(changes.items()))
        if name not in found:
            found[name] = Made(phase, **changes)
        return found[name]

    return get


def softmax_loss(logits, batch):
    logits, y = logits - logits.max(axis=1, keepdims=True), batch["labels"]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    share = y / np.maximum(y.sum(axis=1, keepdims=True), 1)
    return -(log_p * share).sum(axis=1)[batch["valid"]].mean()


def sigmoid_loss(logits, batch):
    y = batch["labels"]
    each = y * np.logaddexp(0, -logits) + (1 - y) * np.logaddexp(0, logits)
    return each.sum(axis=1)[batch["valid"]].mean()


# ---------------------------------------------------------------- the published network


def published_shapes(words="voc,weights=none"):
    config = stages.stage_config(two_phase_config.get_config(words), "second")
    method = methods.build(config, 20)
    side = config.data.crop
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    return method, variables, jax.eval_shape(method.localize, variables, images)


def test_published_network():
    """facts/segmentation.md, 1: 321 -> 161 -> 81 -> 41; conv6, conv7 of 1024; FC-20, no bias."""
    method, variables, found = published_shapes()
    assert found.maps.shape == (2, 41, 41, 20) and found.logits.shape == (2, 20)
    assert {name: maps.shape for name, maps in found.parts.items()} == {
        "first": (2, 41, 41, 20),
        "second": (2, 41, 41, 20),
    }
    params = variables["params"]
    shapes = jax.tree.map(lambda x: x.shape, params["head"])
    assert shapes == {
        "conv6": {"kernel": (3, 3, 512, 1024), "bias": (1024,)},
        "conv7": {"kernel": (3, 3, 1024, 1024), "bias": (1024,)},
        "class_maps": {"kernel": (1, 1, 1024, 20)},
    }
    # The 13 layers of VGG16: kernels and biases.
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    trunk = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    head = (9 * 512 * 1024 + 1024) + (9 * 1024 * 1024 + 1024) + 1024 * 20
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    assert count(params) == trunk + head == 14_714_688 + 14_178_304
    assert count(variables) == 2 * count(params)  # and those of the first
    assert_trees_equal_shapes(variables["first"], {"params": params})
    labels = method.param_groups(params)
    assert labels["head"] == {
        "conv6": {"kernel": "head/kernel", "bias": "head/bias"},
        "conv7": {"kernel": "head/kernel", "bias": "head/bias"},
        "class_maps": {"kernel": "classifier/kernel"},
    }
    assert {x.split("/")[0] for x in jax.tree.leaves(labels["backbone"])} == {"backbone"}


def assert_trees_equal_shapes(one, other):
    assert jax.tree.map(lambda x: x.shape, one) == jax.tree.map(lambda x: x.shape, other)


def test_published_budget():
    """Sections 3.1, 3.3 to 3.5: 8,000 steps of 15 at 1e-3, a tenth of it every 2,000."""
    config = two_phase_config.get_config("voc,weights=none")
    assert config.data.train == "trainaug" and config.data.multi_label
    assert (config.data.resize, config.data.crop) == (321, 321)
    assert tuple(config.stages) == ("first", "second", "evaluate")
    assert tuple(config.two_phase.shares) == (0.6, 0.4)
    third = two_phase_config.get_config("voc,phases=3")
    assert tuple(third.stages) == (*PHASES, "evaluate")
    for index, name in enumerate(PHASES):
        own = stages.stage_config(third, name)
        assert tuple(own.reads) == tuple(own.two_phase.suppressors) == PHASES[:index]
    plan = assemble.Plan.of(config.train, 10582, jax.sharding.Mesh(jax.devices()[:1], "data"))
    assert (plan.batch_size, plan.num_steps) == (15, 8000)
    schedule = learning_rate(config.optimizer, plan.num_steps, plan.steps_per_epoch)
    found = [float(schedule(i)) for i in (0, 1999, 2000, 3999, 4000, 6000, 7999)]
    np.testing.assert_allclose(found, [1, 1, 0.1, 0.1, 0.01, 1e-3, 1e-3], rtol=1e-5)


def test_the_classifier_learns_at_its_own_rate():
    """Caffe's lr_mult of 10 on the FC layer, and none of the others."""
    config = stages.stage_config(two_phase_config.get_config("voc,weights=none"), "first")
    params = {
        "backbone": {"conv1_1": {"kernel": np.zeros((3, 3, 3, 4)), "bias": np.zeros(4)}},
        "head": {
            "conv6": {"kernel": np.zeros((3, 3, 4, 4)), "bias": np.zeros(4)},
            "class_maps": {"kernel": np.zeros((1, 1, 4, 5))},
        },
    }
    labels = methods.build(config, 5).param_groups(params)
    tx = optimizer(config.optimizer, labels, lambda step: 1.0)
    ones = jax.tree.map(lambda x: jnp.ones(x.shape), params)
    found, _ = tx.update(ones, tx.init(params), params)
    moved = jax.tree.map(lambda x: float(x.mean()), found)
    np.testing.assert_allclose(moved["head"]["class_maps"]["kernel"], -1e-2, rtol=1e-6)
    for tree in (moved["head"]["conv6"], moved["backbone"]):
        np.testing.assert_allclose(jax.tree.leaves(tree), -1e-3, rtol=1e-6)


def convolved(x, kernel, bias):
    """3x3, zeros around, in float64."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return bias + sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def test_head_equals_the_layers_by_hand():
    """conv6 with ReLU, conv7 without; the average of conv7 through an FC layer without bias."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 5, 4, 3))
    shapes = {"conv6": ((3, 3, 3, 6), (6,)), "conv7": ((3, 3, 6, 6), (6,))}
    params = {
        n: {"kernel": rng.normal(size=k), "bias": rng.normal(size=b)}
        for n, (k, b) in shapes.items()
    }
    fc = rng.normal(size=(6, 4))
    conv6 = np.maximum(convolved(x, **params["conv6"]), 0)
    conv7 = convolved(conv6, **params["conv7"])
    assert (conv7 < 0).any() and (conv6 == 0).any()
    params["class_maps"] = {"kernel": fc[None, None]}
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    logits, maps, features = FcnHead(4, 6, 0.5).apply(
        {"params": single}, jnp.asarray(x, jnp.float32)
    )
    np.testing.assert_allclose(features, conv7, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits, conv7.mean(axis=(1, 2)) @ fc, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(maps, conv7 @ fc, rtol=1e-4, atol=1e-4)  # raw and signed


def test_head_drops_behind_both_layers_in_training_alone():
    head = FcnHead(4, 64, 0.5)
    x = jnp.ones((1, 3, 3, 2))
    params = jax.eval_shape(head.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda x: jnp.ones(x.shape), params)
    _, _, sure = head.apply({"params": params}, x)
    assert (sure > 0).all()
    _, _, features = head.apply(
        {"params": params}, x, train=True, rngs={"dropout": jax.random.key(1)}
    )
    zero = np.asarray(features == 0)
    assert 0.4 < zero.mean() < 0.6  # behind conv7
    # Behind conv6 as well: its dropped channels make the others' sums differ from place to place.
    assert len(np.unique(features[0, 1, 1][~zero[0, 1, 1]])) == 1
    assert not np.allclose(2 * sure[~zero], features[~zero])


@pytest.mark.parametrize("head", ["fcn", pytest.param("cam", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backbone", ["mobilenet_v2", "inception_v3"])
def test_every_backbone_runs_by_config_alone(backbone, head):
    words = f"cub,backbone={backbone},weights=none,width=0.1,size=64"
    config = two_phase_config.get_config(words)
    with config.unlocked():
        config.two_phase.head, config.model.head_channels = head, 16
        config.model.batch_norm = "batch"
    config = stages.stage_config(config, "second")
    method = methods.build(config, 5)
    images = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    found = jax.eval_shape(method.localize, variables, images)
    assert found.maps.shape == (4, 8, 8, 5) and set(found.parts) == {"first", "second"}
    batch = {
        k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in dict(BATCH, image=images).items()
    }
    loss, aux = jax.eval_shape(method.loss, variables, batch, jax.random.key(0), 0)
    assert loss.shape == () and set(aux.collections) == {"batch_stats"}
    assert_trees_equal_shapes(aux.collections["batch_stats"], variables["batch_stats"])
    assert aux.pictures["hidden"].shape == (4, 64, 64)
    method.param_groups(variables["params"])


@pytest.mark.parametrize("dataset", ["cub", "ilsvrc", "folder", "voc", "embedded"])
def test_every_data_set_trains_on_its_own_list(dataset):
    """Of all of them VOC alone has a list trainaug, and several labels an image."""
    config = two_phase_config.get_config(dataset)
    assert config.data.train == {"cub": "fit", "voc": "trainaug"}.get(dataset, "train")
    assert config.data.multi_label == (dataset == "voc")


# ---------------------------------------------------------------- suppression


class Tapped(nn.Module):
    """A trunk whose endpoint can be perturbed: the way to dL/dC (eq. 4)."""

    trunk: nn.Module
    endpoint: str

    @nn.compact
    def __call__(self, images, train=False, mask=None):
        found = dict(self.trunk(images, train=train, mask=mask))
        found[self.endpoint] = self.perturb("features", found[self.endpoint])
        return found


@pytest.mark.parametrize("head", ["fcn", pytest.param("cam", marks=pytest.mark.slow)])
def test_suppressed_pixels_get_neither_a_value_nor_a_gradient(head):
    """Eqs. 3 and 4: dL/dC is the mask times dL/dC', which the head alone gives."""
    config = tiny(**{"two_phase.head": head})
    backbone, top = two_phase._parts(config, 5)
    network = two_phase.TwoPhaseNetwork(Tapped(backbone, "conv2_1"), top, "conv2_1", "tf")
    rng = np.random.default_rng(0)
    keep = jnp.asarray(rng.integers(0, 2, (2, 8, 8)), jnp.float32)
    images = jnp.asarray(IMAGES[:2])
    weights = jnp.asarray(rng.normal(size=(2, 5)), jnp.float32)
    variables = quick(lambda: network.init(jax.random.key(0), images))()

    @quick
    def both(variables):
        def loss(taps, keep):
            logits, _ = network.apply({**variables, "perturbations": taps}, images, keep=keep)
            return jnp.sum(logits * weights)

        taps = variables["perturbations"]
        rest = {k: v for k, v in variables.items() if k != "perturbations"}
        x = backbone.apply(
            {k: v["backbone"]["trunk"] for k, v in rest.items() if "backbone" in v},
            two_phase.normalise(images, "tf"),
        )
        x = x["conv2_1"] * keep[..., None]
        below = lambda x: jnp.sum(top.apply({"params": rest["params"]["head"]}, x)[0] * weights)
        return jax.grad(loss)(taps, keep), jax.grad(loss)(taps, None), jax.grad(below)(x)

    with_mask, without, of_head = both(variables)
    (found,), (free,) = jax.tree.leaves(with_mask), jax.tree.leaves(without)
    hidden = np.asarray(keep) == 0
    np.testing.assert_array_equal(np.asarray(found)[hidden], 0)
    assert (np.abs(np.asarray(found)[~hidden]).max(axis=-1) > 0).all()
    assert (np.abs(np.asarray(free)[hidden]).max(axis=-1) > 0).all()
    expected = np.asarray(of_head) * ~hidden[..., None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)


def test_loss_hides_what_the_first_network_lights(built):
    """first.apply -> eqs. 1 and 2 in float64 -> the second on what is left -> cross-entropy."""
    made = built(**PLAIN)
    (loss, aux), _ = made()
    keep = made.mask(BATCH["labels"])
    valid = BATCH["valid"]
    hidden = (1 - keep).mean(axis=(1, 2))
    assert 0.01 < hidden[valid].mean() < 0.99
    np.testing.assert_allclose(aux.metrics["suppressed"], hidden[valid].mean(), rtol=1e-6)
    logits, _ = outputs(made.own, jnp.asarray(keep, jnp.float32))
    np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)
    free, _ = outputs(made.own)
    assert abs(softmax_loss(free, BATCH) - loss) > 1e-3
    times = SIDE // 8
    picture = np.asarray(aux.pictures["hidden"])
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, (1 - keep).repeat(times, 1).repeat(times, 2))


def test_several_labels_hide_more_and_learn_by_the_sigmoid(built):
    made = built(**PLAIN, **{"data.multi_label": True})
    loss, aux = made.loss(made.variables, MULTI)
    keep = made.mask(MULTI["labels"])
    valid = MULTI["valid"]
    one = np.eye(5)[MULTI["labels"].argmax(axis=1)]
    assert keep[valid].sum() < made.mask(one)[valid].sum()
    expected = (1 - keep).mean(axis=(1, 2))[valid].mean()
    np.testing.assert_allclose(aux.metrics["suppressed"], expected, rtol=1e-6)
    logits, _ = outputs(made.own, jnp.asarray(keep, jnp.float32))
    np.testing.assert_allclose(loss, sigmoid_loss(logits, MULTI), rtol=1e-5)
    hit = MULTI["labels"][np.arange(4), logits.argmax(axis=1)]
    assert aux.metrics["accuracy"] == pytest.approx(hit[valid].mean())


def test_the_first_network_looks_as_in_inference(built):
    """While the second trains with dropout and moving statistics, the first has neither."""
    made = built(**{"model.dropout": 0.5, "model.batch_norm": "batch"})
    (_, aux), gradient = made()
    expected = (1 - made.mask(BATCH["labels"])).mean(axis=(1, 2))[BATCH["valid"]].mean()
    np.testing.assert_allclose(aux.metrics["suppressed"], expected, rtol=1e-6)
    assert set(aux.collections) == {"batch_stats"}
    moved = jax.tree.map(
        lambda a, b: (a != b).any(), aux.collections["batch_stats"], made.own["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))
    # And even without the optimizer's leave nothing would move it.
    assert not any(x.any() for x in jax.tree.leaves(gradient["first"]))
    assert np.abs(gradient["params"]["head"]["class_maps"]["kernel"]).max() > 0


def test_padded_rows_change_nothing(built):
    """Garbage in an invalid row moves neither loss nor gradient, statistics nor figures."""
    made = built(**{"model.dropout": 0.5, "model.batch_norm": "batch"})
    other = dict(BATCH, image=IMAGES.copy(), labels=BATCH["labels"].copy())
    other["image"][3] = np.random.default_rng(1).integers(0, 2, (SIDE, SIDE, 3)) * 255
    for labels in (0.0, 1.0):
        other["labels"][3] = labels
        (loss, aux), gradient = made()
        (loss2, aux2), gradient2 = made(other)
        assert loss == loss2 and np.isfinite(loss)
        assert_trees_equal(gradient, gradient2)
        assert_trees_equal(aux.collections, aux2.collections)
        assert_trees_equal(aux.metrics, aux2.metrics)


@pytest.mark.parametrize(
    "case", ["nothing found", "all found", "negative", "saturated", "none valid"]
)
def test_degenerate_maps_have_finite_losses_and_gradients(built, case):
    made = built(**PLAIN)
    batch, first = BATCH, made.each["first"]
    hidden = None
    if case == "nothing found":
        first, hidden = spread(first, 0.0), 0.0
    elif case == "all found":  # a constant map: every pixel is its maximum
        first, hidden = spread(first, 0.0, bias=2.0), 1.0
    elif case == "negative":
        first, hidden = spread(first, 1.0, bias=-1e6), 0.0
    elif case == "saturated":
        first = spread(first, 1e6)
    elif case == "none valid":
        batch, hidden = dict(BATCH, valid=np.zeros(4, bool)), 0.0
    (loss, aux), gradient = made(batch, first=first)
    assert np.isfinite(loss)
    for tree in (gradient, aux.metrics, aux.pictures):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree))
    if hidden is not None:
        assert aux.metrics["suppressed"] == hidden
    if case == "all found":  # what is left says nothing of the image
        logits, _ = outputs(made.own, jnp.zeros((4, 8, 8)))
        np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)
        assert not any(x.any() for x in jax.tree.leaves(gradient["params"]["backbone"]))
    if case in ("nothing found", "negative"):
        logits, _ = outputs(made.own)
        np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)


def test_a_shared_trunk_is_the_first_networks_head_on_the_seconds_trunk(built):
    frozen = {"model.freeze_until": "all", **PLAIN}
    apart, shared = built(**frozen), built(**frozen, **{"two_phase.share_trunk": True})
    theirs = shared.variables["first"]["params"]
    alike = {"backbone": shared.variables["params"]["backbone"], "head": theirs["head"]}
    same = {**shared.variables["first"], "params": alike}
    if "batch_stats" in same:
        same["batch_stats"] = shared.variables["batch_stats"]
    (expected, _), _ = apart(first=same)
    (found, _), _ = shared()
    assert float(found) == float(expected)


def test_a_trunk_that_moves_is_not_shared(built):
    (expected, _), _ = built(**PLAIN)()
    (found, _), _ = built(**PLAIN, **{"two_phase.share_trunk": True})()
    assert float(found) == float(expected)


def test_phase_one_hides_nothing(built):
    made = built("first", **PLAIN)
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.uint8)
    variables = jax.eval_shape(made.method.init, jax.random.key(0), images)
    assert set(variables) == {"params", "batch_stats"}
    loss, aux = made.loss(made.variables, BATCH)
    assert set(aux.metrics) == {"loss", "accuracy"} and set(aux.pictures) == {"first map"}
    logits, _ = outputs(made.own)
    np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)


def test_phase_three_hides_what_either_of_two_found(built):
    """Section 3.5: the first at 60%, the second at the lower threshold of 40%."""
    made = built("third", **PLAIN)
    assert set(made.each) == {"first", "second"}
    (loss, aux), gradient = made()
    keep = made.mask(BATCH["labels"])
    valid = BATCH["valid"]
    expected = (1 - keep).mean(axis=(1, 2))[valid].mean()
    np.testing.assert_allclose(aux.metrics["suppressed"], expected, rtol=1e-6)
    for other in ((0.6,), (0.4, 0.6), (0.6, 0.6)):
        hidden = 1 - made.mask(BATCH["labels"], other)
        assert hidden.mean(axis=(1, 2))[valid].mean() != pytest.approx(expected)
    logits, _ = outputs(made.own, jnp.asarray(keep, jnp.float32))
    np.testing.assert_allclose(loss, softmax_loss(logits, BATCH), rtol=1e-5)
    assert not any(x.any() for n in ("first", "second") for x in jax.tree.leaves(gradient[n]))
    assert set(aux.pictures) == {"first map", "second map", "hidden", "third map", "vote"}
    # Each of the two has its say.
    for name in ("first", "second"):
        (_, other), _ = made(**{name: spread(made.each[name], 0.0)})
        assert other.metrics["suppressed"] < aux.metrics["suppressed"]
    found = quick(made.method.localize)(made.variables, IMAGES)
    assert set(found.parts) == set(PHASES)
    # Two voters of three, as the paper's figures: the third's maps are only shown.
    voted = [
        softmax(outputs(made.each[n])[0])[:, None, None] * outputs(made.each[n])[1]
        for n in ("first", "second")
    ]
    np.testing.assert_allclose(found.maps, np.maximum(*voted), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- training


def test_training_the_second_leaves_the_first_as_it_was():
    """Through the state and the step of a run: bit for bit, statistics included."""
    changes = {**FLAT_RATE, "model.batch_norm": "batch", "model.dropout": 0.5}
    second = methods.build(tiny(**changes), 5)
    config, given = tiny(**changes), trained()["first"]
    plan = assemble.Plan(12, 4, 4, 10, 0, 3)
    state, step, _ = assemble.create_state(config, second, plan, None, {"first": given})
    before = jax.tree.map(np.array, (state.params, state.collections))
    assert_trees_equal(before[1]["first"], given)
    # Nor does it carry momentum for it.
    leaves = jax.tree.leaves(state.params)
    momentum = [x for x in jax.tree.leaves(state.opt_state) if np.ndim(x)]
    assert len(momentum) == len(leaves)
    step = quick(step, donate_argnums=0)
    for _ in range(4):
        state, metrics = step(state, BATCH)
        assert np.isfinite(metrics["loss"]) and 0 < metrics["suppressed"] < 1
    assert_trees_equal(state.collections["first"], given)
    assert state.collections["first"].keys() == given.keys()
    own = (state.params, {"batch_stats": state.collections["batch_stats"]})
    was = (before[0], {"batch_stats": before[1]["batch_stats"]})
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(own), jax.tree.leaves(was), strict=True
    ):
        assert (np.asarray(a) != b).any(), jax.tree_util.keystr(path)


def test_an_earlier_network_of_other_shapes_is_refused():
    config = tiny("second")
    wide = methods.build(tiny("first", **{"model.head_channels": 24}), 5)
    images = jnp.asarray(IMAGES[:1])
    network = jax.eval_shape(wide.init, jax.random.key(0), images)
    network = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), network)
    plan = assemble.Plan(12, 4, 4, 10, 0, 3)
    with pytest.raises(UserError, match=r"stage 'first' has .*24.*16.*same model section"):
        assemble.create_state(config, methods.build(config, 5), plan, None, {"first": network})


def test_a_network_that_hid_another_is_handed_on_without_it():
    """What phase two's checkpoint holds of phase one is no part of the second network."""
    config, first = tiny("third"), trained()["first"]
    method = methods.build(config, 5)
    plan = assemble.Plan(12, 4, 4, 10, 0, 3)
    checkpoint = {**trained()["second"], "first": first}
    handed = stages.own_network(checkpoint, tiny("second").reads)
    assert handed is not checkpoint and handed.keys() == first.keys()
    start = lambda **given: assemble.create_state(config, method, plan, None, given)[0]
    shapes = jax.eval_shape(functools.partial(start, first=first, second=handed))
    assert shapes.collections.keys() == {"batch_stats", "first", "second"}
    with pytest.raises(UserError, match="network of stage 'second' has"):
        jax.eval_shape(functools.partial(start, first=first, second=checkpoint))


def test_fresh_second_networks_start_from_the_same_values_as_the_first():
    """The start weights of the first are the natural reading for the second's."""
    one, two = (methods.build(tiny(name), 5) for name in ("first", "second"))
    images = jnp.asarray(IMAGES[:1])
    start = one.init(jax.random.key(5), images)
    variables = two.init(jax.random.key(5), images)
    assert_trees_equal(variables["params"], start["params"])
    assert_trees_equal(variables["first"], start)


# ---------------------------------------------------------------- test time


def softmax(y):
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("positive", [False, True])
def test_localization_votes(built, scores, positive):
    """Eq. 5, from the maps and class scores of two networks that see the whole image."""
    made = built(**PLAIN)
    changes = {**PLAIN, "model.scores": scores, "model.positive_maps": positive}
    method = methods.build(tiny(**changes), 5)
    found = quick(method.localize)(made.variables, IMAGES)
    sure = softmax if scores == "softmax" else sigmoid
    weighted = []
    for name, variables in (("first", made.each["first"]), ("second", made.own)):
        logits, maps = outputs(variables)
        maps = np.maximum(maps, 0) if positive else maps
        np.testing.assert_allclose(found.parts[name], maps, rtol=1e-4, atol=1e-5)
        weighted.append(sure(logits)[:, None, None, :] * maps)
    np.testing.assert_allclose(found.maps, np.maximum(*weighted), rtol=1e-4, atol=1e-5)
    assert (weighted[0] > weighted[1]).any() and (weighted[0] < weighted[1]).any()
    np.testing.assert_allclose(found.logits, outputs(made.each["first"])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("voters", [("first",), ("second",), ("second", "first")])
def test_voters_are_a_choice(built, voters):
    made = built(**PLAIN)
    method = methods.build(tiny(**PLAIN, **{"two_phase.voters": voters}), 5)
    found = quick(method.localize)(made.variables, IMAGES)
    each = {"first": outputs(made.each["first"]), "second": outputs(made.own)}
    weighted = [softmax(each[n][0])[:, None, None] * each[n][1] for n in voters]
    np.testing.assert_allclose(found.maps, np.max(weighted, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.logits, each[voters[0]][0], rtol=1e-4, atol=1e-5)
    assert set(found.parts) == {"first", "second"}


def test_pictures_show_both_maps_the_mask_and_the_vote(built):
    made = built(**PLAIN)
    (_, aux), _ = made()
    assert set(aux.pictures) == {"first map", "hidden", "second map", "vote"}
    for name in ("first map", "second map", "vote"):
        picture = np.asarray(aux.pictures[name])
        assert picture.shape == (4, SIDE, SIDE)
        np.testing.assert_allclose(picture.min(axis=(1, 2)), 0, atol=1e-6)
        np.testing.assert_allclose(picture.max(axis=(1, 2)), 1, atol=1e-6)
    # Each the map of the image's class: its highest cell is where the picture is 1.
    label = BATCH["labels"].argmax(axis=1)
    _, maps = outputs(made.each["first"])
    for n, c in enumerate(label):
        y, x = np.unravel_index(np.asarray(aux.pictures["first map"][n]).argmax(), (SIDE, SIDE))
        row, column = np.unravel_index(maps[n, :, :, c].argmax(), (8, 8))
        assert abs(y / 4 - row - 0.5) <= 1 and abs(x / 4 - column - 0.5) <= 1


def test_bfloat16_keeps_float32_parameters_and_maps():
    config = tiny(**PLAIN, dtype="bfloat16")
    method = methods.build(config, 5)
    images = jax.ShapeDtypeStruct((4, SIDE, SIDE, 3), jnp.uint8)
    variables = jax.eval_shape(method.init, jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype("float32")}
    found = jax.eval_shape(method.localize, variables, images)
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype("float32")}
    loss, aux = jax.eval_shape(method.loss, variables, BATCH, KEY, 0)
    assert loss.dtype == aux.metrics["suppressed"].dtype == jnp.float32


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "phase, field, value, sentence",
    [
        ("second", "suppressors", ("second",), "suppressors: expected the earlier phases in order"),
        ("third", "suppressors", ("second", "first"), "suppressors: expected the earlier phases"),
        ("third", "suppressors", PHASES, "suppressors: expected the earlier phases"),
        ("second", "suppressors", ("first", "second"), "'second' is not among the stage's reads"),
        ("first", "suppressors", ("first",), "'first' is not among the stage's reads"),
        ("second", "shares", (), "shares: expected 1 or more numbers above 0 and below 1"),
        ("third", "shares", (0.6,), "shares: expected 2 or more numbers above 0 and below 1"),
        ("second", "shares", (0.0, 0.4), "shares: expected 1 or more .* got (0.0, 0.4)"),
        ("second", "shares", (0.6, 1.0), "shares: expected 1 or more .* got (0.6, 1.0)"),
        ("second", "shares", (float("nan"), 0.4), "shares: expected 1 or more"),
        ("second", "voters", (), "voters: expected some of"),
        ("second", "voters", ("first", "fourth"), "voters: expected some of .*'fourth'"),
        ("second", "voters", ("first", "third"), "voters: 'third' is not trained in phase 2"),
        ("second", "head", "fcnn", "head: 'fcnn' is not one of 'fcn', 'cam'"),
    ],
)
def test_mistakes_are_one_sentence(phase, field, value, sentence):
    config = tiny(phase)
    with config.unlocked():
        config.two_phase[field] = value
    pattern = sentence.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(
        UserError, match=rf"two_phase\.{pattern}" if "reads" not in sentence else pattern
    ) as e:
        methods.build(config, 5)
    assert str(e.value).endswith(".") and "\n" not in str(e.value)


def test_unknown_class_scores_are_refused():
    with pytest.raises(UserError, match=r"model\.scores: 'other' is not one of 'auto', 'softmax'"):
        methods.build(tiny(**{"model.scores": "other"}), 5)


def test_an_unknown_endpoint_is_refused():
    method = methods.build(tiny(**{"model.final_endpoint": "konv3"}), 5)
    with pytest.raises(UserError, match="konv3"):
        method.init(jax.random.key(0), jnp.asarray(IMAGES[:1]))

"""CAMs2i's inter-sample criterion in its cheaper forms: naive and in float64, with its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.networks import IMAGES, KEY, SIDE, made, resized, sigmoid, tiny
from PIL import Image

from wsol_jax.base.errors import UserError
from wsol_jax.methods import cams2i
from wsol_jax.ops.images import normalise

# Two images of one class, a third that is not valid, and one of another class.
BATCH = {
    "image": IMAGES,
    "labels": np.eye(5, dtype=np.float32)[[3, 3, 0, 3]],
    "valid": np.array([True, True, True, False]),
}
PLAIN = {"model.dropout": 0.0}
FORMS = {
    "eq. 8": {},
    "eq. 8, smaller": {"features.size": SIDE // 2},
    "features": {"cams2i.compare": "features"},
    "features, smaller": {"cams2i.compare": "features", "features.size": SIDE // 2},
    "trunk": {"cams2i.compare": "trunk"},
}


def build(changes, scale=300):
    """A method with class maps that are not flat, its variables, and its network."""
    changes = {**PLAIN, **changes}
    method, variables = made("cams2i", **changes)
    params = dict(variables["params"])
    for name in ("head_1", "head_2"):
        layer = params[name]["class_maps"]
        layer = {**layer, "kernel": layer["kernel"] * scale}
        params[name] = {**params[name], "class_maps": layer}
    network = cams2i._network(tiny("cams2i", **changes), 5)
    return method, {**variables, "params": params}, network


def l_inter(method, variables, batch):
    """-> (L_inter, pairs), and the gradient of L_inter."""

    def value(params):
        metrics = method.loss({**variables, "params": params}, batch, KEY, 0)[1].metrics
        return metrics["inter_sample"], metrics["pairs"]

    return quick(jax.value_and_grad(value, has_aux=True))(variables["params"])


def shrunk(images, size):
    """Pillow's bilinear reduction, channel by channel: its filter grows with the factor."""
    one = lambda x: np.asarray(Image.fromarray(x).resize((size, size), Image.Resampling.BILINEAR))
    images = images.astype(np.float32)
    return np.stack([np.stack([one(x[..., c]) for c in range(3)], axis=-1) for x in images])


def average(features, weights):
    """sum w F / sum w of each image, cell by cell."""
    weights, found = resized(weights, features.shape[1]), []
    for cells, shares in zip(features, weights, strict=True):
        total = np.zeros(cells.shape[-1])
        for i in range(len(cells)):
            for j in range(len(cells)):
                total += shares[i, j] * cells[i, j]
        found.append(total / shares.sum())
    return np.stack(found)


class Naive:
    """Eqs. 8 to 10 pair by pair in float64, as a function of the two class-map kernels."""

    def __init__(self, network, variables, batch, changes):
        self.double = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float64), tree)
        self.network, self.variables = network, variables
        self.labels, self.valid = batch["labels"].argmax(1), batch["valid"]
        apply = lambda x, method: network.apply(variables, jnp.asarray(x), method=method)
        self.params = self.double(variables["params"])
        taps = self.double(apply(batch["image"], "taps"))
        self.hidden = []
        for name, x in zip(("head_1", "head_2"), taps, strict=True):
            for layer in ("conv1", "conv2"):
                layer = self.params[name][layer]
                x = np.maximum(x @ layer["kernel"][0, 0] + layer["bias"], 0)
            self.hidden.append(x)
        images, size = batch["image"], changes.get("features.size", SIDE)
        images = images if size == SIDE else shrunk(images, size)
        compare = changes.get("cams2i.compare", "images")
        if compare == "images":
            embed = lambda x: self.double(apply(np.asarray(x, np.float32), "embed"))
            self.f = lambda weights: embed(images * resized(weights, size)[..., None])
        elif compare == "features":
            last = lambda m, x: m.feature_trunk(normalise(x, m.feature_preprocessing))
            cells = self.double(apply(images, last)[network.feature_endpoint])
            projection = self.params["projection"]["kernel"]
            self.f = lambda weights: average(cells, weights) @ projection
        else:
            self.f = lambda weights: average(taps[0], weights)

    def kernels(self):
        return [self.params[name]["class_maps"]["kernel"] for name in ("head_1", "head_2")]

    def __call__(self, kernels):
        total = 0.0
        for name, x, kernel in zip(("head_1", "head_2"), self.hidden, kernels, strict=True):
            maps = x @ kernel[0, 0] + self.params[name]["class_maps"]["bias"]
            maps = resized(maps, max(x.shape[1] for x in self.hidden))
            own = np.stack([m[..., y] for m, y in zip(maps, self.labels, strict=True)])
            total += self.pairs_of(self.f(sigmoid(own)), self.f(1 - sigmoid(maps.max(axis=-1))))
        return total

    def pairs_of(self, f, b):
        distance, losses = lambda x, y: ((x - y) ** 2).sum() / (2 * f.shape[1]), []
        for i in range(len(f)):
            for j in range(i + 1, len(f)):
                if self.labels[i] == self.labels[j] and self.valid[i] and self.valid[j]:
                    together = distance(f[i], f[j]) + distance(b[i], b[j])
                    apart = distance(f[i], b[i]) + distance(f[j], b[j])
                    losses.append(np.log1p(np.exp(together - apart)))
        return np.mean(losses)


@pytest.mark.parametrize("form", FORMS)
def test_loss_and_gradient_equal_the_naive_form(form):
    method, variables, network = build(FORMS[form])
    (found, pairs), gradient = l_inter(method, variables, BATCH)
    naive = Naive(network, variables, BATCH, FORMS[form])
    kernels = naive.kernels()
    assert pairs == 1
    np.testing.assert_allclose(found, naive(kernels), rtol=1e-4)
    # Along random directions of both kernels, against central differences. Masked images pass f in
    # float32 in the naive form too, which wants large steps.
    size, rtol = (1e-2, 0.02) if form.startswith("eq. 8") else (1e-6, 1e-3)
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(3):
        ways = [rng.normal(size=kernel.shape) for kernel in kernels]
        step = size * np.linalg.norm(kernels[0]) / np.linalg.norm(ways[0])
        moved = lambda by, ways=ways: [k + by * way for k, way in zip(kernels, ways, strict=True)]
        expected = (naive(moved(step)) - naive(moved(-step))) / (2 * step)
        own = [gradient[name]["class_maps"]["kernel"] for name in ("head_1", "head_2")]
        slopes.append((sum((g * way).sum() for g, way in zip(own, ways, strict=True)), expected))
    found, expected = np.array(slopes, np.float64).T
    assert np.abs(expected).max() > 1e-5
    np.testing.assert_allclose(found, expected, rtol, rtol * np.abs(expected).max())


def test_a_size_that_is_the_images_own_changes_nothing():
    """The paper's form, to the bit."""
    found = [l_inter(*build(changes)[:2], BATCH) for changes in ({}, {"features.size": SIDE})]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("form", ["eq. 8", "trunk"])
def test_the_first_images_are_compared(form):
    """``compared`` of a batch are as good as a batch of so many."""
    batch = {**BATCH, "labels": np.eye(5, dtype=np.float32)[[3, 3, 3, 3]]}
    method, variables, _ = build({**FORMS[form], "cams2i.compared": 3})
    (found, pairs), gradient = l_inter(method, variables, {**batch, "valid": np.ones(4, bool)})
    three = {name: value[:3] for name, value in batch.items()}
    method, _, _ = build(FORMS[form])
    (expected, _), other = l_inter(method, variables, three)
    assert pairs == 3
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for one, two in zip(*map(jax.tree.leaves, (gradient, other)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-7)


def test_the_trunks_features_are_constants():
    """Behind flat maps a gradient could reach the trunk through its features alone."""
    method, variables, _ = build(FORMS["trunk"], scale=0.0)
    _, gradient = l_inter(method, variables, BATCH)
    assert not any(x.any() for x in jax.tree.leaves(gradient["backbone"]))
    assert any(x.any() for x in jax.tree.leaves(gradient["head_1"]["class_maps"]))


@pytest.mark.parametrize("ramp, weights", [(False, (1, 1)), (True, (0, 0.5))])
def test_the_criterion_is_faded_in_where_that_is_asked_for(ramp, weights):
    """By w0 of eq. 7, as the intra part is; the paper has it from the first step."""
    times = {"cams2i.start_step": 2, "cams2i.ramp_steps": 4, "cams2i.ramp_inter": ramp}
    method, variables, _ = build({**FORMS["trunk"], **times, "cams2i.weight_inter": 8.0})
    run = quick(lambda variables, step: method.loss(variables, BATCH, KEY, step)[1].metrics)
    for step, w0, weight in ((0, 0.0, weights[0]), (4, 0.5, weights[1])):
        m = run(variables, step)
        rest = m["classification"] + m["classification_2"]
        rest += w0 * (m["interaction"] + m["agreement"])
        np.testing.assert_allclose(m["loss"], rest + weight * 8 * m["inter_sample"], rtol=1e-5)


def test_what_each_form_costs():
    """Four passes of f for each image, of a quarter of the pixels, one, and none."""

    def flops(changes):
        method, variables, _ = build(changes)
        loss = lambda variables: method.loss(variables, BATCH, KEY, 0)[1].metrics["loss"]
        return jax.jit(loss).lower(variables).cost_analysis()["flops"]

    intra = flops({"cams2i.inter": False})
    extra = {form: flops(changes) - intra for form, changes in FORMS.items()}
    whole = extra["features"]
    assert 3.5 * whole < extra["eq. 8"] < 4.5 * whole
    assert 0.8 * whole < extra["eq. 8, smaller"] < 1.2 * whole
    assert extra["trunk"] < 0.05 * intra


def test_no_second_network_where_the_trunk_compares():
    _, variables, _ = build(FORMS["trunk"])
    assert set(variables["params"]) == {"backbone", "head_1", "head_2"}


def test_a_layer_without_places_is_refused():
    changes = {
        **FORMS["features"],
        "features.backbone": "alexnet",
        "features.final_endpoint": "fc6",
        "features.width": 0.1,
    }
    network = cams2i._network(tiny("cams2i", **changes), 5)
    images = jax.ShapeDtypeStruct((2, 96, 96, 3), jnp.uint8)
    variables = jax.eval_shape(lambda x: network.init(KEY, x), images)
    weights = jax.ShapeDtypeStruct((2, 4, 6, 6), jnp.float32)
    look = lambda v, x, w: network.apply(v, x, w, method="embed")
    with pytest.raises(UserError, match=r"features\.final_endpoint: 'fc6' gives one vector"):
        jax.eval_shape(look, variables, images, weights)

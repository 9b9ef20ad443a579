"""The optimizer against PyTorch's SGD, schedules by hand, and what a train step may touch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.compiling import quick

from configs import common
from wsol_jax.base.errors import UserError
from wsol_jax.methods import Aux, Localization, Method
from wsol_jax.runs.state import TrainState, learning_rate, optimizer, train_step

RNG = np.random.default_rng(0)
LABELS = {
    "trunk": {"kernel": "backbone/kernel", "bias": "backbone/bias", "scale": "backbone/norm"},
    "head": {"kernel": "head/kernel", "bias": "head/bias"},
    "cold": {"kernel": "frozen/kernel", "bias": "frozen/bias"},
}
SHAPES = {
    "trunk": {"kernel": (3, 2), "bias": (2,), "scale": (2,)},
    "head": {"kernel": (2, 4), "bias": (4,)},
    "cold": {"kernel": (2, 2), "bias": (2,)},
}


def options(**changes):
    config = common.base().optimizer
    config.schedule = "constant"
    config.update(changes)
    return config


def random_tree():
    return jax.tree.map(
        lambda shape: RNG.normal(size=shape).astype(np.float32),
        SHAPES,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def sgd(params, gradients, rates, decays, *, momentum, nesterov):
    """PyTorch's documented SGD in float64: decay into the gradient, momentum, then the rate."""
    values = {k: np.asarray(v, np.float64) for k, v in params.items()}
    buffers = {}
    for step, gradient in enumerate(gradients):
        for k, p in values.items():
            g = gradient[k] + decays[k] * p
            buffers[k] = g if k not in buffers else momentum * buffers[k] + g
            if momentum:
                g = g + momentum * buffers[k] if nesterov else buffers[k]
            values[k] = p - rates[k](step) * g
    return values


def flat(tree):
    return {
        "/".join(k.key for k in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


CASES = [
    dict(momentum=0.9, nesterov=False, decay_all=True, bias_lr=1.0),
    dict(momentum=0.9, nesterov=True, decay_all=False, bias_lr=2.0),
    dict(momentum=0.0, nesterov=False, decay_all=False, bias_lr=1.0),
]


def run(params, gradients, **changes):
    chosen = options(backbone_lr=0.1, head_lr=0.5, weight_decay=0.02, **changes)
    schedule = lambda step: 0.5**step
    tx = optimizer(chosen, LABELS, schedule)
    state = tx.init(params)
    for gradient in gradients:
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def expected_groups(case):
    rates, decays = {}, {}
    for name, label in flat(LABELS).items():
        part, kind = label.split("/")
        base = {"backbone": 0.1, "head": 0.5, "frozen": 0.0}[part]
        base *= case["bias_lr"] if kind == "bias" else 1.0
        rates[name] = lambda step, base=base: base * 0.5**step
        decays[name] = 0.02 if kind == "kernel" or case["decay_all"] else 0.0
    return rates, decays


@pytest.mark.parametrize("case", CASES)
def test_groups_equal_sgd_by_hand(case):
    params, gradients = random_tree(), [random_tree() for _ in range(4)]
    rates, decays = expected_groups(case)
    expected = sgd(
        flat(params),
        [flat(g) for g in gradients],
        rates,
        decays,
        momentum=case["momentum"],
        nesterov=case["nesterov"],
    )
    found = flat(run(params, gradients, **case))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-6, atol=1e-6, err_msg=name)
    for name in ("cold/kernel", "cold/bias"):
        np.testing.assert_array_equal(found[name], flat(params)[name])


@pytest.mark.parametrize("case", CASES)
def test_groups_equal_pytorch(case):
    torch = pytest.importorskip("torch")
    params, gradients = random_tree(), [random_tree() for _ in range(4)]
    rates, decays = expected_groups(case)
    tensors = {k: torch.nn.Parameter(torch.from_numpy(v.copy())) for k, v in flat(params).items()}
    groups = [
        {"params": [p], "lr": rates[k](0), "weight_decay": decays[k]} for k, p in tensors.items()
    ]
    solver = torch.optim.SGD(groups, momentum=case["momentum"], nesterov=case["nesterov"])
    for gradient in gradients:
        for k, g in flat(gradient).items():
            tensors[k].grad = torch.from_numpy(g.copy())
        solver.step()
        for group in solver.param_groups:
            group["lr"] *= 0.5
    found = flat(run(params, gradients, **case))
    for name, tensor in tensors.items():
        np.testing.assert_allclose(
            found[name], tensor.detach().numpy(), rtol=2e-6, atol=1e-6, err_msg=name
        )


# ---------------------------------------------------------------- schedules


def test_constant():
    schedule = learning_rate(options(), 10, 5)
    assert [float(schedule(s)) for s in (0, 9)] == [1, 1]


def test_cosine_falls_to_zero_at_the_last_step():
    schedule = learning_rate(options(schedule="cosine"), 100, 10)
    for step in (0, 13, 50, 99, 100):
        expected = 0.5 * (1 + np.cos(np.pi * step / 100))
        np.testing.assert_allclose(schedule(step), expected, atol=1e-6)


def test_step_falls_after_every_epoch():
    """SPG: times 0.1 after every epoch."""
    schedule = learning_rate(options(schedule="step"), 30, 10)
    found = [float(schedule(s)) for s in (0, 9, 10, 19, 20, 29)]
    np.testing.assert_allclose(found, [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)
    slow = learning_rate(options(schedule="step", decay_epochs=2.5, decay_factor=0.5), 90, 10)
    np.testing.assert_allclose([float(slow(s)) for s in (24, 25, 50)], [1, 0.5, 0.25])


def test_warmup_rises_linearly_and_joins():
    schedule = learning_rate(options(schedule="cosine", warmup_steps=10), 110, 10)
    np.testing.assert_allclose([float(schedule(s)) for s in (0, 5, 10)], [0, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(schedule(110), 0, atol=1e-6)


def test_warmup_does_not_move_the_epochs():
    """The rate falls where an epoch ends, warmed up or not."""
    schedule = learning_rate(options(schedule="step", warmup_steps=4), 30, 10)
    np.testing.assert_allclose([float(schedule(s)) for s in (9, 10)], [1, 0.1], rtol=1e-5)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(UserError, match="'constant', 'cosine', 'step'"):
        learning_rate(options(schedule="linear"), 10, 10)


# ---------------------------------------------------------------- the step, on a toy method


def toy(loss=None):
    """A linear classifier of the mean pixel; everything can be recomputed by hand."""

    def default(variables, batch, rng, step):
        del rng, step
        params = variables["params"]
        x = batch["image"].astype(jnp.float32).mean(axis=(1, 2)) / 255
        hidden = x @ params["trunk"]["kernel"] + params["cold"]["bias"]
        logits = hidden @ params["head"]["kernel"] + params["head"]["bias"]
        values = optax.softmax_cross_entropy(logits, batch["labels"])
        valid = batch["valid"].astype(jnp.float32)
        value = jnp.sum(values * valid) / jnp.maximum(jnp.sum(valid), 1)
        return value, Aux({"loss": value}, {}, {})

    labels = {
        "trunk": {"kernel": "backbone/kernel"},
        "cold": {"bias": "frozen/bias"},
        "head": {"kernel": "head/kernel", "bias": "head/bias"},
    }
    params = {
        "trunk": {"kernel": RNG.normal(size=(3, 2)).astype(np.float32)},
        "cold": {"bias": RNG.normal(size=(2,)).astype(np.float32)},
        "head": {"kernel": RNG.normal(size=(2, 3)).astype(np.float32), "bias": np.zeros(3, "f")},
    }
    localize = lambda v, x: Localization(None, None)
    method = Method(lambda r, x: {"params": params}, lambda p: labels, loss or default, localize)
    return method, params, labels


def toy_batch(size=6, valid=None):
    rng = np.random.default_rng(1)
    return {
        "image": rng.integers(0, 256, (size, 2, 2, 3), dtype=np.uint8),
        "labels": np.eye(3, dtype=np.float32)[rng.integers(0, 3, size)],
        "valid": np.ones(size, bool) if valid is None else np.asarray(valid),
        "index": np.arange(size, dtype=np.int32),
    }


def one_step(batch, accumulate=1, loss=None, steps=1):
    method, params, labels = toy(loss)
    tx = optimizer(options(backbone_lr=0.1, head_lr=0.5), labels, lambda step: 1.0)
    params = jax.tree.map(jnp.asarray, params)
    state = TrainState(jnp.zeros((), jnp.int32), params, {}, tx.init(params), jax.random.key(3))
    step = quick(train_step(method, tx, labels, accumulate))
    for _ in range(steps):
        state, metrics = step(state, batch)
    return params, state, metrics


def test_frozen_parameters_stay_bitwise_equal():
    before, state, _ = one_step(toy_batch(), steps=3)
    np.testing.assert_array_equal(before["cold"]["bias"], state.params["cold"]["bias"])
    assert (before["trunk"]["kernel"] != state.params["trunk"]["kernel"]).all()
    assert int(state.step) == 3


@pytest.fixture(autouse=True)
def same_numbers():
    """Each call of ``toy`` in a test draws the same parameters."""
    global RNG
    RNG = np.random.default_rng(0)


def assert_states_equal(one, other, atol):
    for name, value in flat(one.params).items():
        np.testing.assert_allclose(value, flat(other.params)[name], atol=atol, err_msg=name)


@pytest.mark.parametrize(
    "valid", [None, [1, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0]]
)
@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulation_equals_the_undivided_step(accumulate, valid):
    """Also where a micro-batch is padding alone."""
    global RNG
    batch = toy_batch(6, None if valid is None else np.array(valid, bool))
    _, whole, metrics = one_step(batch)
    RNG = np.random.default_rng(0)
    _, parts, found = one_step(batch, accumulate)
    assert_states_equal(whole, parts, 1e-6)
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose(found[name], metrics[name], rtol=1e-5)


def test_accumulation_survives_a_loss_that_is_nan_on_padding_alone():
    """0 * NaN is NaN: a micro-batch without an example must not count at all."""

    def loss(variables, batch, rng, step):
        value = jnp.sum(variables["params"]["head"]["bias"] ** 2 + 1.0)
        count = jnp.sum(batch["valid"], dtype=jnp.float32)
        value = value * count / count
        return value, Aux({"loss": value}, {}, {})

    for valid, accumulate in (([1, 0, 1, 0, 1, 0], 2), ([0] * 6, 1)):
        _, state, metrics = one_step(toy_batch(6, np.array(valid, bool)), accumulate, loss)
        assert np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"])
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


def test_each_step_and_micro_batch_draws_its_own_randomness():
    def loss(variables, batch, rng, step):
        value = jax.random.uniform(rng) + 0.0 * jnp.sum(variables["params"]["head"]["bias"])
        return value, Aux({"loss": value}, {}, {})

    key = jax.random.key(3)
    first = float(one_step(toy_batch(), loss=loss)[2]["loss"])
    second = float(one_step(toy_batch(), loss=loss, steps=2)[2]["loss"])
    assert first == float(jax.random.uniform(jax.random.fold_in(key, 0)))
    assert second == float(jax.random.uniform(jax.random.fold_in(key, 1)))
    both = float(one_step(toy_batch(), 2, loss)[2]["loss"])
    halves = [jax.random.fold_in(jax.random.fold_in(key, 0), i) for i in range(2)]
    np.testing.assert_allclose(both, np.mean([jax.random.uniform(k) for k in halves]), rtol=1e-6)


def test_the_step_takes_nothing_but_image_labels_and_valid():
    """Even if a batch had boxes, the method would not see them."""
    seen = set()

    def loss(variables, batch, rng, step):
        seen.update(batch)
        return jnp.sum(variables["params"]["head"]["bias"]), Aux({}, {}, {})

    one_step({**toy_batch(), "boxes": np.zeros((6, 4), np.float32)}, loss=loss)
    assert seen == {"image", "labels", "valid"}

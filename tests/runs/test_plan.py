"""A run's plan: batches padded to the devices, steps counted in epochs."""

import ml_collections
import pytest

from configs import common
from wsol_jax.base.errors import UserError
from wsol_jax.runs.plan import Plan


def test_plan_counts_steps():
    class Mesh:
        size = 8

    train = ml_collections.ConfigDict(common.base().train)
    train.update(batch_size=30, epochs=2.0, accumulate=2, eval_epochs=1.0)
    plan = Plan.of(train, 375, Mesh)
    assert (plan.num_steps, plan.padded_size, plan.eval_steps) == (25, 32, 13)
    assert plan.steps_per_epoch in (12, 13)
    tiny = Plan.of(train, 4, Mesh)
    assert tiny.num_steps >= 1 and tiny.steps_per_epoch == 1
    train.epochs = 1e5
    with pytest.raises(UserError, match=r"train\.epochs=100000\.0: 4266666667 steps of 30 images"):
        Plan.of(train, 1_280_000, Mesh)

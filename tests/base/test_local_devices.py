"""Which of a machine's GPUs a process takes that a launcher started."""

import jax
import pytest

from wsol_jax.base import sharding

NAMES = ("SLURM_NTASKS", "SLURM_STEP_NUM_NODES", "OMPI_COMM_WORLD_LOCAL_SIZE")
NAMES += ("CUDA_VISIBLE_DEVICES", "JAX_LOCAL_DEVICE_IDS")


def slurm(tasks, nodes):
    return {"SLURM_NTASKS": str(tasks), "SLURM_STEP_NUM_NODES": str(nodes)}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (slurm(2, 2), []),  # a task a node: all GPUs, where JAX would take the first
        (slurm(16, 2) | {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, None),  # the one of its index
        (slurm(16, 2), None),
        (slurm(16, 2) | {"CUDA_VISIBLE_DEVICES": "3"}, []),  # it sees but one, which is number 0
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, None),
        (slurm(2, 2) | {"JAX_LOCAL_DEVICE_IDS": "1"}, None),  # JAX reads it
        ({}, None),
    ],
)
def test_what_auto_takes(monkeypatch, environment, expected):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **words: asked.append(words))
    sharding.start_distributed("auto")
    assert asked == [{"local_device_ids": expected}]

"""--mode=describe needs neither data nor weights, and its counts are exact."""

import json

import pytest
import tiny


def test_small_config(tmp_path):
    gone = tmp_path / "gone"
    words = tiny.flags(gone, tmp_path / "w", f"--config.model.weights={gone}.npz")
    done = tiny.run([*words, "--mode=describe", "--config.data.root="])
    assert done.returncode == 0, done.stderr
    described = json.loads((tmp_path / "w" / "describe.json").read_text())
    # Width 0.25 of MobileNetV2 to block_3: channels 8, then 8, 8, 8, 8 at the blocks' ends. A
    # depthwise or pointwise kernel and the scale and bias of its normalisation, layer by layer.
    stem = 3 * 3 * 3 * 8 + 2 * 8
    first = (9 * 8 + 2 * 8) + (8 * 8 + 2 * 8)
    block = (8 * 48 + 2 * 48) + (9 * 48 + 2 * 48) + (48 * 8 + 2 * 8)
    head = (3 * 3 * 8 * 16 + 16) + (16 * 10 + 10)
    assert described["parameters"] == stem + first + 3 * block + head
    assert described["classes"] == 10
    assert described["endpoints"]["block_3"][2] == 8
    assert described["map_size"] == described["endpoints"]["block_3"][:2]
    assert described["step_flops"] > 1e6
    assert described["step_bytes"] > 4 * described["parameters"]
    assert f"{described['parameters']:,}" in done.stdout
    assert not list((tmp_path / "w").glob("config.json"))


def test_classes_of_the_data_that_is_there(tmp_path):
    done = tiny.run([*tiny.flags(tiny.data(), tmp_path), "--mode=describe"])
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "describe.json").read_text())["classes"] == len(tiny.CLASSES)


@pytest.mark.slow
def test_papers_network(tmp_path):
    """SPG on Inception-v3 for CUB and for ImageNet: the released code's counts."""
    words = ["--config=configs/spg.py:cub,recipe=released", "--mode=describe"]
    words += [f"--workdir={tmp_path}", "--config.train.batch_size=2"]
    done = tiny.run(words)
    assert done.returncode == 0, done.stderr
    described = json.loads((tmp_path / "describe.json").read_text())
    assert described["parameters"] == 37_634_986
    assert described["step_bytes"] < 12e9

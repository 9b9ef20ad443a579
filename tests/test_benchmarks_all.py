"""``benchmarks/all.py``: what runs and what is skipped, failures, time limits, the JSON file."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import common, suite

everything = importlib.import_module("benchmarks.all")  # a name that Python has already
FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"
CPU = suite.Platform("cpu", ("cpu",), torch_gpu=False)
# Each is a whole script: its words are a flag's, the last one names the file for its figures.
SCRIPTS = {
    "quick": """
import json, pathlib, sys
*words, out = sys.argv[1:]
row = {"name": "a step", "setting": " ".join(words), "against": "a peer", "unit": "s",
       "ours": 0.5, "peer": 1.0, "ratio": 2.0, "compares": "speed", "spread": [1.5, 2.25],
       "rounds": {"ours": [0.5], "peer": [1.0]}, "by": "median"}
figures = {"machine": {}, "versions": {}, "rows": [row], "more": 7}
pathlib.Path(out.removeprefix("--out=")).write_text(json.dumps(figures))
""",
    "broken": "import sys; print('it begins'); sys.exit('error: the two sides differ.')",
    "slow": """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(__file__).with_name("child").write_text(str(child.pid))
time.sleep(60)
""",
}
SUITE = (
    suite.Benchmark("quick.one", cpu="--rounds=5", accelerator="--rounds=50", quick="--rounds=1"),
    suite.Benchmark("broken"),
    suite.Benchmark("slow"),
    suite.Benchmark("peerless", packages={"no_such_peer": "pip install it"}),
    suite.Benchmark("of_a_run", takes={"run": "--workdir"}, requires=("run",)),
    suite.Benchmark("hours", apart="no figure of speed"),
)


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Calls the command on made-up scripts: (status, stdout, the JSON file's content)."""
    monkeypatch.setattr(everything, "probe", lambda: CPU)
    monkeypatch.setattr(everything.machine, "busy_share", lambda: 0.0)
    for name, text in SCRIPTS.items():
        (tmp_path / f"{name}.py").write_text(text)
    out = tmp_path / "figures" / "all.json"

    def run(*words):
        status = everything.main([*words, f"--out={out}"], SUITE, tmp_path)
        said = capsys.readouterr()
        return status, said.out + said.err, json.loads(out.read_text()) if out.is_file() else None

    return run


def test_list_says_what_would_run_and_runs_nothing(call):
    status, said, content = call("--list")
    assert status == 0 and content is None
    assert "quick.one: python benchmarks/quick.py --rounds=5\n" in said
    assert "peerless: skipped: no_such_peer is not installed (pip install it)\n" in said
    assert "of_a_run: skipped: it needs --run\n" in said
    assert "hours: skipped: no figure of speed\n" in said


def test_only_names_a_script_or_a_benchmark(call, tmp_path):
    _, said, _ = call("--list", "--only=quick,hours")
    assert re.findall(r"^([a-z.]+):", said, re.MULTILINE) == ["quick.one", "hours"]
    assert "skipped" not in said
    _, said, _ = call("--list", "--skip=quick.one,slow", f"--run={tmp_path}")
    assert "quick" not in said and "slow" not in said
    assert f"of_a_run: python benchmarks/of_a_run.py --workdir={tmp_path}\n" in said


def test_the_json_has_machine_versions_revision_and_every_figure(call):
    status, said, content = call("--quick", "--only=quick")
    assert status == 0
    assert "--quick: whether all run" in said
    assert {*content["machine"]} == {"cpu", "architecture", "cores", "memory_gib", "gpus"}
    assert content["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert content["versions"]["numpy"] == np.__version__
    assert content["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"os", "jax", "jaxlib", "torch", "pydensecrf2"} <= {*content["versions"]}
    assert {*content["git"]} == {"revision", "clean"}
    assert content["quick"] is True and content["platform"] == "cpu"
    assert content["date"].endswith("+00:00")
    (entry,) = content["benchmarks"]
    assert entry["command"] == "python benchmarks/quick.py --rounds=1"
    assert entry["status"] == "done" and entry["busy_before"] == 0.0
    assert {*entry["figures"]} == {"rows", "more"}  # what all have in common stands once
    assert entry["figures"]["rows"][0]["ratio"] == 2.0
    lines = [line for line in said.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["what", "setting", "ours", "peer", "ratio", "spread"]
    assert cells[2] == ["a step", "--rounds=1", "500 ms", "1 s, a peer", "2.00x", "1.50 to 2.25"]


def test_the_revision_is_git_s_and_a_changed_tree_is_told(call, tmp_path, monkeypatch):
    root = tmp_path / "project"
    git = ("git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b")
    (root / "benchmarks").mkdir(parents=True)
    (root / "file").write_text("one")
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    monkeypatch.setattr(everything, "FOLDER", root / "benchmarks")
    assert call("--only=quick")[2]["git"] == {"revision": head.stdout.strip(), "clean": True}
    (root / "file").write_text("two")
    _, said, content = call("--only=quick")
    assert content["git"]["clean"] is False
    assert "warning: the tree has changes" in said
    monkeypatch.setattr(everything, "FOLDER", tmp_path / "nowhere" / "benchmarks")
    assert call("--only=quick")[2]["git"] == {"revision": None, "clean": None}


def test_a_script_that_fails_is_told_and_the_others_run(call):
    status, said, content = call("--only=broken,quick")
    assert status == 1
    by_name = {entry["name"]: entry for entry in content["benchmarks"]}
    assert by_name["quick.one"]["status"] == "done"
    assert by_name["broken"]["status"] == "failed" and by_name["broken"]["figures"] is None
    log = by_name["broken"]["log"]
    assert f"FAILED broken: the two sides differ. (status 1); log: {log}" in said
    assert "it begins" in pathlib.Path(log).read_text()
    assert "1 ran, 1 failed, 0 skipped" in said


def test_a_script_over_its_limit_ends_with_all_that_it_began(call, tmp_path):
    start = time.monotonic()
    status, said, content = call("--only=slow", "--limit=0.05")
    assert status == 1 and time.monotonic() - start < 30
    assert content["benchmarks"][0]["why"] == "it was ended after 0.05 minutes (--limit)"
    assert "FAILED slow: it was ended" in said
    child = int((tmp_path / "child").read_text())
    while is_alive(child):  # a killed process ends when the system has a core for it
        assert time.monotonic() - start < 60
        time.sleep(0.05)


def is_alive(process):
    """Whether a process runs; of a zombie nobody may have asked yet."""
    status = pathlib.Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--only=nothing", "--only: no benchmark 'nothing'; there are quick.one, broken,"),
        ("--skip=crf", "--skip: no benchmark 'crf'"),
        ("--run=/nowhere", "--run=/nowhere: no such folder."),
        ("--limit=0", "--limit=0.0: expected minutes, more than 0."),
    ],
)
def test_a_mistake_is_a_sentence_before_any_work(call, words, said):
    status, text, content = call(words)
    assert status == 2 and content is None
    assert said in text


def test_the_settings_follow_the_platform():
    one, gpu = SUITE[0], suite.Platform("gpu", ("a GPU",), torch_gpu=True)
    assert one.words(gpu, False, {}) == ["--rounds=50"]
    step = suite.Benchmark("step", same_device=True)
    assert step.why_not(CPU, {}, False) == "" == step.why_not(gpu, {}, False)
    assert "PyTorch does not run on JAX's tpu" in step.why_not(suite.Platform("tpu"), {}, False)
    assert "CUDA_VISIBLE_DEVICES" in step.why_not(CPU._replace(torch_gpu=True), {}, False)
    assert "PyTorch on cpu" in step.why_not(gpu._replace(torch_gpu=False), {}, False)


def test_every_script_is_known():
    known = {benchmark.script for benchmark in suite.SUITE}
    page = (FOLDER / "README.md").read_text()
    named = set(re.findall(r"^\| `(\w+)\.py` \|", page, re.MULTILINE))
    commands = {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}
    assert known == named == commands - {"all"}


def test_rows_compare_as_their_units_and_words_say():
    both = dict(ours=[1.0, 2.0, 4.0], peer=[2.0, 2.0, 2.0], against="it")
    seconds = common.Row("a", "", **both)
    assert seconds.ratio == 1.0 and seconds.to_json()["spread"] == [0.5, 2.0]
    assert common.Row("a", "", **both, by="best").ratio == 2.0
    assert common.Row("a", "", **both, compares="time").to_json()["spread"] == [0.5, 2.0]
    rate = common.Row("a", "", **both, unit="photos/s", by="best")
    assert rate.ratio == 2.0 and rate.to_json()["ours"] == 4.0
    alone = common.Row("a", "", [3.0]).to_json()
    assert alone["peer"] is alone["ratio"] is alone["spread"] is None
    assert str(common.Row("a", "", [0.193], [0.143], "it")).startswith("ratio a to it: 0.74x (")


def test_sides_take_turns():
    order = []
    sides = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    found = common.in_turns(sides, 3)
    assert "".join(order) == "abccbaabc"
    assert found["a"].tolist() == [1, 6, 7]

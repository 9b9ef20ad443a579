"""The commands of the pages, and how each is read by the code that would run it."""

import argparse
import ast
import dataclasses
import importlib
import importlib.util
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from unittest import mock

ROOT = pathlib.Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
_NO_RUN = ("test.sh", "to_onnx.sh")  # launchers whose words do not go to wsol_jax.main
_ABSL = ("wsol_jax.main", "wsol_jax.data.embedded")
_OTHERS = {  # programs that are not ours: the words that the pages may give them
    "ruff": {"check", "format", "--fix", "."},
    "source": {".venv/bin/activate"},
    "pytest": {"-q", "-m", "slow"},
    "ssh-add": {"~/.ssh/google_compute_engine"},
    "docker": {"tag", "push", "wsol_jax:cuda", "REGISTRY/wsol_jax:cuda"},
    "gcloud": {
        *("storage", "buckets", "create", "gs://BUCKET", "--location=us-central1"),
        *("--uniform-bucket-level-access", "--enable-hierarchical-namespace"),
    },
}


@dataclasses.dataclass(frozen=True)
class Command:
    """A line of a page: the file's name and the shell's words, without variables before them."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"

    @property
    def module(self) -> str:
        """X of ``python -m X``; "" for another command."""
        return self.words[2] if self.words[:2] == ("python", "-m") else ""


def _lines(script: str) -> Iterator[tuple[str, ...]]:
    """Words of each command: continued lines joined, comments and VARIABLE=value dropped."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield tuple(words)


def page_commands(page: pathlib.Path) -> list[Command]:
    """Every command in a page's blocks of bash."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    name = str(page.relative_to(ROOT))
    return [Command(name, words) for block in blocks for words in _lines(block)]


def config_commands(path: pathlib.Path) -> list[Command]:
    """Every command in the docstring of a config's file: the lines that are set in."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines = _lines("\n".join(re.findall(r"^ {4}(\S.*(?:\\\n.*)*)", text, re.MULTILINE)))
    return [Command(f"configs/{path.name}", words) for words in lines]


def all_commands() -> list[Command]:
    """The commands of all pages and of all configs' docstrings."""
    found = [command for page in PAGES for command in page_commands(page)]
    configs = sorted((ROOT / "configs").glob("*.py"))
    return found + [command for path in configs for command in config_commands(path)]


def inline_code() -> list[tuple[str, str]]:
    """(page, what stands there between two backticks), outside of blocks."""
    found = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        name = str(page.relative_to(ROOT))
        found += [(name, code) for code in re.findall(r"`([^`]+)`", text)]
    return found


# In a process of its own, since absl's flags are one set a process, and forked for each command:
# the flags are parsed and checked as in a run, up to the point where JAX would start.
_READ_FLAGS = """
import importlib, json, os, sys
from absl import flags
from wsol_jax import main
from wsol_jax.base.errors import UserError
from wsol_jax.report import check_data
from wsol_jax.runs import workdirs

def stop(*_):
    raise StopIteration

def read(module, words):
    sys.argv = [module, *words]
    if module != "wsol_jax.main":
        importlib.import_module(module + ".__main__")
        assert flags.FLAGS(sys.argv) == [module], "no flag: a word without --"
        return
    main._set_up_jax = workdirs.load = check_data.check_data = stop
    assert main._parse_flags(sys.argv) == [module], "no flag: a word without --"
    try:
        main._dispatch()
    except StopIteration:
        pass
    stages, config = flags.FLAGS.stages, flags.FLAGS.config
    assert not stages or set(stages) <= set(config.stages), f"no stage of {config.stages}"

results = []
for module, words in json.load(sys.stdin):
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        os.dup2(theirs, 2)
        try:
            read(module, words)
        except (UserError, flags.Error, AssertionError) as error:
            sys.exit(f"error: {error}")
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        text = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    results.append(text or f"status {status}" if status else "")
print(json.dumps(results))
"""


def read_flags(commands: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """What absl, ml_collections and main refuse of each (module, words); "" for nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _READ_FLAGS],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class _Read(Exception):
    """The flags were parsed: nothing else is to be done."""


def _read_argparse(name: str, words: Sequence[str]) -> None:
    """Parses the flags of ``python -m NAME`` by the parser that its ``main`` makes."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"no module {name}"
    module = importlib.import_module(f"{name}.__main__" if _is_package(spec) else name)
    parse = argparse.ArgumentParser.parse_args

    def stop(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise _Read

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            status = module.main(list(words))
        except _Read:
            return
        except SystemExit as end:
            status = end.code
    raise AssertionError(f"refused with status {status}")


def _is_package(spec) -> bool:
    return spec.submodule_search_locations is not None


def _read_benchmark(script: pathlib.Path, words: Sequence[str]) -> None:
    """Parses a benchmark's flags by its own add_argument calls, without importing its peers."""
    parser, text = argparse.ArgumentParser(), script.read_text()
    if "common.make_parser(" in text:
        parser.add_argument("--out")
    calls = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
    ]
    assert calls, f"{script} takes no flags"
    for call in calls:
        expression = compile(ast.Expression(call), str(script), "eval")
        eval(expression, {"parser": parser, "pathlib": pathlib})
    parser.parse_args(list(words))


def _check_others(program: str, words: Sequence[str]) -> None:
    for word in words:
        known = word in _OTHERS[program] or (program == "pytest" and (ROOT / word).exists())
        assert known, f"{program}: {word!r} is not among what the pages may say"


# What a package is called where it is not as its module; jax.export asks for one that it has not.
_PACKAGES = {"PIL": ("pillow",), "jax": ("jax", "flatbuffers")}


def _export_packages() -> set[str]:
    """What an export's run.py imports, by pip's names."""
    text = (ROOT / "wsol_jax/api/run_exported.py").read_text()
    names = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    names -= sys.stdlib_module_names
    return {package for name in names for package in _PACKAGES.get(name, (name,))}


def _check_pip(words: Sequence[str]) -> None:
    if words == ("install", "."):
        return
    if words[:1] == ("install",) and set(words[1:]) == _export_packages():
        return
    assert words[:2] == ("install", "-e"), words
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"\[(.*)\]", words[2])[0].split(","):
        assert extra in extras["optional-dependencies"], f"no extra {extra}"


def launcher(command: Command) -> tuple[pathlib.Path, tuple[str, ...]] | None:
    """(script, words behind its name) where the command is one of launch/'s."""
    for i, word in enumerate(command.words):
        if re.fullmatch(r"(\./)?launch/\w+\.(sh|sbatch)", word):
            return ROOT / word, command.words[i + 1 :]
    return None


def absl_words(command: Command) -> tuple[str, tuple[str, ...]] | None:
    """(module, words) where absl reads the command's flags, the launchers' for a run among them."""
    if command.module in _ABSL:
        return command.module, command.words[3:]
    found = launcher(command)
    if found is None or found[0].name in _NO_RUN or not found[0].is_file():
        return None
    own = {name for name, _ in _own_flags(found[0])}
    words = [w for w in found[1] if w.startswith("--") and w.partition("=")[0] not in own]
    return ("wsol_jax.main", tuple(words)) if words else None


def _own_flags(script: pathlib.Path) -> list[tuple[str, str]]:
    """The flags that a launcher keeps for itself: (name, "=*" where it has a value)."""
    return re.findall(r"^ +(--\w+)(=\*)?(?: \| -h)?\) ", script.read_text(), re.MULTILINE)


def dry_run(command: Command) -> None:
    """Lets a launcher read its own flags: AssertionError on a mistake."""
    found = launcher(command)
    if found is None or found[0].name in ("test.sh", "local.sh"):
        return
    script, words = found
    done = subprocess.run(
        ["bash", str(script), *words, "--dry_run"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def read(command: Command) -> None:
    """Reads a command that absl does not: AssertionError, UserError or SystemExit on a mistake."""
    first, *rest = command.words
    if command.module == "pytest":
        _check_others("pytest", command.words[3:])
    elif command.module.startswith("wsol_jax."):
        _read_argparse(command.module, command.words[3:])
    elif rest[:1] == ["launch/xm_launch.py"]:
        words = [sys.executable, *rest, "--dry_run"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    elif rest[:1] == ["exported/run.py"]:
        # It has no flags.
        assert rest[1:] and all(re.fullmatch(r"\w+\.(jpg|png)", word) for word in rest[1:]), rest
    elif first == "python":
        _read_benchmark(ROOT / rest[0], rest[1:])
    elif first.startswith("./launch/"):
        assert (ROOT / first).stat().st_mode & 0o100, f"{first} does not run"
        if first.endswith("test.sh"):
            _check_others("pytest", [word for word in rest if word != "--all"])
    elif first == "pip":
        _check_pip(tuple(rest))
    else:
        assert first in _OTHERS, f"nothing here can read {first}"
        _check_others(first, rest)

"""A made-up machine for the launchers: programs that write down how they are called.

Each program is a bash script; its body sees its words as "$@", and a folder, "$STATE", that is the
world outside: how the cloud is, what the trainings did.
"""

import os
import pathlib
import signal
import subprocess

ROOT = pathlib.Path(__file__).parents[2]

# Any Python of a launcher: makes an environment with itself in it, and "trains" by $STATE/main.
PYTHON = """
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-m wsol_jax.main"*) shift 2; source "$STATE/main" ;;
  "-c import jax"*)
    [ -z "${NO_GPU:-}" ] || { echo "RuntimeError: no gpu" >&2; exit 1; }
    echo H100 ;;
esac
"""


class Machine:
    """A folder of programs, a home, and the scripts run with nothing else but the system's."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.bin, self.state = folder, folder / "bin", folder / "state"
        self.calls_file = folder / "calls"
        for path in (self.bin, self.state, folder / "home"):
            path.mkdir()
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "STATE": str(self.state),
            "CALLS": str(self.calls_file),
            "WSOL_PYTHON": str(self.bin / "python3.12"),
            "WSOL_VENV": str(folder / "venv"),
        }
        self.program("python3.12", PYTHON)
        self.main("exit 0")

    def program(self, name: str, body: str = "") -> None:
        """A program that writes down its words and then does what ``body`` says."""
        path = self.bin / name
        # Under a name of its own, and renamed: another process may be running it.
        record = 'printf "%s\\0" "$#" "${0##*/}" "$@" >>"$CALLS"'
        path.write_text(f"#!/usr/bin/env bash\n{record}\n{body}\n")
        path.chmod(0o755)

    def main(self, body: str) -> None:
        """What ``python -m wsol_jax.main`` does, in bash; its flags are "$@"."""
        (self.state / "main").write_text(body + "\n")

    def start(self, script: str, *words: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", str(ROOT / "launch" / script), *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group of its own, for Ctrl-C
            # Tests that run in a shell's background come with it ignored, which bash keeps to.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
        """A launcher to its end, from another folder than the clone."""
        process = self.start(script, *words, **environment)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def calls(self, *names: str) -> list[list[str]]:
        """The words of each call so far, of these programs or of all."""
        left = self.calls_file.read_text().split("\0") if self.calls_file.exists() else []
        found = []
        while len(left) > 1:
            count = int(left[0]) + 2
            found.append(left[1:count])
            del left[:count]
        return [words for words in found if not names or words[0] in names]

    def trainings(self) -> list[list[str]]:
        """The flags of each ``python -m wsol_jax.main``."""
        return [w[3:] for w in self.calls() if w[1:3] == ["-m", "wsol_jax.main"]]


def environment_without(*names: str) -> dict[str, str]:
    """This process's environment but for variables that begin so."""
    return {k: v for k, v in os.environ.items() if not k.startswith(names)}

"""Files appear whole or not at all, and no link leads the writer elsewhere."""

import os

import pytest

from wsol_jax.base import files
from wsol_jax.base.errors import UserError


def test_a_file_is_whole_with_the_usual_rights(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_whole(tmp_path / "new/a.txt", "caf\xe9")
    finally:
        os.umask(before)
    assert (tmp_path / "new/a.txt").read_bytes() == "caf\xe9".encode()
    assert (tmp_path / "new/a.txt").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path / "new") == ["a.txt"]


def test_a_name_that_is_no_utf8_can_be_written(tmp_path):
    files.write_whole(tmp_path / "a.txt", "\udcff.jpg")
    assert (tmp_path / "a.txt").read_text() == "\\udcff.jpg"


def test_a_link_in_the_way_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "guessed")
    (tmp_path / ".guessed.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        files.write_whole(tmp_path / "a.txt", "evil")
    assert victim.read_text() == "precious" and not (tmp_path / "a.txt").exists()
    assert (tmp_path / ".guessed.tmp").is_symlink()  # not ours to remove


def test_the_name_on_the_way_cannot_be_guessed(tmp_path, monkeypatch):
    names = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (names.append(a.name), replace(a, b)))
    for _ in range(2):
        files.write_whole(tmp_path / "a.txt", b"a")
    assert names[0] != names[1]
    # stages.product knows what a killed process left by this.
    assert all(name.startswith(".") and name.endswith(".tmp") for name in names)
    assert str(os.getpid()) not in names[0].split(".")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    files.write_whole(tmp_path / "a.txt", "old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        files.write_whole(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_an_output_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    files.check_writable("--out", tmp_path / "new/a.json")
    assert (tmp_path / "new").is_dir()
    for out, told in (
        (tmp_path, "it is a folder, expected a file"),
        (tmp_path / "file/a.json", "File exists|Not a directory"),
    ):
        with pytest.raises(UserError, match=rf"^--out=.*: .*({told})"):
            files.check_writable("--out", out)

"""Remote runs in their mirrors: what goes up, what comes down, what is refused."""

import json

import pytest
from helpers import fake_store
from helpers.mirrored import (
    CONFIG,
    FILES,
    URL,
    content_of,
    in_store,
    upload,
    wait_for_upload,
    write,
)

from wsol_jax.base.errors import UserError
from wsol_jax.runs import mirror
from wsol_jax.runs.mirror.index import LEASE, NAME
from wsol_jax.runs.mirror.local import Mirror


def test_a_local_path_is_itself(tmp_path):
    with mirror.opened(tmp_path / "run") as folder:
        assert folder == tmp_path / "run"
    assert mirror.read("runs/cam").as_posix() == "runs/cam"
    mirror.tick(tmp_path)
    mirror.commit(tmp_path)
    assert not (tmp_path / "run").exists()


def test_up_and_down_and_up_again(store, elsewhere):
    upload(FILES)
    assert in_store(store) == FILES
    elsewhere("second")
    assert content_of(mirror.read(URL)) == FILES
    more = {**FILES, "first/checkpoints/20/state/d": "twenty", "metrics.json": "better"}
    del more["first/checkpoints/10/state/d"]
    upload(more)
    assert in_store(store) == more
    elsewhere("cache")
    assert content_of(mirror.read(URL)) == more


def test_only_what_changed_moves(store, monkeypatch):
    upload(FILES)
    written, real = [], fake_store.FakeStore._write

    def counted(self, path, content, **options):
        written.append(path.rpartition("runs/one/")[2])
        real(self, path, content, **options)

    monkeypatch.setattr(fake_store.FakeStore, "_write", counted)
    upload(FILES | {"metrics.json": "better"})
    staged = [name for name in written if name.startswith(".wsol_jax_new/")]
    assert len(staged) == 1
    assert [n for n in written if n not in (*staged, LEASE)] == [NAME, "metrics.json"]
    written.clear()
    upload(FILES | {"metrics.json": "better"})
    assert set(written) == {LEASE}


def test_a_reader_takes_what_it_needs(store, elsewhere):
    upload(FILES)
    elsewhere("figures")
    found = content_of(mirror.read(URL, choose=mirror.figures_alone)).keys()
    assert FILES.keys() - found == {"first/checkpoints/10/state/d", "cues/cues/a.png"}
    found = content_of(mirror.read(URL, choose=mirror.network_alone)).keys()
    assert FILES.keys() - found == {"cues/cues/a.png"}
    elsewhere("network")
    found = content_of(mirror.read(URL, choose=mirror.network_alone)).keys()
    assert found == {
        "config.json", "metrics.json", "report_data.npz", "first/checkpoints/10/state/d",
        "cues/cues.json",
    }  # fmt: skip
    with mirror.opened(URL) as folder:  # who writes has all
        assert content_of(folder) == FILES
    assert in_store(store) == FILES


def test_a_reader_of_the_machine_that_writes_sees_its_files(store):
    with mirror.opened(URL) as folder:
        write(folder, FILES)
        assert content_of(mirror.read(URL)) == FILES
        assert in_store(store) == {}


def test_what_others_put_there_stays(store):
    notes = store / "bucket/runs/one/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    upload(FILES)
    upload({"config.json": CONFIG})
    assert in_store(store) == {"config.json": CONFIG, "notes.txt": "mine"}


def test_a_run_that_was_copied_there_by_hand(store, elsewhere, tmp_path):
    upload(FILES)
    (store / "bucket/runs/one" / NAME).unlink()
    elsewhere("second")
    assert content_of(mirror.read(URL)) == FILES
    upload(FILES | {"metrics.json": "better"})
    assert in_store(store) == FILES | {"metrics.json": "better"}
    elsewhere("third")
    assert content_of(mirror.read(URL)) == FILES | {"metrics.json": "better"}


def test_a_folder_of_something_else_is_refused(store):
    place = store / "bucket/runs/one/checkpoints/model.pt"
    place.parent.mkdir(parents=True)
    place.write_text("another")
    with (
        pytest.raises(UserError, match=rf"--workdir={URL} holds checkpoints, which would be"),
        mirror.opened(URL),
    ):
        raise AssertionError("it was opened")
    assert content_of(mirror.read(URL)) == {}
    (store / "bucket/runs/one/config.json").write_text("{}")
    for opened in (mirror.opened(URL).__enter__, lambda: mirror.read(URL)):
        with pytest.raises(UserError, match=rf"^{URL}/config.json is damaged, it has no 'config'"):
            opened()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"version": 1, "ident": "a", "files": {"a": [1, "00"]}}', '{"version": 1}'],
)
def test_a_damaged_index_is_told(store, content):
    upload(FILES)
    (store / "bucket/runs/one" / NAME).write_text(content)
    with pytest.raises(UserError, match=rf"{URL}/{NAME} is damaged .*remove it there|no '"):
        mirror.read(URL)


def test_an_index_whose_names_lead_out_is_refused(store, elsewhere):
    upload(FILES)
    path = store / "bucket/runs/one" / NAME
    index = json.loads(path.read_text())
    index["files"]["../../../out"] = index["files"]["metrics.json"]
    path.write_text(json.dumps(index))
    elsewhere("second")
    with pytest.raises(UserError, match="leads out of its folder"):
        mirror.read(URL)


def test_an_object_that_was_changed_by_hand_is_named(store, elsewhere):
    upload(FILES)
    (store / "bucket/runs/one/metrics.json").write_text("by hand")
    elsewhere("second")
    with pytest.raises(UserError, match=r"metrics.json is not what .*_index.json there says"):
        mirror.read(URL)
    (store / "bucket/runs/one" / NAME).unlink()
    assert content_of(mirror.read(URL)) == FILES | {"metrics.json": "by hand"}


def test_a_snapshot_is_what_the_files_were(store):
    with mirror.opened(URL) as folder:
        write(folder, FILES)
        fake_store.set_faults(store, slow=0.05)
        mirror.commit(folder)
        write(folder, {"config.json": CONFIG})  # before most of it is up
        fake_store.set_faults(store)
        wait_for_upload()
        assert in_store(store) == FILES
        assert list(Mirror(URL).room.glob("snapshot-*")) == []
    assert in_store(store) == {"config.json": CONFIG}

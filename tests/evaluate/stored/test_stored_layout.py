"""What is wrong with a map, an id or a line of the metadata is told with its place."""

import io
import pathlib
import time
import zipfile

import numpy as np
import pytest
from helpers.stored import IDS, map_path, refused, save, scored, words, write_lines

from wsol_jax.evaluate.stored import layout as stored

# ---- what is wrong with a map is said of that map ----


def bad_maps():
    good = np.full((224, 224), 0.5, np.float32)
    nan, infinite = good.copy(), good.copy()
    nan[3, 4], infinite[3, 4] = np.nan, np.inf
    return {
        "NaN": nan,
        "infinity": infinite,
        "(28, 28)": good[:28, :28],
        "(1, 224, 224)": good[None],
        "[0, 127.5]": np.linspace(0, 127.5, 224 * 224).reshape(224, 224),
        "complex": good.astype(complex),
        "<U1": np.full((224, 224), "a"),
    }


@pytest.mark.parametrize(
    "what", [*bad_maps(), "pickle", "truncated", "truncated within", "no .npy", "empty", "npz"]
)
def test_a_bad_map_is_named(tree, capsys, what):
    path = tree / "maps" / "plain.npy"
    if what in bad_maps():
        save(path, bad_maps()[what])
    elif what == "pickle":

        class Trap:
            def __reduce__(self):
                return (pathlib.Path(tree / "trapped").touch, ())

        np.save(path, np.array([Trap()], object), allow_pickle=True)
    elif what == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "truncated within":
        path.write_bytes(path.read_bytes()[:50])
    elif what == "no .npy":
        path.write_bytes(b"hello, this is no array of numbers")
    elif what == "empty":
        path.write_bytes(b"")
    else:
        np.savez(path.with_suffix(".npz"), a=1)
        path.with_suffix(".npz").replace(path)
    told = refused(capsys, words(tree))
    expected = "no .npy" if what == "npz" else what
    assert str(path) in told and expected in told and "line 4" in told and "--skip_bad" in told
    assert not (tree / "trapped").exists()
    found = scored(tree, "--skip_bad")
    shown = capsys.readouterr()
    assert found["max_box_acc"]["images"] == len(IDS) - 1 and found["max_box_acc"]["skipped"] == 1
    assert str(path) in shown.err and "skipped: 1" in shown.out
    assert not (tree / "trapped").exists()


def test_a_header_that_lies_about_its_size_takes_no_memory(tree, capsys):
    for side, expected in ((1000000, "the limit is 100000000 pixels"), (5000, "truncated: 0 of")):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({side}, {side}), }}".encode()
        data = b"\x93NUMPY\x01\x00" + (119 - 1).to_bytes(2, "little") + header.ljust(117) + b"\n"
        (tree / "maps" / "plain.npy").write_bytes(data)
        assert expected in refused(capsys, words(tree, "--resize"))
        assert f"({side}, {side})" in refused(capsys, words(tree))


def test_missing_maps_are_counted_before_any_work(tree, capsys):
    (tree / "maps" / "plain.npy").unlink()
    map_path(tree, IDS[1]).unlink()
    told = refused(capsys, words(tree))
    assert "2 of 36" in told and f"{IDS[1]}.npy" in told and "line 2" in told
    assert scored(tree, "--skip_bad")["max_box_acc"]["skipped"] == 2


def test_an_empty_folder_and_no_folder(tree, capsys):
    (tree / "empty").mkdir()
    rest = [f"--metadata={tree / 'metadata'}", "--skip_bad"]
    assert "none of the 36" in refused(capsys, [f"--scoremaps={tree / 'empty'}", *rest])
    assert "no such folder" in refused(capsys, [f"--scoremaps={tree / 'nowhere'}", *rest])
    maps = f"--scoremaps={tree / 'maps'}"
    assert "no such folder" in refused(capsys, [maps, f"--metadata={tree / 'nowhere'}"])
    assert "image_ids.txt" in refused(capsys, [maps, f"--metadata={tree / 'empty'}"])


def test_every_map_bad(tree, capsys):
    for path in (tree / "maps").rglob("*.npy"):
        path.write_bytes(b"")
    assert "every image is bad" in refused(capsys, words(tree, "--skip_bad"))


# ---- what is wrong with an id or a metadata file is said with its line ----


@pytest.mark.parametrize(
    "image_id",
    [
        "../x",
        "a/../../x",
        "..",
        "/etc/passwd",
        "C:\\x",
        "c:/x",
        "a\\..\\..\\x",
        "a\0b",
        "a/",
        "\\x",
    ],
)
def test_ids_that_leave_the_folder_are_refused(tree, capsys, image_id):
    write_lines(tree / "metadata" / "image_ids.txt", [*IDS[:2], image_id])
    told = refused(capsys, words(tree, "--skip_bad"))
    assert "image_ids.txt, line 3" in told and "refused" in told


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_out_of_the_folder_are_refused(tree, capsys, what):
    outside = tree / "outside" / "x.npy"
    save(outside, np.zeros((224, 224), np.float32))
    if what == "file":
        (tree / "maps" / "plain.npy").unlink()
        (tree / "maps" / "plain.npy").symlink_to(outside)
    else:
        (tree / "maps" / "out").symlink_to(outside.parent)
        write_lines(tree / "metadata" / "image_ids.txt", [*IDS[:3], "out/x.jpg"])
    told = refused(capsys, words(tree, "--skip_bad"))
    assert "line 4" in told and "link" in told


def test_a_link_to_the_folder_itself_is_no_escape(tree):
    before = scored(tree)
    (tree / "maps").rename(tree / "elsewhere")
    (tree / "maps").symlink_to(tree / "elsewhere")
    assert scored(tree) == before


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("image_ids", "plain", "already on line 4"),
        ("image_sizes", "plain,10", "ID,WIDTH,HEIGHT"),
        ("image_sizes", "plain,0,10", "from 1"),
        ("image_sizes", "plain,10.5,10", "whole pixels"),
        ("image_sizes", "plain,7,7", "another size"),
        ("class_labels", "plain", "ID,CLASS"),
        ("class_labels", "plain,dog", "class index"),
        ("localization", "plain,1,2,3", "ID,X0,Y0,X1,Y1"),
        ("localization", "plain,1,2,3,nan", "with numbers"),
        ("localization", "plain,9,2,3,4", "X0 <= X1"),
    ],
)
def test_a_malformed_line_is_named(tree, capsys, name, line, told):
    path = tree / "metadata" / f"{name}.txt"
    lines = path.read_text().split("\n")
    write_lines(path, [*lines, line])
    sentence = refused(capsys, words(tree))
    assert f"{path}, line {len(lines) + 1}" in sentence and told in sentence


def test_latin_1_is_named_and_crlf_and_a_byte_order_mark_are_read(tree, capsys):
    before = scored(tree)
    for path in (tree / "metadata").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert scored(tree) == before
    with (tree / "metadata" / "image_ids.txt").open("ab") as file:
        file.write(b"caf\xe9.jpg\n")
    assert "line 38: it is not UTF-8" in refused(capsys, words(tree))


def test_one_map_for_two_images_is_refused(tree, capsys):
    write_lines(tree / "metadata" / "image_ids.txt", [*IDS, "class 0/000.png"])
    assert "would serve" in refused(capsys, words(tree))


def test_images_without_a_box_are_counted(tree, capsys):
    path = tree / "metadata" / "localization.txt"
    lines = path.read_text().split("\n")
    write_lines(path, [x for x in lines if not x.startswith("plain,")])
    assert scored(tree)["max_box_acc"]["images"] == len(IDS) - 1
    assert "1 of 36 images have no box (first 'plain')" in capsys.readouterr().out


def test_a_size_that_is_missing_is_named(tree, capsys):
    path = tree / "metadata" / "image_sizes.txt"
    write_lines(path, [x for x in path.read_text().split("\n") if not x.startswith("plain,")])
    assert "image_sizes.txt: no row for 'plain'" in refused(capsys, words(tree))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "images", "boxes"),
    [
        ("CUB/train", 5994, 5994),
        ("CUB/val", 1000, 1000),
        ("CUB/test", 5794, 5794),
        ("ILSVRC/val", 10_000, 18_532),
    ],
)
def test_the_published_metadata_loads(shared, folder, images, boxes):
    metadata = stored.read_metadata(shared / "data" / "wsol_metadata" / folder)
    assert len(metadata.ids) == images and sum(map(len, metadata.boxes.values())) == boxes
    everything = set(metadata.ids)
    for part in (metadata.labels, metadata.sizes, metadata.boxes):
        assert set(part) == everything
    assert len({c for labels in metadata.labels.values() for c in labels}) in (200, 1000)


def test_a_box_file_whose_first_row_has_nan_is_one_of_boxes(tree, capsys):
    path = tree / "metadata" / "localization.txt"
    rows = path.read_text().splitlines()
    for wrong in ("nan", "inf", "1e300", "-1e17"):
        first = rows[0].rsplit(",", 1)[0] + f",{wrong}"
        write_lines(path, [first, *rows[1:]])
        told = refused(capsys, words(tree))
        assert "localization.txt, line 1: expected ID,X0,Y0,X1,Y1 with numbers" in told
        assert wrong in told


@pytest.mark.parametrize("flag", [(), ("--resize",), ("--normalise",)])
@pytest.mark.parametrize("dtype, value", [("f8", 1e300), ("f4", 3e38), ("f16", 1e4000)])
def test_maps_that_overflow_float32(tree, capsys, recwarn, flag, dtype, value):
    values = np.zeros((224, 224), dtype)
    values[0, 0], values[1, 1] = np.longdouble(10) ** 4000 if value == 1e4000 else value, -1
    save(tree / "maps" / "plain.npy", values)
    told = refused(capsys, words(tree, *flag))
    assert str(tree / "maps" / "plain.npy") in told
    assert "infinity" in told or "expected numbers within 2.1" in told
    assert not [w for w in recwarn if "overflow" in str(w.message)]


def test_predictions_of_long_lines_take_no_time(tree, capsys):
    path = tree / "predictions.txt"
    flags = words(tree, f"--predictions={path}")
    for line in ("," * 400_000, "a" + ",1" * 200_000 + ",x", "1," * 200_000, " " * 10**6 + ",1,x"):
        path.write_text(f"{IDS[0]},3,2,1\n{line}\n")
        start = time.process_time()
        assert "predictions.txt, line 2: expected ID,CLASS" in refused(capsys, flags)
        assert time.process_time() - start < 2
    path.write_text(f"{IDS[0]},3,2,1\n{'1,' * 2**20}\n")
    assert "predictions.txt, line 2: it has more than 1048576 bytes." in refused(capsys, flags)


def test_predictions_that_unpack_to_gigabytes(tree, capsys):
    path = tree / "predictions.npz"
    header = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (len(IDS), 10**9)}
    np.lib.format.write_array_header_1_0(header, about)
    ids = io.BytesIO()
    np.save(ids, np.array(IDS))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image_ids.npy", ids.getvalue())
        archive.writestr("probabilities.npy", header.getvalue())
    told = refused(capsys, words(tree, f"--predictions={path}"))
    assert f"claims {8 * 36 * 10**9 + 4 * 36 * max(map(len, IDS))} bytes" in told
    np.savez(path, image_ids=IDS, probabilities=np.zeros((3, 7)))
    told = refused(capsys, words(tree, f"--predictions={path}"))
    assert "it has 36 image_ids and probabilities of shape (3, 7)" in told
    np.savez(path, image_ids=IDS, probabilities=np.full((36, 7), "a"))
    assert "probabilities of <U1" in refused(capsys, words(tree, f"--predictions={path}"))


def test_an_id_twice_among_many_is_found_in_time(tree, capsys):
    path = tree / "predictions.npz"
    ids = [f"{i:06}" for i in range(60_000)]
    np.savez(path, image_ids=[*ids, ids[-1]], probabilities=np.zeros((60_001, 2), np.float32))
    start = time.process_time()
    assert "'059999' has two rows" in refused(capsys, words(tree, f"--predictions={path}"))
    assert time.process_time() - start < 5

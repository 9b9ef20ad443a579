"""``cls_labels.npy``: every spelling that NumPy has had for it, and pickles that want to run."""

import codecs
import os
import pickle
import struct

import numpy as np
import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.data.sources.voc import VOC_CLASSES
from wsol_jax.data.sources.voc_labels import read_image_labels

ROWS = {"2007_000032": (0, 14), "2007_000039": (19,), "2011_003276": ()}


def multi_hot(classes, dtype=np.float32):
    row = np.zeros(20, dtype)
    row[list(classes)] = 1
    return row


def content(dtype=np.float32):
    return {name: multi_hot(classes, dtype) for name, classes in ROWS.items()}


def wrap(data: bytes, version=(1, 0)) -> bytes:
    """The .npy header of a zero-dimensional array of objects, and a pickle behind it."""
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    size = struct.Struct("<H" if version == (1, 0) else "<I")
    header += " " * (-(8 + size.size + len(header) + 1) % 64) + "\n"
    return b"\x93NUMPY" + bytes(version) + size.pack(len(header)) + header.encode() + data


def write(path, data: bytes):
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------- spellings


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64, bool, ">f4"])
def test_what_numpy_saves(tmp_path, dtype):
    np.save(tmp_path / "cls_labels.npy", content(dtype))
    assert read_image_labels(tmp_path / "cls_labels.npy") == ROWS


@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_pickles_of_old_and_new_numpy(tmp_path, module, protocol, version):
    """NumPy 2 names its modules numpy._core, those before it numpy.core; same length or not."""
    array = np.empty((), object)
    array[()] = content()
    data = pickle.dumps(array, protocol=protocol)
    own, other = b"numpy._core", b"numpy.core"
    if module == other:
        # Names have their length before them from protocol 4 on: shorten that as well.
        for name in (b"numpy._core.multiarray", b"numpy._core.numeric"):
            short = name.replace(own, other)
            data = data.replace(bytes([len(name)]) + name, bytes([len(short)]) + short)
            data = data.replace(b"c" + name, b"c" + short)
        if protocol >= 4:  # the frame's length no longer holds
            data = unframed(data)
        assert own not in data
    assert module in data
    pickle.loads(data)  # the edited bytes are what NumPy itself would take
    found = read_image_labels(write(tmp_path / "a.npy", wrap(data, version)))
    assert found == ROWS


def unframed(data: bytes) -> bytes:
    """A pickle of protocol 4 or 5 without its first FRAME, which is allowed."""
    assert data[2:3] == b"\x95"
    return data[:2] + data[11:]


def test_python_2_spelling_of_bytes(tmp_path):
    """Protocol 2 stores bytes as text that _codecs.encode turns back: the one function it needs."""
    data = pickle.dumps(content(), protocol=2)
    assert b"_codecs" in data
    assert read_image_labels(write(tmp_path / "a.npy", wrap(data))) == ROWS


def test_whole_numbers_are_ids_without_their_dash(tmp_path):
    keys = {2007000032: (0, 14), np.int64(2011003276): (2,), np.int32(2008000008): ()}
    np.save(tmp_path / "a.npy", {key: multi_hot(row) for key, row in keys.items()})
    expected = {"2007_000032": (0, 14), "2011_003276": (2,), "2008_000008": ()}
    assert read_image_labels(tmp_path / "a.npy") == expected


def test_what_python_2_wrote(tmp_path):
    """Text of bytes, 0x80 among them, by the pickle's opcodes."""
    text = lambda x: b"U" + bytes([len(x)]) + x
    minus_one = b"J\xff\xff\xff\xff"
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNN" + 2 * minus_one + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    row = text(multi_hot(ROWS["2007_000032"]).tobytes())
    data = b"}" + text(b"2007_000032") + array + b"(K\x01(K\x14t" + dtype + b"I00\n" + row + b"tbs."
    assert b"\x80" in data
    expected = pickle.loads(b"\x80\x02" + data, encoding="latin1")["2007_000032"]
    np.testing.assert_array_equal(expected, multi_hot(ROWS["2007_000032"]))
    found = read_image_labels(write(tmp_path / "a.npy", wrap(b"\x80\x02" + data)))
    assert found == {"2007_000032": ROWS["2007_000032"]}


def test_arrays_in_fortran_order_and_parts_of_others(tmp_path):
    table = np.asfortranarray(np.eye(20, dtype=np.float32)[[3, 7]])
    np.save(tmp_path / "a.npy", {"2007_000032": table[0], "2007_000039": np.eye(20)[:, 5][::-1]})
    assert read_image_labels(tmp_path / "a.npy") == {"2007_000032": (3,), "2007_000039": (14,)}


def test_rows_may_be_lists(tmp_path):
    np.save(tmp_path / "a.npy", {"2007_000032": multi_hot((3,), np.int64).tolist()})
    assert read_image_labels(tmp_path / "a.npy") == {"2007_000032": (3,)}


# ---------------------------------------------------------------- files of another kind


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        read_image_labels(path)
    text = str(error.value)
    assert text.startswith(f"data.labels={path}") and "\n" not in text
    return text


def test_a_missing_file_is_one_sentence(tmp_path):
    assert "cannot be read: No such file" in refusal(tmp_path / "none.npy")
    assert "cannot be read: Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 9, 60, 128, 140, 200, -1])
def test_a_truncated_file_is_one_sentence(tmp_path, kept):
    np.save(tmp_path / "a.npy", content())
    whole = (tmp_path / "a.npy").read_bytes()
    assert len(whole) > 300
    assert "no file of image labels" in refusal(write(tmp_path / "b.npy", whole[:kept]))


@pytest.mark.parametrize(
    "made",
    [
        [1, 2, 3],
        {"2007_000032": np.zeros(21)},
        {"2007_000032": np.full(20, 0.5)},
        {"2007_000032": np.full(20, np.nan)},
        {"2007_000032": np.full(20, 2)},
        {"2007_000032": None},
        {"2007_000032": [[0, 1], [0]]},
        {None: np.zeros(20)},
        {(1, 2): np.zeros(20)},
        {float("nan"): np.zeros(20)},
        {"2007_000032": np.zeros((20, 1))},
        {"2007_000032": ["aeroplane"] * 20},
    ],
    ids=lambda x: repr(x)[:24].replace(" ", ""),
)
def test_other_contents_are_one_sentence(tmp_path, made):
    refusal(write(tmp_path / "a.npy", wrap(pickle.dumps(made))))


def test_plain_arrays_and_text_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 20)))
    refusal(tmp_path / "a.npy")
    refusal(write(tmp_path / "b.npy", b"2007_000032 0 14\n"))
    np.savez(tmp_path / "c.npz", a=np.zeros(3))
    refusal(tmp_path / "c.npz")


# ---------------------------------------------------------------- pickles that want to run


class Runs:
    """Unpickled by whoever trusts it, calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


RAN = []


def confess(*arguments):
    RAN.append(arguments)
    return multi_hot(())


@pytest.fixture
def quiet():
    RAN.clear()
    yield
    assert not RAN


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_function_in_the_file_is_not_run(tmp_path, quiet, protocol):
    hostile = [
        Runs(confess, 1),
        {"2007_000032": Runs(confess, 1)},
        {Runs(confess, 1): multi_hot(())},
        {**content(), "x": [Runs(confess, 1)]},
    ]
    for i, made in enumerate(hostile):
        path = write(tmp_path / f"{i}.npy", wrap(pickle.dumps(made, protocol=protocol)))
        assert "confess" in refusal(path)
    # The same bytes do run where nobody looks.
    pickle.loads(pickle.dumps(hostile[0], protocol=protocol))
    assert RAN
    RAN.clear()


def test_inside_an_array_of_objects_too(tmp_path, quiet):
    array = np.empty(2, object)
    array[:] = [Runs(confess, 1), 2]
    np.save(tmp_path / "a.npy", array)
    assert "confess" in refusal(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", {"2007_000032": array})
    assert "confess" in refusal(tmp_path / "b.npy")


@pytest.mark.parametrize(
    "function, arguments",
    [
        (os.system, ("touch {}",)),
        (eval, ("open({!r}, 'w')",)),
        (open, ("{}", "w")),
        (np.save, ("{}", 1)),
        (np.fromfile, ("{}",)),
        (codecs.decode, (b"a", "hex")),
        (getattr, ("a", "upper")),
        (__import__, ("os",)),
        (np.memmap, ("{}", "u1", "w+", 0, (4,))),
    ],
    ids=lambda x: getattr(x, "__qualname__", ""),
)
def test_functions_of_the_house_are_not_run_either(tmp_path, function, arguments):
    """Python's own, and NumPy's that are not among the five names."""
    target = tmp_path / "made"
    given = tuple(x.format(str(target)) if isinstance(x, str) else x for x in arguments)
    data = pickle.dumps({"a": Runs(function, *given)})
    assert "it asks for" in refusal(write(tmp_path / "a.npy", wrap(data)))
    assert not target.exists()


def spelled(module: str, name: str, protocol: int) -> bytes:
    """A pickle that calls module.name() ."""
    if protocol < 4:
        return f"c{module}\n{name}\n(tR.".encode()
    text = lambda s: b"\x8c" + bytes([len(s)]) + s.encode()
    return b"\x80\x04" + text(module) + text(name) + b"\x93)R."


@pytest.mark.parametrize("protocol", [0, 4])
@pytest.mark.parametrize(
    "module, name",
    [
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.core.multiarray", "_reconstruct.__class__"),
        ("numpy._core.multiarray", "os.system"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "load"),
        ("numpy", "testing.measure"),
        ("numpy.core.numeric", "frombuffer"),
        ("numpy.core.multiarray.x", "_reconstruct"),
        ("numpyXcore.multiarray", "_reconstruct"),
        ("_codecs", "decode"),
        ("codecs", "encode"),
        ("builtins", "eval"),
    ],
)
def test_names_that_look_alike_are_refused(tmp_path, protocol, module, name):
    text = refusal(write(tmp_path / "a.npy", wrap(spelled(module, name, protocol))))
    assert f"it asks for {module}.{name}" in text


def test_other_encodings_are_refused(tmp_path):
    """encode(text, encoding) would run any codec of the interpreter's."""
    for encoding in ("hex", "utf-8", "rot13"):
        data = pickle.dumps(Runs(codecs.encode, "abc", encoding), protocol=0)
        text = refusal(write(tmp_path / "a.npy", wrap(data)))
        assert f"encoding {encoding}" in text


def test_endless_nesting_is_one_sentence(tmp_path):
    refusal(write(tmp_path / "a.npy", wrap(b"]" * 3 + b"a" * 5 + b".")))
    refusal(write(tmp_path / "b.npy", wrap(b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b".")))


def test_bytes_at_random_are_one_sentence(tmp_path):
    """NumPy's own stand-ins end the process on some of these."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", content())
    whole = (tmp_path / "a.npy").read_bytes()
    refused = 0
    for _ in range(300):
        spoilt = bytearray(whole)
        for place in rng.integers(0, len(whole), 2):
            spoilt[place] = rng.integers(256)
        path = write(tmp_path / "b.npy", spoilt)
        try:
            found = read_image_labels(path)
        except UserError:
            refused += 1
        else:
            assert all(isinstance(name, str) for name in found)
            assert all(0 <= c < 20 for row in found.values() for c in row)
    assert refused > 100


# ---------------------------------------------------------------- the real file


@pytest.mark.shared
def test_the_real_file(shared):
    """facts: 10,582 of trainaug and the 1,449 of val, as the field has them."""
    folder = shared / "data/voc12_lists"
    path = folder / "cls_labels.npy"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = read_image_labels(path)
    lists = {n: (folder / f"{n}.txt").read_text().split() for n in ("train_aug", "val")}
    assert [len(x) for x in lists.values()] == [10582, 1449]
    for names in lists.values():
        assert all(found[name] for name in names)
    with path.open("rb") as file:  # trusted here: read as it would be without this reader
        expected = np.load(file, allow_pickle=True).item()
    assert len(found) == len(expected)
    for key, row in list(expected.items())[::97]:
        name = key if isinstance(key, str) else f"{str(key)[:4]}_{str(key)[4:]}"
        assert found[name] == tuple(np.flatnonzero(row))


@pytest.mark.shared
def test_the_real_labels_are_those_of_the_annotations(shared):
    from wsol_jax.data.sources import voc

    path = shared / "data/voc12_lists/cls_labels.npy"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = read_image_labels(path)
    source = voc.open_voc(shared / "data/voc_animals", "wsss_val", multi_label=True)
    seen = agree = 0
    for record in source.records:
        if record.image_id in found:
            seen += 1
            agree += found[record.image_id] == record.labels
    assert seen > 50 and agree / seen > 0.9
    assert source.class_names == VOC_CLASSES

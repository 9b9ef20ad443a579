"""Downloads from a loopback server, unpacking, and every way they fail."""

import dataclasses
import hashlib
import http.server
import importlib.util
import io
import os
import re
import socket
import tarfile
import threading

import pytest

from wsol_jax.base import download
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import cache_folder
from wsol_jax.data.sources import cub_files
from wsol_jax.networks.backbones import table
from wsol_jax.networks.weights import published

CONTENT = os.urandom(3 << 20)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved.bin":
            self.send_response(302)
            self.send_header("Location", "/file.bin")
            self.end_headers()
        elif self.path in ("/file.bin", "/short.bin"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: 1 << 20] if "short" in self.path else CONTENT)
        else:
            self.send_error(404)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def closed():
    """A loopback address where nobody answers: a machine without a network."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def _fails(words, function, *args, **options):
    with pytest.raises(UserError) as error:
        function(*args, **options)
    text = str(error.value)
    for word in words:
        assert word in text
    assert "\n" not in text


def test_fetches_and_verifies_once(server, tmp_path):
    path = tmp_path / "deep/er/file.bin"
    assert download.fetch(f"{server}/moved.bin", path, SHA256.upper(), MD5) == path
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["file.bin"]
    assert path.stat().st_mode & 0o777 == 0o644
    # The second time nothing is asked for: the address is gone and it does not matter.
    assert download.fetch("http://127.0.0.1:9/file.bin", path, md5=MD5) == path


def test_a_file_url(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    download.fetch((tmp_path / "a").as_uri(), tmp_path / "b", md5=MD5)
    assert (tmp_path / "b").read_bytes() == CONTENT
    _fails(["cannot be reached", "c"], download.fetch, (tmp_path / "x").as_uri(), tmp_path / "c")


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path, kind):
    path = tmp_path / "file.bin"
    wrong = {kind: "0" * (64 if kind == "sha256" else 32)}
    _fails(
        [f"{server}/file.bin did not give", f"its {kind} is", str(path)],
        download.fetch,
        f"{server}/file.bin",
        path,
        **wrong,
    )
    assert os.listdir(tmp_path) == []


def test_a_wrong_file_in_place_is_named_and_kept(server, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"mine")
    _fails(
        [f"{path} is not the expected file"], download.fetch, f"{server}/file.bin", path, md5=MD5
    )
    assert path.read_bytes() == b"mine"


def test_no_network_says_what_to_fetch_and_where_to_put_it(closed, tmp_path):
    path = tmp_path / "file.bin"
    url = f"{closed}/file.bin"
    _fails([url, "refused", f"put it at {path}"], download.fetch, url, path)
    assert os.listdir(tmp_path) == []


def test_not_found_and_cut_short(server, tmp_path):
    path = tmp_path / "file.bin"
    _fails(["answers 404", str(path)], download.fetch, f"{server}/gone.bin", path)
    # Without a checksum too: the announced length tells.
    _fails(["ended after 1048576 of 3145728"], download.fetch, f"{server}/short.bin", path)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_and_a_folder_that_is_a_file(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file/x"
    _fails([str(inside), "cannot be written"], download.fetch, f"{server}/file.bin", inside)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_stream", full)
    path = tmp_path / "file.bin"
    _fails(["no room left", str(tmp_path)], download.fetch, f"{server}/file.bin", path)
    assert os.listdir(tmp_path) == ["file"]


def _tgz(path, entries):
    """entries: [(name, content or TarInfo type)]"""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes) and len(content) != 1:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type = content
                info.linkname = "/etc/passwd"
                tar.addfile(info)
    return path


GOOD = [
    ("./attributes.txt", b"beside"),
    ("CUB_200_2011", tarfile.DIRTYPE),
    ("CUB_200_2011/images.txt", b"1 a/b.jpg\n"),
    ("./CUB_200_2011/images/a/b.jpg", b"photo"),
]


def test_unpacks_one_folder_whole(tmp_path):
    archive = _tgz(tmp_path / "a.tgz", GOOD)
    target = download.unpack(archive, "CUB_200_2011", tmp_path)
    assert (target / "images/a/b.jpg").read_bytes() == b"photo"
    assert sorted(os.listdir(tmp_path)) == ["CUB_200_2011", "a.tgz"]
    _fails(["is in the way"], download.unpack, archive, "CUB_200_2011", tmp_path)


@pytest.mark.parametrize(
    "name, content",
    [
        ("../evil", b"bad"),
        ("CUB_200_2011/../../evil", b"bad"),
        ("/tmp/wsol_jax_evil", b"bad"),
        ("CUB_200_2011/link", tarfile.SYMTYPE),
        ("CUB_200_2011/link", tarfile.LNKTYPE),
        ("CUB_200_2011/pipe", tarfile.FIFOTYPE),
        ("CUB_200_2011/disk", tarfile.BLKTYPE),
    ],
)
def test_nothing_escapes_from_an_archive(tmp_path, name, content):
    root = tmp_path / "inner"
    archive = _tgz(root / "a.tgz", [*GOOD, (name, content)])
    _fails(["not safe", name], download.unpack, archive, "CUB_200_2011", root)
    assert os.listdir(root) == ["a.tgz"]
    assert os.listdir(tmp_path) == ["inner"]
    assert not os.path.exists("/tmp/wsol_jax_evil")


def test_damaged_archives(tmp_path):
    archive = _tgz(tmp_path / "a.tgz", [*GOOD, ("CUB_200_2011/big", CONTENT)])
    whole = archive.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for data in (b"", b"no archive", whole[: len(whole) // 2], bytes(flipped)):
        archive.write_bytes(data)
        _fails(["a.tgz is damaged"], download.unpack, archive, "CUB_200_2011", tmp_path)
        assert os.listdir(tmp_path) == ["a.tgz"]
    archive.write_bytes(whole)
    _fails(["holds no folder other"], download.unpack, archive, "other", tmp_path)


def _remote(path):
    return download.Remote(path.as_uri(), md5=hashlib.md5(path.read_bytes()).hexdigest())


def test_ensure_cub(tmp_path, monkeypatch):
    archive = _tgz(tmp_path / "net/CUB_200_2011.tgz", GOOD)
    monkeypatch.setattr(cub_files, "CUB", _remote(archive))
    monkeypatch.setenv("WSOL_JAX_CACHE", str(tmp_path / "cache"))
    target = cub_files.ensure_cub()
    assert target == tmp_path / "cache/cub/CUB_200_2011"
    assert (target / "images.txt").is_file()
    named = tmp_path / "mine/CUB_200_2011"
    assert cub_files.ensure_cub(named) == named
    archive.unlink()
    # There already: found from the folder itself and from the one above, and nothing is fetched.
    (named.parent / "CUB_200_2011.tgz").unlink()
    assert cub_files.ensure_cub(named) == cub_files.ensure_cub(named.parent) == named


def test_ensure_cub_masks(tmp_path, monkeypatch):
    archive = _tgz(tmp_path / "net/segmentations.tgz", [("segmentations/a/b.png", b"mask")])
    monkeypatch.setattr(cub_files, "CUB_MASKS", _remote(archive))
    cub = tmp_path / "CUB_200_2011"
    cub.mkdir()
    assert cub_files.ensure_cub_masks(cub) == cub / "segmentations"
    assert (cub / "segmentations/a/b.png").read_bytes() == b"mask"
    archive.unlink()
    assert cub_files.ensure_cub_masks(cub) == cub / "segmentations"
    (cub / "segmentations").rename(tmp_path / "segmentations")
    assert cub_files.ensure_cub_masks(cub) == tmp_path / "segmentations"


def test_ensure_weights(tmp_path, monkeypatch, closed):
    monkeypatch.setenv("WSOL_JAX_CACHE", str(tmp_path / "cache"))
    remote = download.Remote(f"{closed}/vgg16.h5", md5=MD5)
    weights = {"keras": table.Weights(remote, "caffe")}
    row = dataclasses.replace(table.BACKBONES["vgg16"], weights=weights)
    monkeypatch.setitem(table.BACKBONES, "vgg16", row)
    place = tmp_path / "cache/weights/vgg16.h5"
    _fails([remote.url, f"put it at {place}"], published.ensure_weights, "vgg16")
    place.write_bytes(CONTENT)  # done as told
    assert published.ensure_weights("vgg16") == place
    assert published.ensure_weights("vgg16", dense=True) == place  # it has no other
    _fails(["'resnet18'", "weights=PATH"], published.ensure_weights, "resnet18")


def test_vgg16s_fully_connected_layers_are_a_file_of_their_own(monkeypatch):
    monkeypatch.setattr(published, "fetch", lambda url, path, sha256, md5: (url, path.name, md5))
    folder = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    file = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    md5 = "64373286793e3c8b2b4e3219cbf3544b"
    assert published.ensure_weights("vgg16", dense=True) == (folder + file, file, md5)
    assert published.ensure_weights("vgg16")[1] == file.replace(".h5", "_notop.h5")
    for name in ("mobilenet_v2", "inception_v3", "resnet50"):
        assert published.ensure_weights(name, dense=True) == published.ensure_weights(name)


@pytest.mark.parametrize("dense", [False, True])
def test_whatever_is_fetched_has_a_whole_checksum(monkeypatch, dense):
    monkeypatch.setattr(published, "fetch", lambda url, path, sha256, md5: (sha256, md5))
    for name in (name for name, row in table.BACKBONES.items() if row.imagenet):
        sha256, md5 = published.ensure_weights(name, dense)
        assert sha256 or md5, name
        assert sha256 is None or re.fullmatch(r"[0-9a-f]{64}", sha256), name
        assert md5 is None or re.fullmatch(r"[0-9a-f]{32}", md5), name
    with pytest.raises(UserError, match=r"no ImageNet weights are known for 'squeezenet'.*a file"):
        published.ensure_weights("squeezenet", dense)
    sha256, _ = published.ensure_weights("alexnet")
    assert f"-{sha256[:8]}.pth" in table.BACKBONES["alexnet"].weights["torchvision"].remote.url


def test_the_stated_files_are_those_of_keras():
    """keras.applications, where installed, is the publisher: same address, same checksum."""
    for name, row in table.BACKBONES.items():
        if row.imagenet != "keras" or name.startswith("resnet"):
            continue
        text = _keras_source(name)
        weights = row.weights["keras"]
        for remote in filter(None, (weights.remote, weights.dense)):
            if remote.md5:
                # The hash stands right behind the file's name and address.
                behind = text.split(f'"{remote.file}"')[-1]
                assert re.search(r'file_hash="(\w+)"', behind).group(1) == remote.md5
            folder = "/".join(remote.url.split("/")[:-2])
            assert folder in text.replace('"\n    "', "")
            assert re.fullmatch(r"[0-9a-f]{32}", remote.md5 or "0" * 32)
            assert re.fullmatch(r"[0-9a-f]{64}", remote.sha256 or "0" * 64)
            assert remote.md5 or remote.sha256


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_the_stated_resnets_are_those_of_keras(name):
    """Its names and checksums are tables there: the whole network's, then the trunk's."""
    text = _keras_source("resnet")
    remote = table.BACKBONES[name].weights["keras"].remote
    folder = re.search(r'BASE_WEIGHTS_PATH = \(\s*"(\S+)"', text)[1]
    file = re.search(r'"\{weights_name\}(\S+notop\.h5)"', text)[1]
    assert remote.url == f"{folder}{name}{file}"
    assert remote.md5 == re.search(rf'"{name}": \(\s*"\w+",\s*"(\w+)"', text)[1]


def _keras_source(name):
    keras = importlib.util.find_spec("keras")  # found, not imported: that takes seconds
    if keras is None:
        pytest.skip("keras is not installed")
    with open(os.path.join(os.path.dirname(keras.origin), "src/applications", f"{name}.py")) as f:
        return f.read()


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("WSOL_JAX_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/wsol_jax"

"""Reads weight files as flat dicts of arrays; nothing is ever unpickled.

The files may be anyone's. What a header claims is compared with ``MAX_BYTES`` before it is read,
and an HDF5 file's links to other files are not followed.
"""

import io
import math
import pathlib
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping

import h5py
import numpy as np
import safetensors

from wsol_jax.base.arrays import Unreadable, check_size, open_archive, read_member, read_npz
from wsol_jax.base.errors import UserError
from wsol_jax.base.limits import MAX_BYTES
from wsol_jax.networks.backbones.table import Layout

# Endings that only one of the two writes.
LAYOUTS: dict[str, Layout] = {
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "keras"),
    **dict.fromkeys((".pth", ".pt"), "torchvision"),
}

FORMATS = ".npz, .h5, .keras, .safetensors, .pth or .pt"

# Keras 1 called them W and b, and TensorFlow numbered repeated scopes (block1_conv1_W_1:0): the
# published VGG16 file still does.
_KERAS_1 = re.compile(r".*_(?P<kind>[Wb])(_\d+)?$")


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a weight file by name.

    Args:
      path: an .npz, .h5 or .keras (names become "layer/weight"), a .safetensors, .pth or .pt (names
        stay; a state dict inside {"state_dict": ...} and behind "module." is found).

    Returns:
      name -> array, in the file's own axis order and dtype.

    Raises:
      UserError: an unknown ending, a file that is not what its ending says or is damaged, arrays
        of anything but numbers, or beyond ``MAX_BYTES``, or a .pth where PyTorch is not installed.
    """
    path = pathlib.Path(path)
    readers = {
        ".npz": _read_npz,
        ".h5": _read_h5,
        ".hdf5": _read_h5,
        ".keras": _read_keras,
        ".safetensors": _read_safetensors,
        ".pth": _read_torch,
        ".pt": _read_torch,
    }
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: weights are read from {FORMATS}, not from {path.suffix!r} files.")
    arrays = readers[path.suffix.lower()](path)
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise UserError(f"{path}: {name} holds {array.dtype}, expected numbers.")
    return arrays


def layout_of(names: Mapping[str, np.ndarray]) -> Layout:
    """Tells whose names these are: Keras' have slashes ("Conv1/kernel"), PyTorch's dots."""
    return "keras" if any("/" in name for name in names) else "torchvision"


# Names of files whose writer had no slashes: "conv1_kernel".
_FLAT = re.compile(r"_(kernel|bias)$")


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        arrays = {name.removesuffix(":0"): array for name, array in read_npz(path).items()}
    except (OSError, Unreadable) as error:
        raise UserError(f"{path}: not an .npz file of plain arrays ({error}).") from error
    if any("/" in name or "." in name for name in arrays):
        return arrays
    return {_FLAT.sub(r"/\1", name): array for name, array in arrays.items()}


def _read_h5(path: pathlib.Path, data: io.BytesIO | None = None) -> dict[str, np.ndarray]:
    try:
        with h5py.File(data or path, "r") as file:
            if "layers" in file or "_layer_checkpoint_dependencies" in file:
                found = _keras_3(path, file)
            else:
                found = _keras_legacy(_own(file, "model_weights") or file)
            for name, dataset in found.items():
                _check_dataset(name, dataset)
            check_size(sum(dataset.nbytes for dataset in found.values()))
            return {name: dataset[()] for name, dataset in found.items()}
    except UserError:
        raise
    except Exception as error:  # h5py raises whatever the damage led to
        raise UserError(f"{path}: not a readable HDF5 file ({error}).") from error


def _own(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """A member that lies in the file itself: a link may name any other file of this machine."""
    there = isinstance(group.get(name, getlink=True), h5py.HardLink)
    return group[name] if there else None


def _members(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    for name in group:
        if (item := _own(group, name)) is not None:
            yield name, item


def _check_dataset(name: str, dataset: h5py.Dataset) -> None:
    """Raises Unreadable for numbers of another file, no numbers, or chunks beyond the limit."""
    if dataset.external or dataset.is_virtual:
        raise Unreadable(f"{name} points to another file, which is not followed")
    if dataset.shape is None or dataset.dtype.kind not in "biuf" or dataset.dtype.subdtype:
        raise Unreadable(f"{name} holds {dataset.dtype}, expected numbers")
    check_size(math.prod(dataset.chunks or ()) * dataset.dtype.itemsize)


def _keras_legacy(root: h5py.Group) -> dict[str, h5py.Dataset]:
    """Groups named by layer, datasets by weight, some scopes between them."""
    arrays = {}
    for layer, group in _members(root):
        if layer in ("top_level_model_weights", "optimizer_weights"):
            continue
        found: dict[str, h5py.Dataset] = {}
        if isinstance(group, h5py.Group):
            group.visititems(lambda name, item, found=found: _collect(name, item, found))
        parents = {name.rpartition("/")[0] for name in found}
        for name, dataset in found.items():
            parent, _, weight = name.rpartition("/")
            # A whole model used as a layer: its own layers' names are one level further down.
            owner = parent.rpartition("/")[2] if len(parents) > 1 else layer
            weight = weight.removesuffix(":0")
            if old := _KERAS_1.match(weight):
                weight = {"W": "kernel", "b": "bias"}[old["kind"]]
            arrays[f"{owner}/{weight}"] = dataset
    return arrays


def _collect(name: str, item: h5py.HLObject, found: dict[str, h5py.Dataset]) -> None:
    if isinstance(item, h5py.Dataset):
        found[name] = item


def _keras_3(path: pathlib.Path, root: h5py.File) -> dict[str, h5py.Dataset]:
    """Groups .../vars of numbered datasets; the layer's name is an attribute of the group."""
    arrays: dict[str, h5py.Dataset] = {}
    unnamed: list[str] = []

    def collect(name: str, item: h5py.HLObject) -> None:
        if not isinstance(item, h5py.Group) or name.startswith("optimizer"):
            return
        if name.rpartition("/")[2] != "vars" or not len(item):
            return
        if "name" not in item.attrs:
            unnamed.append(name)
            return
        numbered = dict(_members(item))
        values = [numbered[key] for key in sorted(numbered, key=int)]
        if not all(isinstance(value, h5py.Dataset) for value in values):
            raise Unreadable(f"{name} holds groups where arrays are expected")
        if values[0].ndim > 1:
            kinds = ("kernel", "bias")
        elif len(values) == 4:
            kinds = ("gamma", "beta", "moving_mean", "moving_variance")
        else:
            kinds = ("beta", "moving_mean", "moving_variance")
        for index, value in enumerate(values):
            kind = kinds[index] if index < len(kinds) else str(index)
            arrays[f"{item.attrs['name']}/{kind}"] = value

    root.visititems(collect)
    if unnamed:
        # Only their order would be left to go by, and it is not the order of creation.
        raise UserError(
            f"{path}: {len(unnamed)} layers have no name in this file ({unnamed[0]}, ...), an early"
            " Keras 3 wrote it: load it into Keras' model and save that with a newer Keras."
        )
    return arrays


def _read_keras(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, open_archive(file) as archive:
            data = read_member(archive, "model.weights.h5")
    except Exception as error:  # zipfile and zlib raise whatever the damage led to
        raise UserError(f"{path}: not a .keras archive with weights in it ({error}).") from error
    return _read_h5(path, io.BytesIO(data))


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    _check_safetensors(path)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return _unwrapped({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}).") from error
    except Exception as error:  # for bfloat16 and 8-bit floats it raises one thing or another
        raise UserError(f"{path}: holds arrays that NumPy cannot read ({error}).") from error


def _check_safetensors(path: pathlib.Path) -> None:
    """Raises UserError for a header, or a file, beyond what it can or may hold."""
    have = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) < 8 or struct.unpack("<Q", start)[0] > have - 8:
        raise UserError(f"{path}: not a readable safetensors file (its header is cut off).")
    if have > MAX_BYTES:
        raise UserError(f"{path}: it has {have} bytes, the limit is {MAX_BYTES}.")


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    _check_torch(path)
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: PyTorch's files are read with PyTorch, which is not installed: run "
            "pip install torch, or convert the file to .safetensors where it is."
        ) from error
    try:
        # weights_only: tensors and plain containers, no code out of the pickle.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a file of plain tensors ({reason}).") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: expected a state dict, found a {type(state).__name__}.")
    others = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise UserError(f"{path}: expected a state dict of tensors, but {others[0]!r} is none.")
    try:
        # A tensor may claim any shape over few numbers, its strides being 0.
        check_size(sum(value.numel() * value.element_size() for value in state.values()))
        arrays = {}
        for name, value in state.items():
            value = value.detach()
            arrays[str(name)] = (value.float() if value.is_floating_point() else value).numpy()
    except Exception as error:  # sparse, quantized or complex tensors, or those without numbers
        raise UserError(f"{path}: holds tensors that NumPy cannot read ({error}).") from error
    return _unwrapped(arrays)


def _check_torch(path: pathlib.Path) -> None:
    """Raises UserError for an archive that unpacks to more than the limit, or is damaged.

    PyTorch's older files are no archives: what they claim to hold must lie in them.
    """
    try:
        if not zipfile.is_zipfile(path):
            check_size(path.stat().st_size)
            return
        with path.open("rb") as file, open_archive(file) as archive:
            check_size(sum(member.file_size for member in archive.infolist()))
            odd = [m.filename for m in archive.infolist() if m.compress_type != zipfile.ZIP_STORED]
        if odd:
            raise Unreadable(f"{odd[0]} is compressed, as PyTorch never does")
    except Exception as error:  # zipfile raises whatever the damage led to
        raise UserError(f"{path}: not a file of plain tensors ({error}).") from error


def _unwrapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the "module." that torch's DataParallel puts before every name."""
    if arrays and all(name.startswith("module.") for name in arrays):
        return {name.removeprefix("module."): value for name, value in arrays.items()}
    return arrays

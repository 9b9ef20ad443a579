"""Photos cut into lists where nobody says which one is for what."""

import hashlib
from collections.abc import Mapping, Sequence

SHARES = {"train": (0, 80), "tune": (80, 90), "test": (90, 100)}
"""The lists and their shares in percent."""

_ENOUGH = 3  # photos of a class, so that each list can have one


def percentile(image_id: str) -> int:
    """0 to 99, the same for an id on every machine and in every run."""
    return int.from_bytes(_digest(image_id)[:8], "big") % 100


def by_hash(image_ids: Sequence[str]) -> dict[str, str]:
    """The list of each photo by its own hash alone: a small class may miss a list."""
    return {image_id: _list_of(percentile(image_id)) for image_id in image_ids}


def by_class(labels: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The list of each photo: by its own hash, mended where a class lacks photos in a list.

    A photo that is added moves no other one, but for those that were moved for its class's sake.
    Of a class of n photos tune and test have at least n // 20, and one where there are three; the
    list train 60% or what is left. The rarest class is served first, and a photo moves only where
    each of its own classes can spare it. Photos of several classes can make that impossible: then
    a class lacks a list, and whoever counts them says so.

    Args:
      labels: the classes of each photo, by its id.
    """
    found = by_hash(list(labels))
    order = {image_id: _digest(image_id) for image_id in labels}
    members: dict[str, list[str]] = {}
    for image_id, names in labels.items():
        for name in names:
            members.setdefault(name, []).append(image_id)
    counts = {name: dict.fromkeys(SHARES, 0) for name in members}
    for name, ids in members.items():
        for image_id in ids:
            counts[name][found[image_id]] += 1
    least = {name: _least(len(ids)) for name, ids in members.items()}
    for name in sorted(members, key=lambda name: (len(members[name]), name)):
        for wanted in (place for place in SHARES if counts[name][place] < least[name][place]):
            for image_id in sorted(members[name], key=order.get):
                if counts[name][wanted] >= least[name][wanted]:
                    break
                own, giver = labels[image_id], found[image_id]
                if giver != wanted and all(counts[c][giver] > least[c][giver] for c in own):
                    found[image_id] = wanted
                    for c in own:
                        counts[c][giver] -= 1
                        counts[c][wanted] += 1
    return found


def _least(photos: int) -> dict[str, int]:
    """How many of a class's photos each list has at least."""
    if photos < _ENOUGH:
        return {"train": min(photos, 1), "tune": 0, "test": 0}
    few = max(1, photos // 20)
    return {"train": photos - 2 * max(1, photos // 5), "tune": few, "test": few}


def _list_of(place: int) -> str:
    return next(name for name, (low, high) in SHARES.items() if low <= place < high)


def _digest(image_id: str) -> bytes:
    # A name that is no UTF-8 comes as surrogates.
    return hashlib.sha256(image_id.encode(errors="surrogateescape")).digest()

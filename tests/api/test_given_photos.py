"""Photos as people hand them over become records, or one sentence."""

import numpy as np
import pytest
from PIL import Image

from wsol_jax.api import photos
from wsol_jax.base.errors import UserError
from wsol_jax.data.decode import decode_rgb

NAMES = ("cat", "dog")


def pixels_of(source):
    return [decode_rgb(r.image, r.image_id, exif=True) for r in source.records]


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


def test_every_kind_of_photo_gives_the_same_pixels(picture, tmp_path):
    file = tmp_path / "a b.png"
    Image.fromarray(picture).save(file)
    kinds = [
        file,
        str(file),
        file.read_bytes(),
        picture,
        Image.open(file),
        Image.fromarray(picture),
    ]
    source = photos.given(kinds, NAMES)
    for found in pixels_of(source):
        np.testing.assert_array_equal(found, picture)
    names = [record.image_id for record in source.records]
    assert names == ["0_a b.png", "1_a b.png", "photo2", "photo3", "4_a b.png", "photo5"]


def test_grey_and_alpha_become_rgb(picture):
    grey, alpha = picture[..., 0], np.dstack([picture, picture[..., :1]])
    first, second = pixels_of(photos.given([grey, alpha], NAMES))
    np.testing.assert_array_equal(first, np.dstack([grey] * 3))
    np.testing.assert_array_equal(second, picture)


def test_a_pillow_image_is_turned_as_its_camera_says(tmp_path):
    wide = Image.new("RGB", (40, 10), "red")
    exif = wide.getexif()
    exif[0x0112] = 6
    wide.save(tmp_path / "t.jpg", exif=exif)
    for given in (tmp_path / "t.jpg", Image.open(tmp_path / "t.jpg")):
        assert pixels_of(photos.given([given], NAMES))[0].shape == (40, 10, 3)


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "(255 * x)"),
        (np.zeros((2, 4, 4, 3), np.uint8), "(2, 4, 4, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"),
        (np.zeros((4, 4, 2), np.uint8), "(4, 4, 2)"),
        (3.5, "float"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_photo_is_one_sentence(photo, words):
    with pytest.raises(UserError, match="photo0: expected") as raised:
        photos.given([photo], NAMES)
    assert words in str(raised.value)


@pytest.mark.parametrize("place", ["nowhere", "nul\0l", ""])
def test_a_place_that_is_not_there(place, tmp_path):
    if not place:
        place = tmp_path
    with pytest.raises(UserError, match=r"no such folder or file|no photo in it"):
        photos.find(place, NAMES)


def test_names_that_collide_with_what_others_became(tmp_path, picture):
    files = []
    for name in ("x/a.png", "y/a.png", "0_a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / name)
        files.append(tmp_path / name)
    names = [record.image_id for record in photos.given(files, NAMES).records]
    assert len(set(names)) == 3

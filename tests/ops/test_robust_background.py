"""Robust background detection on a picture by hand, and against the paper's sums as loops."""

import concurrent.futures
import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import color, segmentation
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from wsol_jax.ops import saliency

# A picture of 4 x 4: region 2 inside of another colour, 50 away; 0, 1 and 3 around it.
PICTURE = np.array([[0, 0, 0, 1], [0, 2, 2, 1], [0, 2, 2, 1], [3, 3, 3, 1]], np.int32)
PAIRS = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]], np.int32)
BORDER = np.array([True, True, False, True])
COLOURS = np.array([[50, 0, 0], [50, 0, 0], [50, 30, 40], [50, 0, 0]], float)
CENTRES = np.array([[1.3, 1.3], [2, 3.5], [2, 2], [3.5, 1.5]]) / 4


def looped_geodesic(colours, pairs, border):
    """Floyd and Warshall's three loops over a graph in which border superpixels are joined."""
    count = len(colours)
    found = np.full((count, count), np.inf)
    linked = {tuple(p) for p in pairs.tolist()}
    for i in range(count):
        for j in range(count):
            if i == j:
                found[i, j] = 0
            elif (i, j) in linked or (j, i) in linked or (border[i] and border[j]):
                found[i, j] = math.dist(colours[i], colours[j])
    for k in range(count):
        for i in range(count):
            for j in range(count):
                found[i, j] = min(found[i, j], found[i, k] + found[k, j])
    return found


def looped_background(geodesic, border):
    weights = []
    for p in range(len(geodesic)):
        area = sum(math.exp(-(d**2) / 200) for d in geodesic[p])
        length = sum(math.exp(-(geodesic[p, i] ** 2) / 200) for i in np.flatnonzero(border))
        weights.append(1 - math.exp(-((length / math.sqrt(area)) ** 2) / 2))
    return np.array(weights)


def looped_contrast(colours, centres, background):
    found = []
    for p in range(len(colours)):
        total = 0.0
        for i in range(len(colours)):
            near = math.exp(-(math.dist(centres[p], centres[i]) ** 2) / (2 * 0.25**2))
            total += math.dist(colours[p], colours[i]) * near * background[i]
        found.append(total)
    found = np.array(found)
    return (found - found.min()) / (found.max() - found.min())


def dense_saliency(colours, pairs, background, contrast):
    """The derivative by each s_i set to 0, row by row, and NumPy's dense solver."""
    count = len(colours)
    system = np.zeros((count, count))
    for i in range(count):
        system[i, i] = background[i] + contrast[i]
    for i, j in pairs:
        weight = math.exp(-(math.dist(colours[i], colours[j]) ** 2) / 200) + 0.1
        system[i, i] += weight
        system[j, j] += weight
        system[i, j] -= weight
        system[j, i] -= weight
    return np.linalg.solve(system, contrast)


def energy(s, colours, pairs, background, contrast):
    """Zhu et al. 2014, eq. 9."""
    total = sum(background * s**2) + sum(contrast * (s - 1) ** 2)
    for i, j in pairs:
        weight = math.exp(-(math.dist(colours[i], colours[j]) ** 2) / 200) + 0.1
        total += weight * (s[i] - s[j]) ** 2
    return total


def random_graph(seed, count=14):
    """A ring with chords, its colours close enough for all weights to matter; two are the same."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(0, 8, (count, 3)) + [50, 0, 0]
    colours[1] = colours[0]
    ring = {(i, i + 1) for i in range(count - 1)} | {(0, count - 1)}
    chords = {tuple(sorted(rng.choice(count, 2, replace=False).tolist())) for _ in range(8)}
    return colours, np.array(sorted(ring | chords), np.int32), rng.random(count) < 0.3


def painted(seed=0, shape=(48, 64)):
    """A disc on a slope of colours with noise; the RGB range is all of 0..255."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    photo = np.stack([60 + y, 90 + x, np.full(shape, 70)], axis=-1).astype(float)
    disc = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 < (shape[0] / 4) ** 2
    photo[disc] = (210, 60, 40)
    photo = np.clip(photo + rng.normal(0, 6, photo.shape), 0, 255).astype(np.uint8)
    photo[0, 0], photo[0, 1] = 0, 255
    return photo, disc


def test_picture_by_hand():
    far = math.exp(-12.5)  # S of a distance of 50
    geodesic = saliency.geodesic_distances(COLOURS, PAIRS, BORDER)
    expected = np.zeros((4, 4))
    expected[2, [0, 1, 3]] = expected[[0, 1, 3], 2] = 50
    np.testing.assert_allclose(geodesic, expected, atol=1e-12)
    around, inside = 3 / math.sqrt(3 + far), 3 * far / math.sqrt(1 + 3 * far)
    weights = saliency.background_weight(geodesic, BORDER)
    w = 1 - math.exp(-(around**2) / 2)
    np.testing.assert_allclose(weights, [w, w, -math.expm1(-(inside**2) / 2), w], rtol=1e-12)
    contrast = saliency.background_contrast(COLOURS, CENTRES, weights)
    assert contrast.argmax() == 2 and contrast[2] == 1 and contrast.min() == 0
    found = saliency.optimised_saliency(COLOURS, PAIRS, weights, contrast)
    np.testing.assert_allclose(found, dense_saliency(COLOURS, PAIRS, weights, contrast), rtol=1e-10)
    assert found.argmax() == 2


def test_two_superpixels_by_hand():
    """w_bg (1, 0), wCtr (0, 1), w = 1.1: 2.1 s0 - 1.1 s1 = 0 and 2.1 s1 - 1.1 s0 = 1."""
    same = np.zeros((2, 3))
    pairs, background, contrast = np.array([[0, 1]]), np.array([1.0, 0]), np.array([0, 1.0])
    found = saliency.optimised_saliency(same, pairs, background, contrast)
    np.testing.assert_allclose(found, [1.1 / 3.2, 2.1 / 3.2], rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_each_step_equals_loops(seed):
    colours, pairs, border = random_graph(seed)
    geodesic = saliency.geodesic_distances(colours, pairs, border)
    np.testing.assert_allclose(geodesic, looped_geodesic(colours, pairs, border), rtol=1e-10)
    np.testing.assert_allclose(geodesic, geodesic.T, rtol=1e-12)
    background = saliency.background_weight(geodesic, border)
    np.testing.assert_allclose(background, looped_background(geodesic, border), rtol=1e-10)
    centres = np.random.default_rng(seed).random((len(colours), 2))
    contrast = saliency.background_contrast(colours, centres, background)
    reference = looped_contrast(colours, centres, background)
    np.testing.assert_allclose(contrast, reference, rtol=1e-10, atol=1e-12)
    found = saliency.optimised_saliency(colours, pairs, background, contrast)
    dense = dense_saliency(colours, pairs, background, contrast)
    np.testing.assert_allclose(found, dense, rtol=1e-10)
    assert found.min() >= 0 and found.max() <= 1


def test_saliency_has_the_least_energy():
    colours, pairs, _ = random_graph(7)
    rng = np.random.default_rng(7)
    weights = (colours, pairs, rng.random(len(colours)), rng.random(len(colours)))
    found = saliency.optimised_saliency(*weights)
    least = energy(found, *weights)
    for _ in range(20):
        assert energy(found + rng.normal(0, 1e-3, len(found)), *weights) > least


def test_border_superpixels_are_one_step_apart():
    """Without the joints the way leads through the middle: 40 and 40 instead of 0."""
    colours = np.array([[50.0, 0, 0], [90, 0, 0], [50, 0, 0]])
    pairs = np.array([[0, 1], [1, 2]])
    nowhere, ends = np.array([False] * 3), np.array([True, False, True])
    assert saliency.geodesic_distances(colours, pairs, nowhere)[0, 2] == 80
    assert saliency.geodesic_distances(colours, pairs, ends)[0, 2] == 0


def test_a_neighbour_pair_at_the_border_counts_once():
    colours = np.array([[50.0, 0, 0], [57, 0, 0]])
    border = np.array([True, True])
    assert saliency.geodesic_distances(colours, np.array([[0, 1]]), border)[0, 1] == 7


def test_no_way_between_superpixels():
    """Infinitely far: nothing in common, and every figure stays finite."""
    colours = np.array([[50.0, 0, 0], [50, 0, 0], [50, 0, 0]])
    border = np.array([True, True, False])
    geodesic = saliency.geodesic_distances(colours, np.empty((0, 2), np.int32), border)
    assert geodesic[0, 1] == 0 and geodesic[0, 2] == np.inf
    weights = saliency.background_weight(geodesic, border)
    np.testing.assert_allclose(weights, [1 - math.exp(-1), 1 - math.exp(-1), 0], rtol=1e-12)


def test_the_whole_equals_loops():
    photo, _ = painted()
    found = saliency.robust_background(photo, 30)
    lab = saliency.lab_colours(photo)
    regions = saliency.slic_regions(lab, 30)
    count = regions.max() + 1
    height, width = regions.shape
    colours, centres, border, pairs = [], [], [], set()
    for region in range(count):
        ys, xs = np.nonzero(regions == region)
        colours.append(lab[ys, xs].astype(np.float64).mean(axis=0))
        centres.append([(ys + 0.5).mean() / height, (xs + 0.5).mean() / width])
        border.append(0 in ys or 0 in xs or height - 1 in ys or width - 1 in xs)
    for y, x in np.ndindex(height, width):
        for v, u in ((y + 1, x), (y, x + 1)):
            if v < height and u < width and regions[y, x] != regions[v, u]:
                pairs.add(tuple(sorted((int(regions[y, x]), int(regions[v, u])))))
    pairs = np.array(sorted(pairs))
    background = looped_background(looped_geodesic(colours, pairs, border), border)
    contrast = looped_contrast(colours, centres, background)
    dense = dense_saliency(colours, pairs, background, contrast)
    expected = (dense - dense.min()) / (dense.max() - dense.min())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[regions], atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_disc_stands_out(seed):
    photo, disc = painted(seed, (90, 120))
    found = saliency.robust_background(photo)
    assert found.shape == disc.shape
    assert found.min() == 0 and found.max() == 1
    assert found[disc].mean() > 0.8
    assert found[~disc].mean() < 0.2


def test_what_touches_the_border_a_little_stands_out_still():
    photo = np.full((90, 120, 3), (40, 120, 50), np.uint8)
    photo[40:, 50:75] = (200, 60, 40)  # on the lower border with a sixth of its outline
    found = saliency.robust_background(photo)
    assert found[45:75, 52:72].mean() > 0.6
    assert found[:30].mean() < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 50), (50, 1), (2, 2), (3, 40), (40, 56)])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_one_colour_has_nothing_that_stands_out(shape, value):
    found = saliency.robust_background(np.full((*shape, 3), value, np.uint8))
    np.testing.assert_array_equal(found, np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(1, 2), (1, 50), (50, 1), (2, 2), (3, 40), (40, 56)])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_of_any_shape_gives_finite_maps(shape, channels):
    noise = np.random.default_rng(3).integers(0, 256, (*shape, channels), dtype=np.uint8)
    photo = np.broadcast_to(noise, (*shape, 3))
    found = saliency.robust_background(photo)
    assert found.shape == shape and found.dtype == np.float32
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


def test_one_superpixel_has_nothing_that_stands_out():
    photo, _ = painted()
    np.testing.assert_array_equal(saliency.robust_background(photo, 1), 0)


def test_photo_is_left_as_it_was_and_threads_agree():
    photo, _ = painted()
    kept = photo.copy()
    photo.flags.writeable = False
    alone = saliency.robust_background(photo)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(saliency.robust_background, [photo] * 8):
            np.testing.assert_array_equal(found, alone)
    np.testing.assert_array_equal(photo, kept)


def test_lab_is_scikit_images():
    """OpenCV's cube roots come from splines: half a unit apart at most, of 100."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(18, -1, 3)
    np.testing.assert_allclose(saliency.lab_colours(cube), color.rgb2lab(cube), atol=0.5)


def test_superpixels_are_connected_and_none_is_empty():
    photo, _ = painted(shape=(96, 128))
    regions = saliency.slic_regions(saliency.lab_colours(photo), 100)
    count = regions.max() + 1
    assert regions.dtype == np.int32 and 60 <= count <= 140
    assert [ndimage.label(regions == r)[1] for r in range(count)] == [1] * count


def test_superpixels_are_those_of_true_lab_distances():
    """scikit-image makes Lab of a photo itself; of a photo that spans 0..255 it scales nothing."""
    photo, _ = painted(shape=(96, 128))
    found = saliency.slic_regions(saliency.lab_colours(photo), 100)
    expected = segmentation.slic(photo, 100, compactness=20, start_label=0)
    assert adjusted_rand_score(expected.ravel(), found.ravel()) > 0.9


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_photo_is_refused(photo):
    with pytest.raises(ValueError, match="a photo is"):
        saliency.robust_background(photo)


def test_min_max_takes_rounding_for_equal():
    np.testing.assert_array_equal(saliency.min_max(np.array([1000, 1000 + 1e-9])), 0)
    np.testing.assert_array_equal(saliency.min_max(np.array([3, 3])), 0)
    np.testing.assert_allclose(saliency.min_max(np.array([[-1, 3], [1, 0]])), [[0, 1], [0.5, 0.25]])


@pytest.mark.shared
def test_animals_stand_out_of_real_photos(shared):
    """0.88 on 60 photos, measured; the chance of a random map is 0.5."""
    root = shared / "data" / "voc_animals"
    areas = []
    for path in sorted((root / "SegmentationClassAug").glob("*.png"))[::150]:
        mask = np.asarray(Image.open(path))
        photo = Image.open(root / "JPEGImages" / f"{path.stem}.jpg").convert("RGB")
        found = saliency.robust_background(np.asarray(photo))
        known = mask != 255
        areas.append(roc_auc_score(mask[known] > 0, found[known]))
    assert np.mean(areas) > 0.75

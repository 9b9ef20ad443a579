"""Saliency without training: robust background detection (Zhu et al. 2014), on the host.

    W. Zhu, S. Liang, Y. Wei, J. Sun: Saliency optimization from robust background detection.
    CVPR 2014.

What is joined to the image's border by colour is background; an object that touches the border does
so with little of its outline. Everything is computed between superpixels, in float64; the functions
share no state, so that threads may run them side by side.
"""

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph, linalg
from scipy.spatial import distance
from skimage import segmentation

from wsol_jax.ops import graphs

COLOUR_SIGMA = 10.0  # of Lab distances: geodesic ones, and neighbours' (the paper's sigma_clr)
BORDER_SIGMA = 1.0  # of boundary connectivity (sigma_bndCon)
PLACE_SIGMA = 0.25  # of distances in a photo of height and width 1 (sigma_spa)
SMOOTHNESS = 0.1  # of all neighbours, whatever their colours (mu)
COMPACTNESS = 20.0  # of SLIC, against Lab distances: higher is squarer


def robust_background(photo: np.ndarray, superpixels: int = 200) -> np.ndarray:
    """Finds what stands out of a photo's background (Zhu et al. 2014).

    Args:
      photo: (H, W, 3) uint8 RGB, at least one pixel.
      superpixels: about how many SLIC makes, at least one.

    Returns:
      (H, W) float32, scaled to 0..1, one value a superpixel. All 0 where nothing stands out: a
      photo of one colour, or of one superpixel.

    Raises:
      ValueError: a photo of another shape or dtype.
    """
    lab = lab_colours(photo)
    regions = slic_regions(lab, superpixels)
    count = int(regions.max()) + 1
    pairs = graphs.neighbours(regions, count)
    border = graphs.border_regions(regions, count)
    colours = graphs.region_means(lab, regions, count)
    centres = graphs.region_means(unit_grid(*regions.shape), regions, count)
    background = background_weight(geodesic_distances(colours, pairs, border), border)
    contrast = background_contrast(colours, centres, background)
    saliency = min_max(optimised_saliency(colours, pairs, background, contrast))
    return saliency.astype(np.float32)[regions]


def lab_colours(photo: np.ndarray) -> np.ndarray:
    """Converts a photo to CIE Lab (D65), in which distances are roughly those that eyes see.

    Args:
      photo: (H, W, 3) uint8 sRGB.

    Returns:
      (H, W, 3) float32: L in 0..100, a in -87..99, b in -108..95.

    Raises:
      ValueError: a photo of another shape or dtype, or without pixels.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise ValueError(f"a photo is (H, W, 3) uint8, not {photo.shape} {photo.dtype}")
    return cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def slic_regions(lab: np.ndarray, superpixels: int) -> np.ndarray:
    """Cuts a photo into connected superpixels of like colour by SLIC (Achanta et al. 2012).

    Args:
      lab: (H, W, 3) float32 Lab colours.
      superpixels: about how many, at least one.

    Returns:
      (H, W) int32 ids, 0 .. n - 1, none of them empty.
    """
    # scikit-image scales what it is given to 0..1; the compactness undoes that, so that colour
    # distances are Lab's. A photo of one colour has no range, and no distances either.
    spread = max(float(np.ptp(lab)), 1.0)
    regions = segmentation.slic(
        lab, superpixels, compactness=COMPACTNESS / spread, convert2lab=False, start_label=0
    )
    used = np.bincount(regions.ravel()) > 0
    return (np.cumsum(used, dtype=np.int32) - 1)[regions]


def unit_grid(height: int, width: int) -> np.ndarray:
    """Gives the pixels' centres in a photo of height and width 1: (H, W, 2) float64, y and x."""
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)


def geodesic_distances(colours: np.ndarray, pairs: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Sums colour differences along the shortest path between superpixels (Zhu et al. 2014, eq. 2).

    A path goes from neighbour to neighbour; any two border superpixels are neighbours too, so that
    a background that objects cut in two is one.

    Args:
      colours: (N, 3) mean Lab colours.
      pairs: (E, 2) integers, the neighbours i < j.
      border: (N,) bool, which are at the photo's border.

    Returns:
      (N, N) float64, symmetric but for rounding, 0 on the diagonal; infinite where no path is.
    """
    count = len(colours)
    at_border = np.flatnonzero(border)
    first, second = np.triu_indices(len(at_border), 1)
    joined = np.stack([at_border[first], at_border[second]], axis=1)
    edges = np.unique(np.concatenate([pairs, joined]), axis=0)  # a sparse matrix sums repeats
    i, j = edges.T
    lengths = np.linalg.norm(colours[i] - colours[j], axis=1)
    graph = sparse.csr_array((lengths, (i, j)), shape=(count, count))
    return csgraph.dijkstra(graph, directed=False)


def background_weight(geodesic: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Weighs how sure a superpixel is background, by its boundary connectivity (eqs. 3 to 5, 7).

        S(p, i) = exp(-d_geo(p, i)^2 / (2 sigma_clr^2))
        BndCon(p) = sum_{i at border} S(p, i) / sqrt(sum_i S(p, i))
        w_bg(p) = 1 - exp(-BndCon(p)^2 / (2 sigma_bndCon^2))

    Args:
      geodesic: (N, N) geodesic distances, 0 on the diagonal.
      border: (N,) bool, which are at the photo's border.

    Returns:
      (N,) float64 in [0, 1).
    """
    same = np.exp(-(geodesic**2) / (2 * COLOUR_SIGMA**2))
    area = same.sum(axis=1)  # at least 1: itself
    length = same[:, border].sum(axis=1)
    connectivity = length / np.sqrt(area)
    return -np.expm1(-(connectivity**2) / (2 * BORDER_SIGMA**2))


def background_contrast(
    colours: np.ndarray, centres: np.ndarray, background: np.ndarray
) -> np.ndarray:
    """Measures how much a superpixel differs from near background (Zhu et al. 2014, eq. 6).

        wCtr(p) = sum_i d_lab(p, i) exp(-d_pos(p, i)^2 / (2 sigma_spa^2)) w_bg(i), then min-max

    Args:
      colours: (N, 3) mean Lab colours.
      centres: (N, 2) mean positions, 0..1 along each axis.
      background: (N,) w_bg, in [0, 1].

    Returns:
      (N,) float64 scaled to 0..1; all 0 where it is the same everywhere.
    """
    near = np.exp(-distance.cdist(centres, centres, "sqeuclidean") / (2 * PLACE_SIGMA**2))
    return min_max((distance.cdist(colours, colours) * near) @ background)


def optimised_saliency(
    colours: np.ndarray, pairs: np.ndarray, background: np.ndarray, contrast: np.ndarray
) -> np.ndarray:
    """Solves for the saliency that fits all weights best (Zhu et al. 2014, eqs. 9 and 10).

        min_s sum_i w_bg(i) s_i^2 + sum_i wCtr(i) (s_i - 1)^2 + sum_(i,j) w_ij (s_i - s_j)^2
        w_ij = exp(-d_lab(i, j)^2 / (2 sigma_clr^2)) + mu, for neighbours, each pair once

    Where the gradient is 0: (diag(w_bg + wCtr) + D - W) s = wCtr.

    Args:
      colours: (N, 3) mean Lab colours.
      pairs: (E, 2) integers, the neighbours i < j, each once. Every connected part of the graph
        needs a superpixel of some weight, else s is open there.
      background: (N,) w_bg, in [0, 1].
      contrast: (N,) wCtr, in [0, 1].

    Returns:
      (N,) float64 in [0, 1].
    """
    count, (i, j) = len(colours), pairs.T
    squares = ((colours[i] - colours[j]) ** 2).sum(axis=1)
    weights = np.exp(-squares / (2 * COLOUR_SIGMA**2)) + SMOOTHNESS
    half = sparse.coo_array((weights, (i, j)), shape=(count, count))
    both = (half + half.T).tocsc()
    diagonal = background + contrast + both.sum(axis=0)
    system = sparse.diags_array(diagonal, format="csc") - both
    return np.clip(linalg.spsolve(system, contrast), 0.0, 1.0).reshape(count)


def min_max(values: np.ndarray, least: float = 1e-6) -> np.ndarray:
    """Scales values to 0..1; those that differ by rounding alone are all 0.

    Args:
      values: any shape, finite, not empty.
      least: difference that counts, of the largest magnitude or of 1, whichever is greater.

    Returns:
      float64 of that shape.
    """
    values = np.asarray(values, np.float64)
    low, high = values.min(), values.max()
    if high - low <= least * max(1.0, abs(low), abs(high)):
        return np.zeros_like(values)
    return (values - low) / (high - low)

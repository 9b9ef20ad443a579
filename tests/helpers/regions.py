"""Masked max pooling of regions as an obvious loop, and its gradient, in float64."""

import numpy as np


def bin_pixels(regions, region, size):
    """Of one region: (row of bins, column of bins) -> its pixels there."""
    found = {}
    rows, columns = np.nonzero(regions == region)
    for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        place = (y - rows.min()) * size // height, (x - columns.min()) * size // width
        found.setdefault(tuple(map(int, place)), []).append((y, x))
    return found


def cell_of(pixel, regions, features):
    """The cell that a pixel's centre lies in."""
    return tuple(
        int((place + 0.5) * cells / pixels)
        for place, cells, pixels in zip(pixel, features.shape[:2], regions.shape, strict=True)
    )


def looped_pool(features, regions, count, size):
    out = np.zeros((count, size, size, features.shape[2]))
    for region in range(count):
        for place, pixels in bin_pixels(regions, region, size).items():
            values = [features[cell_of(pixel, regions, features)] for pixel in pixels]
            out[(region, *place)] = np.max(values, axis=0)
    return out


def looped_gradient(features, regions, count, size, gradient):
    """Each pixel that reaches its bin's maximum passes an equal part to its cell."""
    out = np.zeros(features.shape)
    for region in range(count):
        for place, pixels in bin_pixels(regions, region, size).items():
            cells = [cell_of(pixel, regions, features) for pixel in pixels]
            for d in range(features.shape[2]):
                high = max(features[cell][d] for cell in cells)
                reach = [cell for cell in cells if features[cell][d] == high]
                for cell in reach:
                    out[cell][d] += gradient[(region, *place)][d] / len(reach)
    return out

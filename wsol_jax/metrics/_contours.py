"""Compiled kernels behind :mod:`wsol_jax.metrics.boxes`: contours of all level sets at once.

The sets {q > t} of a map quantised to 256 levels grow as t falls, so one union-find that adds the
pixels in falling order knows the components of every level. Three facts make that enough:

* Every box of a contour follows from sets alone. An outer contour has the bounding box of its
  8-connected component; a hole's contour runs through the foreground pixels 4-adjacent to it, so
  its box is that of the 4-connected hole grown by one pixel.
* The polygon of an outer contour through pixel centres has an area that adds up over the 2x2
  windows of the component with its holes filled: 1 where all four pixels are in, 1/2 where three
  are. Filling the holes of all levels at once is a grey-level operation: each pixel's filled value
  is the smallest maximum on a 4-path to the image's border.
* A hole's polygon never exceeds that of the component around it, and comes after it in the
  contour list, so the largest contour, with the first winning a tie, is an outermost one.

Grids are padded by one pixel on each side, with a power of two as row length, so that a pixel's
index gives row and column by shift and mask, and falls in raster order.

OpenCV lists a contour before what it encloses, and siblings in the reverse of the raster order of
their first pixel (for a hole: of the foreground pixel left of its first pixel).

All kernels live in this one file: numba keeps compiled code until the caller's own file changes.
"""

import numba
import numpy as np

_inline = numba.njit(forceinline=True)


def _jit(function):
    """Compiled at the first call; kept on disk where numba finds a folder it may write to."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


@_inline
def _pattern(on, p, stride):
    """The set neighbours of p, one bit each in ring order."""
    return (
        on[p + 1]
        | on[p + 1 - stride] << 1
        | on[p - stride] << 2
        | on[p - stride - 1] << 3
        | on[p - 1] << 4
        | on[p + stride - 1] << 5
        | on[p + stride] << 6
        | on[p + stride + 1] << 7
    )


# A component's row of numbers: first and last pixel in raster order, first and last column, and
# twice the polygon area (largest contour) or the pixel count (all contours).
FIRST, LAST, LEFT, RIGHT, MASS = range(5)


@_inline
def _add(p, pattern, groups, gain, born, stride, label, parent, joined, parts, level):
    """Adds a pixel whose neighbours are `pattern`; returns its root and the number of births.

    Union by mass, ancestors kept as they were at their time: `joined` is the level at which a
    component became part of its parent.
    """
    x = p & (stride - 1)
    count = groups[pattern, 0]
    if count == 0:
        root = np.int64(born)
        born += 1
        parent[root] = root
        parts[root, FIRST] = parts[root, LAST] = p
        parts[root, LEFT] = parts[root, RIGHT] = x
        parts[root, MASS] = gain
        label[p] = root
        return root, born
    root = np.int64(-1)
    for k in range(1, count + 1):
        step = groups[pattern, k]
        other = np.int64(label[p + step])
        while parent[other] != other:
            other = np.int64(parent[other])
        if root < 0:
            root = other
        elif other != root:
            if parts[other, MASS] > parts[root, MASS]:
                root, other = other, root
            parent[other] = root
            joined[other] = level
            parts[root, FIRST] = min(parts[root, FIRST], parts[other, FIRST])
            parts[root, LAST] = max(parts[root, LAST], parts[other, LAST])
            parts[root, LEFT] = min(parts[root, LEFT], parts[other, LEFT])
            parts[root, RIGHT] = max(parts[root, RIGHT], parts[other, RIGHT])
            parts[root, MASS] += parts[other, MASS]
    parts[root, FIRST] = min(np.int64(parts[root, FIRST]), p)
    parts[root, LAST] = max(np.int64(parts[root, LAST]), p)
    parts[root, LEFT] = min(np.int64(parts[root, LEFT]), x)
    parts[root, RIGHT] = max(np.int64(parts[root, RIGHT]), x)
    parts[root, MASS] += gain
    label[p] = root
    return root, born


@_jit
def _fill_order(q, shift, size):
    """Pixels by rising hole-filled value: a flood from the border, lowest value first.

    Returns:
      order (H * W,) int32 padded indices; ends (256,): where each value's run ends.
    """
    height, width = q.shape
    stride = 1 << shift
    seen = np.ones(size, np.uint8)
    value = np.empty(size, np.uint8)
    for y in range(height):
        base = (y + 1) * stride + 1
        for x in range(width):
            value[base + x] = q[y, x]
            seen[base + x] = 0
    head = np.full(256, -1, np.int32)
    chain = np.empty(size, np.int32)
    for y in range(height):
        step = 1 if y == 0 or y == height - 1 else max(width - 1, 1)
        for x in range(0, width, step):
            p = (y + 1) * stride + 1 + x
            seen[p] = 1
            chain[p] = head[value[p]]
            head[value[p]] = p
    order = np.empty(height * width, np.int32)
    ends = np.empty(256, np.int64)
    n = 0
    for level in range(256):
        p = head[level]
        while p >= 0:
            head[level] = chain[p]
            order[n] = p
            n += 1
            for k in range(4):
                r = p + (1 if k == 0 else -1 if k == 1 else stride if k == 2 else -stride)
                if seen[r] == 0:
                    seen[r] = 1
                    v = max(np.int64(value[r]), level)
                    chain[r] = head[v]
                    head[v] = r
            p = head[level]
        ends[level] = n
    return order, ends


@_jit
def _value_order(q, shift):
    """Pixels by rising value, in raster order within one; as ``_fill_order``."""
    height, width = q.shape
    ends = np.zeros(256, np.int64)
    for y in range(height):
        for x in range(width):
            ends[q[y, x]] += 1
    cursor = np.empty(256, np.int64)
    total = np.int64(0)
    for v in range(256):
        cursor[v] = total
        total += ends[v]
        ends[v] = total
    order = np.empty(height * width, np.int32)
    for y in range(height):
        base = ((y + 1) << shift) + 1
        for x in range(width):
            v = q[y, x]
            order[cursor[v]] = base + x
            cursor[v] += 1
    return order, ends


@_jit
def largest_boxes(q, shift, groups, area):
    """The largest contour's box at every level.

    Args:
      q: (H, W) uint8. shift: ``_neighbours.row_shift(W)``.
      groups, area: ``_neighbours.neighbour_table(8, shift)``.
    Returns:
      (256, 4) int64: row t is x0 y0 x1 y1 (inclusive, unclamped) of the largest contour of
      {q > t}; x1 < 0 where the set is empty.
    """
    n_pixels = q.size
    size = (q.shape[0] + 2) << shift
    stride = 1 << shift
    order, ends = _fill_order(q, shift, size)
    on = np.zeros(size, np.uint8)
    label = np.empty(size, np.int32)
    parent = np.empty(n_pixels, np.int32)
    joined = np.empty(n_pixels, np.int16)
    parts = np.empty((n_pixels, 5), np.int32)
    alive = np.empty(n_pixels, np.int32)
    born = n_alive = 0
    boxes = np.full((256, 4), -1, np.int64)
    best, best_area, tie = np.int64(-1), np.int64(-1), False
    for level in range(255, 0, -1):
        for i in range(ends[level] - 1, ends[level - 1] - 1, -1):
            p = np.int64(order[i])
            pattern = _pattern(on, p, stride)
            on[p] = 1
            before = born
            root, born = _add(
                p, pattern, groups, area[pattern], born, stride, label, parent, joined, parts, level
            )
            if born > before:
                alive[n_alive] = root
                n_alive += 1
            if parts[root, MASS] > best_area:
                best, best_area, tie = root, np.int64(parts[root, MASS]), False
            elif root != best and parts[root, MASS] == best_area:
                tie = True
        if tie:  # siblings are listed from the bottom up: the last to begin comes first
            kept = 0
            best = np.int64(-1)
            for i in range(n_alive):
                root = np.int64(alive[i])
                if parent[root] == root:
                    alive[kept] = root
                    kept += 1
                    if parts[root, MASS] == best_area and (
                        best < 0 or parts[root, FIRST] > parts[best, FIRST]
                    ):
                        best = root
            n_alive = kept
        if best >= 0:
            boxes[level - 1, 0] = parts[best, LEFT] - 1
            boxes[level - 1, 1] = (parts[best, FIRST] >> shift) - 1
            boxes[level - 1, 2] = parts[best, RIGHT] - 1
            boxes[level - 1, 3] = (parts[best, LAST] >> shift) - 1
    return boxes


@_jit
def _grow(order, ends, wanted, rising, shift, groups, label, parent, joined):
    """Adds pixels level by level and notes the components at the wanted levels.

    Args:
      order, ends: pixels by rising value, and where each value's run ends.
      wanted: (256,) bool, the values after whose pixels the components are written down.
      rising: True adds the low values first.
      label: a pixel's component of birth; -1 where not yet added. Pixels added beforehand (the
        padding, for the background) belong to component 0, which is never written down.
      parent, joined: filled, one entry a component; together they tell, later, in which
        component a pixel lay at any level.
    Returns:
      rows (N, 6) int32 (component, first pixel, x0, y0, x1, y1; padded coordinates), and
      (256,) row starts and (256,) row counts of the wanted values.
    """
    capacity = parent.shape[0]
    parts = np.empty((capacity, 5), np.int32)
    alive = np.empty(capacity, np.int32)
    on = np.empty(label.shape[0], np.uint8)
    born = n_alive = 0
    for p in range(label.shape[0]):
        on[p] = label[p] >= 0
        born |= on[p]
    if born:
        parent[0] = 0
        parts[0, FIRST] = parts[0, LAST] = parts[0, LEFT] = parts[0, RIGHT] = 0
        parts[0, MASS] = label.shape[0]  # stays the root whatever it meets
    rows = np.empty((1024, 6), np.int32)
    n_rows = 0
    row_start = np.zeros(256, np.int64)
    row_count = np.zeros(256, np.int64)
    for turn in range(256):
        level = turn if rising else 255 - turn
        for i in range(ends[level - 1] if level > 0 else 0, ends[level]):
            p = np.int64(order[i])
            pattern = _pattern(on, p, 1 << shift)
            on[p] = 1
            before = born
            root, born = _add(
                p, pattern, groups, 1, born, 1 << shift, label, parent, joined, parts, level
            )
            if born > before:
                alive[n_alive] = root
                n_alive += 1
        if wanted[level]:
            while rows.shape[0] < n_rows + n_alive:
                longer = np.empty((2 * rows.shape[0], 6), np.int32)
                for i in range(n_rows):
                    for k in range(6):
                        longer[i, k] = rows[i, k]
                rows = longer
            row_start[level] = n_rows
            kept = 0
            for i in range(n_alive):
                root = np.int64(alive[i])
                if parent[root] == root:
                    alive[kept] = root
                    kept += 1
                    rows[n_rows, 0] = root
                    rows[n_rows, 1] = parts[root, FIRST]
                    rows[n_rows, 2] = parts[root, LEFT]
                    rows[n_rows, 3] = parts[root, FIRST] >> shift
                    rows[n_rows, 4] = parts[root, RIGHT]
                    rows[n_rows, 5] = parts[root, LAST] >> shift
                    n_rows += 1
            n_alive = kept
            row_count[level] = kept
    return rows, row_start, row_count


@_jit
def _rank(keys):
    """argsort of distinct keys (Shell's; numba's own takes seconds to compile)."""
    order = np.empty(keys.size, np.int64)
    gap = 1
    while gap < keys.size // 3:
        gap = 3 * gap + 1
    for i in range(keys.size):
        order[i] = i
    while gap > 0:
        for i in range(gap, keys.size):
            moved = order[i]
            j = i
            while j >= gap and keys[order[j - gap]] > keys[moved]:
                order[j] = order[j - gap]
                j -= gap
            order[j] = moved
        gap //= 3
    return order


@_jit
def all_boxes(q, shift, wanted, groups8, groups4):
    """The boxes of all contours, holes included, at the wanted levels, in OpenCV's order.

    Args:
      q: (H, W) uint8. shift: ``_neighbours.row_shift(W)``.
      wanted: (256,) bool, values t that occur in q and are not its maximum.
      groups8, groups4: ``_neighbours.neighbour_table(c, shift)[0]`` for c = 8 and 4.
    Returns:
      boxes (N, 4) int64, x0 y0 x1 y1 (inclusive, unclamped), and (257,) int64 offsets: rows
      offsets[t] to offsets[t + 1] belong to {q > t}.
    """
    n_pixels = q.size
    size = (q.shape[0] + 2) << shift
    order, ends = _value_order(q, shift)
    above = np.empty(256, np.int64)  # the next value that occurs: its pixels complete {q > t}
    occurs = np.int64(-1)
    for v in range(255, -1, -1):
        above[v] = occurs
        if ends[v] > (ends[v - 1] if v > 0 else 0):
            occurs = v
    wanted_above = np.zeros(256, np.bool_)
    for v in range(256):
        if wanted[v]:
            wanted_above[above[v]] = True

    fg_label = np.full(size, -1, np.int32)
    fg_parent = np.empty(n_pixels, np.int32)
    fg_joined = np.empty(n_pixels, np.int16)
    fg, fg_start, fg_count = _grow(
        order, ends, wanted_above, False, shift, groups8, fg_label, fg_parent, fg_joined
    )
    bg_label = np.zeros(size, np.int32)
    for p in order:
        bg_label[p] = -1
    bg_parent = np.empty(n_pixels + 1, np.int32)
    bg_joined = np.empty(n_pixels + 1, np.int16)
    bg, bg_start, bg_count = _grow(
        order, ends, wanted, True, shift, groups4, bg_label, bg_parent, bg_joined
    )

    offsets = np.zeros(257, np.int64)
    for t in range(256):
        more = fg_count[above[t]] + bg_count[t] if wanted[t] else 0
        offsets[t + 1] = offsets[t] + more
    boxes = np.empty((offsets[256], 4), np.int64)
    fg_slot = np.empty(n_pixels, np.int32)
    bg_slot = np.empty(n_pixels + 1, np.int32)
    for t in range(256):
        if not wanted[t]:
            continue
        n_fg, n = fg_count[above[t]], offsets[t + 1] - offsets[t]
        fg_row = fg_start[above[t]]
        bg_row = bg_start[t] - n_fg
        begin = np.empty(n, np.int64)  # the foreground pixel at which a raster scan finds it
        for i in range(n_fg):
            begin[i] = fg[fg_row + i, 1]
        for i in range(n_fg, n):
            begin[i] = bg[bg_row + i, 1] - 1
        found = _rank(begin)
        for rank in range(n):
            i = found[rank]
            if i < n_fg:
                fg_slot[fg[fg_row + i, 0]] = rank
            else:
                bg_slot[bg[bg_row + i, 0]] = rank
        # What encloses each contour (n: nothing but the image), and how many it encloses.
        outer = np.empty(n, np.int64)
        extent = np.ones(n + 1, np.int64)
        for rank in range(n):
            p = begin[found[rank]]
            if found[rank] < n_fg:
                c = np.int64(bg_label[p - 1])
                while bg_parent[c] != c and bg_joined[c] <= t:
                    c = np.int64(bg_parent[c])
                outer[rank] = bg_slot[c] if c > 0 else n
            else:
                c = np.int64(fg_label[p])
                while fg_parent[c] != c and fg_joined[c] > t:
                    c = np.int64(fg_parent[c])
                outer[rank] = fg_slot[c]
        for rank in range(n - 1, -1, -1):  # what encloses is found before what it encloses
            extent[outer[rank]] += extent[rank]
        end = np.empty(n + 1, np.int64)
        end[n] = n
        for rank in range(n):  # siblings fill their parent's span from its end
            i = found[rank]
            end[outer[rank]] -= extent[rank]
            place = end[outer[rank]]
            end[rank] = place + extent[rank]
            row = offsets[t] + place
            if i < n_fg:
                for k in range(4):
                    boxes[row, k] = fg[fg_row + i, k + 2] - 1
            else:  # a hole's contour is one pixel outside of it
                for k in range(4):
                    boxes[row, k] = bg[bg_row + i, k + 2] - (2 if k < 2 else 0)
    return boxes, offsets

"""How much one file may ask for. What its header claims is compared with these before it is read.

They bound the memory that a stranger's file can take, whatever it compresses to; a command stays
below 2 GB. Whoever has larger files raises them here.
"""

MAX_PIXELS = 100_000_000
"""Of a photo or mask: 300 MB of RGB apiece would let one file stop all workers."""

MAX_BYTES = 1 << 30
"""Of all numbers that are read of a file; the largest published one, VGG16's, has half of that."""

MAX_LINE = 1 << 20
"""Bytes of a line of text: 100,000 ranked classes have 600 KB."""

MAX_XML = 1 << 20
"""Bytes of an annotation: an object has 300, and an image of ILSVRC up to some dozens of them."""

MAX_JSON = 1 << 29
"""Bytes of a COCO file: COCO's own have 450 MB. Read, it takes up to six times as much."""

MAX_COORDINATE = 1 << 24
"""Of a box, in pixels: beyond it float32, which boxes are kept in, no longer tells them apart."""

"""The branches of Inception-v3's blocks: names, channels and kernels of their convolutions."""

# One convolution of a branch: (name, channels, kernel, whether it strides where the block does).
Conv = tuple[str, int, tuple[int, int], bool]


def _conv(name: str, channels: int, kernel: tuple[int, int] = (1, 1), reduces: bool = False):
    return (name, channels, kernel, reduces)


def _block_5(pool: int) -> tuple:
    """Mixed_5b..5d: 1x1, 5x5, double 3x3 and pooled branches."""
    return (
        (_conv("branch1x1", 64),),
        (_conv("branch5x5_1", 48), _conv("branch5x5_2", 64, (5, 5))),
        (
            _conv("branch3x3dbl_1", 64),
            _conv("branch3x3dbl_2", 96, (3, 3)),
            _conv("branch3x3dbl_3", 96, (3, 3)),
        ),
        ("average", _conv("branch_pool", pool)),
    )


def _block_6(inner: int) -> tuple:
    """Mixed_6b..6e: 7x7 convolutions as pairs of 1x7 and 7x1."""
    wide, tall = (1, 7), (7, 1)
    return (
        (_conv("branch1x1", 192),),
        (
            _conv("branch7x7_1", inner),
            _conv("branch7x7_2", inner, wide),
            _conv("branch7x7_3", 192, tall),
        ),
        (
            _conv("branch7x7dbl_1", inner),
            _conv("branch7x7dbl_2", inner, tall),
            _conv("branch7x7dbl_3", inner, wide),
            _conv("branch7x7dbl_4", inner, tall),
            _conv("branch7x7dbl_5", 192, wide),
        ),
        ("average", _conv("branch_pool", 192)),
    )


# A block ends with a tuple of convolutions side by side where its branch forks (Mixed_7b, 7c).
_BLOCK_7 = (
    (_conv("branch1x1", 320),),
    (
        _conv("branch3x3_1", 384),
        (_conv("branch3x3_2a", 384, (1, 3)), _conv("branch3x3_2b", 384, (3, 1))),
    ),
    (
        _conv("branch3x3dbl_1", 448),
        _conv("branch3x3dbl_2", 384, (3, 3)),
        (_conv("branch3x3dbl_3a", 384, (1, 3)), _conv("branch3x3dbl_3b", 384, (3, 1))),
    ),
    ("average", _conv("branch_pool", 192)),
)

BLOCKS: dict[str, tuple] = {
    "Mixed_5b": _block_5(32),
    "Mixed_5c": _block_5(64),
    "Mixed_5d": _block_5(64),
    "Mixed_6a": (
        (_conv("branch3x3", 384, (3, 3), True),),
        (
            _conv("branch3x3dbl_1", 64),
            _conv("branch3x3dbl_2", 96, (3, 3)),
            _conv("branch3x3dbl_3", 96, (3, 3), True),
        ),
        ("maximum",),
    ),
    "Mixed_6b": _block_6(128),
    "Mixed_6c": _block_6(160),
    "Mixed_6d": _block_6(160),
    "Mixed_6e": _block_6(192),
    "Mixed_7a": (
        (_conv("branch3x3_1", 192), _conv("branch3x3_2", 320, (3, 3), True)),
        (
            _conv("branch7x7x3_1", 192),
            _conv("branch7x7x3_2", 192, (1, 7)),
            _conv("branch7x7x3_3", 192, (7, 1)),
            _conv("branch7x7x3_4", 192, (3, 3), True),
        ),
        ("maximum",),
    ),
    "Mixed_7b": _BLOCK_7,
    "Mixed_7c": _BLOCK_7,
}

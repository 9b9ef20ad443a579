"""MCOF: mining common object features, round after round (Wang et al. 2018).

A classifier's maps light an object's telling parts: regions of the photo where they are high are
seeds, the rest is background (section 4.1). A network that classifies single regions learns from
all photos' seeds what regions of a class have in common, and so finds regions that no seed named
(``region_net``, 4.2); what it calls a class that the image does not have is background. Where an
image has one class, saliency completes the object: what stands out and looks like what was found
belongs to it (4.3). The regions teach a segmentation network, which sees whole photos
(``pixel_net``, 5), and its masks are the seeds of the next round. The last one's network is the
result.

A round's networks and labels are stages of their own (``configs/mcof.py``); here are the labels:

    superpixels, saliency                       of the photo alone, once
    seeds = share of the mean map, or a peak    first round
    objects = RegionNet's classes of regions
    refined = Bayes(saliency, objects), CRF     first round, images of one class
    masks = PixelNet's classes                  the next round's seeds; with mcof.sharpen, CRF
"""

import functools
import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import BACKGROUND
from wsol_jax.base.types import Config
from wsol_jax.data.index_png import read_grey_png
from wsol_jax.data.label_formats import LabelSpec, mask, regions, soft_maps
from wsol_jax.data.pipeline import eval_size
from wsol_jax.data.transforms import WHOLE, cut_labels
from wsol_jax.methods import Labeller, plain_maps, shared
from wsol_jax.methods.region_net import REGIONS
from wsol_jax.ops import bayes, graphs
from wsol_jax.ops.crf import CrfSettings, host_crf
from wsol_jax.ops.region_seeds import region_seeds
from wsol_jax.ops.regions import seen_regions
from wsol_jax.ops.saliency import robust_background
from wsol_jax.ops.superpixels import felzenszwalb, merge_smallest

COMPUTED, NONE = "computed", "none"  # mcof.saliency, beside a folder's name


def superpixels(config: Config, num_classes: int) -> Labeller:
    """Regions of every photo (section 4.1), at most ``mcof.regions`` for a batch of one shape."""
    del num_classes
    options = config.mcof
    settings = dict(scale=options.scale, sigma=options.sigma, min_size=options.min_size)

    def finish(photo, made, earlier):
        del made, earlier
        found = felzenszwalb(photo.pixels, **settings)
        count = int(found.max()) + 1
        if count > options.regions:
            logging.info(
                "superpixels of %s: the smallest of %d regions joined to their likest neighbours, "
                "mcof.regions=%d are left",
                photo.image_id,
                count,
                options.regions,
            )
            found = merge_smallest(found, photo.pixels, options.regions)
        return {"regions": found}

    return Labeller(
        reads={},
        products={"regions": regions()},
        finish=finish,
        settings=[*settings.items(), options.regions],
    )


def saliency(config: Config, num_classes: int) -> Labeller:
    """What stands out of each photo of one class, in 0..1 (section 4.3); 0 of the others.

    By robust background detection, or of the grey PNGs in the folder ``mcof.saliency``, one a
    photo, by image id.
    """
    del num_classes
    source = config.mcof.saliency
    folder = None if source == COMPUTED else pathlib.Path(source)
    if folder is not None and not folder.is_dir():
        raise UserError(
            f"mcof.saliency: expected {COMPUTED!r}, {NONE!r} or a folder of grey PNGs, got "
            f"{source!r}."
        )
    if folder is not None and not any(folder.glob("**/*.png")):
        raise UserError(f"mcof.saliency: {source!r} holds no PNG.")

    def finish(photo, made, earlier):
        del made, earlier
        if len(photo.labels) != 1:
            return {"saliency": np.zeros((1, 1, 1), np.float16)}
        if folder is None:
            found = robust_background(photo.pixels)
        else:
            found = read_grey_png(folder / f"{photo.image_id}.png") / np.float32(255)
        return {"saliency": found[..., None].astype(np.float16)}

    return Labeller(
        reads={},
        products={"saliency": soft_maps()},
        finish=finish,
        settings=["robust background detection" if folder is None else _content(folder)],
    )


@functools.lru_cache(maxsize=4)
def _content(folder: pathlib.Path) -> str:
    """A hash of the PNGs in a folder and their names; where it lies does not matter."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.png")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def seeds(config: Config, num_classes: int) -> Labeller:
    """The first round's classes of regions (section 4.1), of a classifier's maps."""
    options = config.mcof
    shared.check_classes(num_classes, "masks")

    def make(networks, batch):
        return {"maps": plain_maps(networks["maps"].localize(batch["image"]).maps)}

    def finish(photo, made, earlier):
        found = earlier["regions"]["regions"]
        own = np.asarray(photo.labels, np.int64)
        count = int(found.max()) + 1
        maps = cut_labels(made["maps"][..., own], WHOLE, found.shape)
        means = graphs.region_means(maps, found, count)
        pairs = graphs.neighbours(found, count)
        classes = region_seeds(means, pairs, options.share, options.peak)
        names = np.array([BACKGROUND, *(1 + own)], np.uint8)
        return {"seeds": names[classes][found]}

    return Labeller(
        reads={"maps": options.maps, "regions": "superpixels"},
        products={"seeds": mask()},
        make=make,
        finish=finish,
        settings=[options.share, options.peak, eval_size(config)],
    )


def objects(config: Config, num_classes: int) -> Labeller:
    """What RegionNet says of every region (section 4.2); a class that is absent is background."""
    del num_classes
    cells = config.region_net.cells
    if config.region_net.regions < config.mcof.regions:
        raise UserError(
            f"region_net.regions: expected mcof.regions={config.mcof.regions} or more, got "
            f"{config.region_net.regions}."
        )

    def make(networks, batch):
        found = networks["network"].infer(batch)["probabilities"]
        classes = jnp.argmax(found, axis=-1)
        present = jnp.pad(batch["labels"], ((0, 0), (1, 0)), constant_values=1)
        present = jnp.take_along_axis(present, classes, axis=1) > 0
        # Of a region so small that no cell of the ids lies in it RegionNet has seen nothing.
        known = present & jax.vmap(seen_regions, (0, None))(batch[REGIONS], classes.shape[1])
        return {"classes": jnp.where(known, classes, BACKGROUND).astype(jnp.uint8)}

    def finish(photo, made, earlier):
        return {"objects": made["classes"][earlier["regions"]["regions"]]}

    return Labeller(
        reads={"network": config.mcof.network, "regions": "superpixels"},
        products={"objects": mask()},
        make=make,
        finish=finish,
        wants={REGIONS: LabelSpec((cells, cells), np.int32, -1)},
        settings=[cells, eval_size(config)],
        seeds="network",
    )


def refined(config: Config, num_classes: int) -> Labeller:
    """The objects of images of one class, completed by saliency (section 4.3, eq. 2)."""
    del num_classes
    crf = CrfSettings.of(config.mcof.crf, "mcof.crf", "lattice")

    def finish(photo, made, earlier):
        del made
        found = earlier["objects"]["objects"]
        if len(photo.labels) != 1 or np.all(found != BACKGROUND):  # or nothing to add
            return {"refined": found}
        prior = cut_labels(earlier["saliency"]["saliency"], WHOLE, found.shape)[..., 0]
        features = bayes.colour_texture_bins(photo.pixels)
        inside = bayes.posterior(prior.astype(np.float32), features, found != BACKGROUND)
        split = _sharpened(np.stack([1 - inside, inside], axis=-1), photo.pixels, crf)
        names = np.array([BACKGROUND, 1 + photo.labels[0]], np.uint8)
        return {"refined": names[split]}

    return Labeller(
        reads={"objects": config.mcof.objects, "saliency": "saliency"},
        products={"refined": mask()},
        finish=finish,
        settings=crf,
        seeds="objects",
    )


def masks(config: Config, num_classes: int) -> Labeller:
    """PixelNet's likeliest of the image's classes at each pixel, by the photo's edges (section 5).

    With ``mcof.sharpen`` through a dense CRF between these classes and background.
    """
    options = config.mcof
    shared.check_classes(num_classes, "masks")
    crf = CrfSettings.of(options.crf, "mcof.crf", "lattice")

    def make(networks, batch):
        found = networks["network"].localize(batch["image"]).maps.probabilities
        behind = jnp.clip(1 - jnp.sum(found, axis=-1, keepdims=True), 0, 1)
        return {"probabilities": jnp.concatenate([behind, found], axis=-1)}

    def finish(photo, made, earlier):
        del earlier
        own = np.array([BACKGROUND, *(1 + np.asarray(photo.labels, np.int64))])
        width, height = photo.size
        found = cut_labels(made["probabilities"][..., own], WHOLE, (height, width))
        if options.sharpen:
            place = _sharpened(found, photo.pixels, crf)
        else:
            place = np.argmax(found, axis=-1)
        return {"masks": own.astype(np.uint8)[place]}

    return Labeller(
        reads={"network": options.network},
        products={"masks": mask()},
        make=make,
        finish=finish,
        settings=[crf if options.sharpen else None, eval_size(config)],
        seeds="network",
    )


def _sharpened(probabilities: np.ndarray, photo: np.ndarray, crf: CrfSettings) -> np.ndarray:
    """(H, W, K) probabilities -> (H, W) the likeliest after a dense CRF on the photo."""
    total = np.maximum(probabilities.sum(axis=-1, keepdims=True), 1e-12)
    unary = -np.log(np.clip(probabilities / total, 1e-5, 1)).astype(np.float32)
    return np.argmax(host_crf(unary, photo, crf), axis=-1)

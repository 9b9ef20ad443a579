"""A small data set in the layout of PASCAL VOC."""

import cv2
import numpy as np
import tiny
from PIL import Image

from wsol_jax.data.sources.voc import VOC_CLASSES


def on_voc(flags, root):
    """The flags of a tiny run, its data the VOC folder ``root`` instead."""
    place = f":folder,root={tiny.data()},boxes={tiny.data()}/boxes.csv"
    assert flags[0].count(place) == 1
    return [flags[0].replace(place, f":voc,root={root}"), *flags[1:]]


def write_voc(root):
    """A VOC folder of 48x40 photos: 12 to train on, 5 to score, the last without a mask."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    classes = ("bird", "cat", "dog")
    for i in range(17):
        image = rng.integers(60, 120, (40, 48, 3), dtype=np.uint8)
        mask = np.zeros((40, 48), np.uint8)
        objects = ""
        for place, name in enumerate(classes):
            if i % 3 != place and (i + place) % 4:
                continue
            x, y = 2 + 15 * place, int(rng.integers(4, 24))
            corner = (x + 12, y + 12)
            cv2.rectangle(
                image, (x, y), corner, tuple(80 * (c == place) + 120 for c in range(3)), -1
            )
            cv2.rectangle(mask, (x, y), corner, 1 + VOC_CLASSES.index(name), -1)
            box = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + 13, y + 13), strict=True)
            corners = "".join(f"<{k}>{v}</{k}>" for k, v in box)
            objects += f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"
        cv2.imwrite(str(root / f"JPEGImages/{i:02}.jpg"), image)
        (root / f"Annotations/{i:02}.xml").write_text(
            f"<annotation><size><width>48</width><height>40</height></size>{objects}</annotation>"
        )
        if i < 16:
            Image.fromarray(mask).save(root / f"SegmentationClass/{i:02}.png")
    for name, ids in (("train", range(12)), ("val", range(12, 17)), ("val2", range(14, 17))):
        text = "".join(f"{i:02}\n" for i in ids)
        (root / f"ImageSets/Segmentation/{name}.txt").write_text(text)
    return root

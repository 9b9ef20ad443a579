"""A published ImageNet classifier, looked at as a run is."""

import jax
import numpy as np
import pytest

import wsol_jax
from wsol_jax.data.lists import open_lists

# Where ImageNet's classes of cats and dogs stand.
RANGES = {"cat": range(281, 286), "dog": range(151, 269)}


@pytest.fixture(scope="module")
def model(shared):
    return wsol_jax.pretrained(
        "mobilenet_v2", weights=shared / "weights/mobilenet_v2_imagenet_keras.npz"
    )


@pytest.fixture(scope="module")
def photos(shared):
    """Twelve cats and twelve dogs of the tune list."""
    from wsol_jax.api.configs import read_config

    root = shared / "data/voc_animals"
    words = f"root={root},train=wsol_tune,test=wsol_tune,backbone=mobilenet_v2,weights=none"
    source = open_lists(read_config(f"configs/cam.py:voc,{words}").data).train
    records = [source[i] for i in range(len(source))]
    named = [(source.class_names[r.labels[0]], r.image) for r in records]
    return [x for kind in RANGES for x in [n for n in named if n[0] == kind][:12]]


@pytest.mark.shared
def test_photos_have_their_imagenet_names(model, photos):
    results = model([image for _, image in photos])
    hits = [r.best in RANGES[kind] for r, (kind, _) in zip(results, photos, strict=True)]
    assert np.mean(hits) >= 0.8  # 83% by whoever made the weights ready
    assert results[0].label in model.class_names and len(model.class_names) == 1000
    assert all(len(r.boxes) for r in results)


@pytest.mark.slow
@pytest.mark.shared
def test_class_scores_are_the_means_of_the_class_maps(model, photos):
    network = model.network
    pixels = np.zeros((2, 224, 224, 3), np.uint8)
    pixels[1] = np.random.default_rng(0).integers(0, 255, (224, 224, 3))
    with_all = network.method.localize(network.variables, pixels)
    tapped, logits = network.method.tap(network.variables, pixels, "class_maps")
    means = np.asarray(tapped, np.float64).mean(axis=(1, 2))
    np.testing.assert_allclose(logits, means, rtol=1e-4, atol=1e-4)
    assert with_all.maps.shape == (2, 7, 7, 1000)
    assert float(jax.numpy.min(with_all.maps)) >= 0


@pytest.mark.slow
@pytest.mark.shared
def test_it_is_explained_by_any_method(model, photos):
    _, image = photos[0]
    for method in ("grad_cam", "layer_cam"):
        heat = model.heatmap(image, method=method)
        assert heat.shape == model(image).size[::-1] and heat.max() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("backbone", "weights", "words"),
    [
        ("vgg16", "x", "mobilenet_v2"),
        ("mobilenet_v2", "nowhere.npz", "nowhere"),
        ("resnet50", "imagenet", "no classifier"),
    ],
)
def test_mistakes_are_one_sentence(backbone, weights, words):
    with pytest.raises(wsol_jax.UserError, match=words):
        wsol_jax.pretrained(backbone, weights=weights)

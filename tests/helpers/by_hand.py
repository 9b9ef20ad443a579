"""Hide-and-Seek's equations in float64, in loops (Redondo-Cabrera et al. 2018, section III)."""

import numpy as np

from helpers.networks import resized


def scaled(one):
    """A map between 0 and 1; a constant one is 0."""
    low, high = one.min(), one.max()
    return (one - low) / (high - low) if high > low else np.zeros_like(one)


def each(maps):
    """``scaled``, image by image and class by class: (B, h, w, C) or (B, h, w)."""
    maps = np.asarray(maps, np.float64)
    if maps.ndim == 3:
        return np.stack([scaled(x) for x in maps])
    classes = range(maps.shape[-1])
    return np.stack([np.stack([scaled(x[..., c]) for c in classes], axis=-1) for x in maps])


def fused_maps(maps, labels):
    """M_c = min-max(M_c1 + M_c2) of the image's classes; of the others 0."""
    total = each(sum(np.asarray(x, np.float64) for x in maps))
    for n, c in np.argwhere(np.asarray(labels) <= 0):
        total[n, ..., c] = 0
    return total


def fused_foreground(responses, size):
    """M_f of mean responses at one size."""
    return each(sum(resized(np.asarray(x, np.float64), size) for x in responses))


def probabilities(class_maps, foreground):
    """(1 - M_f, M_1, ..., M_C), each cell's divided by their sum."""
    classes = resized(np.asarray(class_maps, np.float64), foreground.shape[1])
    out = np.concatenate([1 - np.asarray(foreground, np.float64)[..., None], classes], axis=-1)
    for place in np.ndindex(out.shape[:3]):
        total = out[place].sum()
        out[place] = out[place] / total if total > 0 else np.eye(out.shape[-1])[0]
    return out


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def weighed(probabilities, confidence):
    """Each class times the classifier's confidence, background times 1, renormalised."""
    out = np.array(probabilities, np.float64)
    for n, c in np.ndindex(confidence.shape):
        out[n, ..., 1 + c] *= confidence[n, c]
    return out / out.sum(axis=-1, keepdims=True)


def log_shares(scores, c):
    """log S_ic and log(1 - S_ic) of every pixel, each by its own sum: both exact."""
    flat = scores.reshape(-1, scores.shape[-1])
    every = np.logaddexp.reduce(flat, axis=1)
    return flat[:, c] - every, np.logaddexp.reduce(np.delete(flat, c, axis=1), axis=1) - every


def weak_label_loss(scores, labels):
    found = []
    for s, y in zip(np.asarray(scores, np.float64), labels, strict=True):
        sure, absent = [], []
        for c in range(len(y)):
            own, others = log_shares(s, c)
            best = own.argmax()
            (sure if y[c] else absent).append(own[best] if y[c] else others[best])
        found.append(-sum(np.mean(terms) for terms in (sure, absent) if terms))
    return np.array(found)


def pixel_cross_entropy(scores, masks):
    found = []
    for s, m in zip(np.asarray(scores, np.float64), masks, strict=True):
        terms = [
            log_shares(s[place][None], m[place])[0][0]
            for place in np.ndindex(m.shape)
            if m[place] != 255
        ]
        found.append(-np.mean(terms) if terms else 0.0)
    return np.array(found)


def squared_label_loss(logits, labels):
    found = []
    for s, y in zip(softmax(np.asarray(logits, np.float64)), labels, strict=True):
        target = y / y.sum() if y.sum() else np.zeros_like(s)
        found.append(sum((p - t) ** 2 for p, t in zip(s, target, strict=True)) / len(s))
    return np.array(found)

"""Two-phase learning (Kim et al. 2017): hide what the first network saw, and train a second one.

A first network learns the image labels; its class maps light the most telling parts. A second one
of the same build learns the same labels while, at every step, the first looks at the image and
zeroes the second's features wherever the maps of the image's classes come near their maximum: it
must find other parts. At test time nothing is hidden, and the two networks' maps are put together
by voting. A third phase hides what either of the two found.

Each phase is a stage of its own (``configs/two_phase.py``); the networks of earlier phases are
constants among the variables of a later one, under their stages' names.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Tree
from wsol_jax.losses.classification import masked_mean
from wsol_jax.methods import Aux, Labeller, Localization, Method, Variables, shared
from wsol_jax.methods.confident import confident_cells
from wsol_jax.methods.taps import tapper
from wsol_jax.networks import backbones
from wsol_jax.networks.heads import DenseHead, FcnHead
from wsol_jax.networks.taps import Seen, tapped
from wsol_jax.ops import cam as cam_ops
from wsol_jax.ops.images import normalise, resize_maps
from wsol_jax.ops.masks import suppression_mask, vote

PHASES = ("first", "second", "third")
_LAST = {"cam": "class_maps", "fcn": "class_maps", "dense": "fc8"}  # the layer of the class scores


class TwoPhaseNetwork(nn.Module):
    """A trunk and a class-map head, with a mask between them, or at a layer of the trunk."""

    backbone: nn.Module
    head: nn.Module
    endpoint: str
    preprocessing: str
    hide_at: str = ""

    def __call__(
        self,
        images: jax.Array,
        train: bool = False,
        valid: jax.Array | None = None,
        keep: jax.Array | None = None,
    ):
        """(B, H, W, 3) in 0..255, keep (B, h, w) in 0..1 -> logits (B, C), maps (B, h, w, C)."""
        mask = None if valid is None else valid[:, None, None, None]
        hide = functools.partial(_hide, keep)
        # Also where nothing is hidden yet: a layer that is not there is told before any training.
        within = self.hide_at and (keep is not None or self.is_initializing())
        with tapped(self.hide_at, hide) if within else contextlib.nullcontext() as seen:
            x = self.backbone(normalise(images, self.preprocessing), train=train, mask=mask)
        if within:
            _check_hidden(seen)
        x = x[self.endpoint] if within else hide(x[self.endpoint])
        logits, maps, _ = self.head(x, train=train)
        return logits, maps


def _check_hidden(seen: Seen) -> None:
    """Raises UserError where the trunk has no such layer."""
    try:
        seen.only()
    except UserError as error:
        raise UserError(f"two_phase.hide_at: {error}") from None


def _hide(keep: jax.Array | None, x: jax.Array) -> jax.Array:
    """Eqs. 3 and 4: no value, and no gradient, where (B, h, w) is 0; all where it is None."""
    if keep is None:
        return x
    if keep.shape[1:] != x.shape[1:3]:
        keep = jax.image.resize(keep, x.shape[:3], "nearest")
    return x * keep[..., None].astype(x.dtype)


def two_phase(config: Config, num_classes: int) -> Method:
    """The method of Kim et al. 2017, from the sections ``model`` and ``two_phase``.

    ``two_phase.suppressors`` names the networks that hide what they find: none in phase one,
    "first" in phase two, both in phase three.
    """
    model, options = config.model, config.two_phase
    suppressors = tuple(options.suppressors)
    phase = _phase(options, suppressors, config.reads)
    frozen = model.freeze_until == "all" and model.batch_norm == "inference"
    scores = shared.score_kind(config)
    backbone, head = _parts(config, num_classes)
    network = TwoPhaseNetwork(
        backbone=backbone,
        head=head,
        endpoint=model.endpoint or model.final_endpoint,
        preprocessing=shared.preprocessing(model),
        hide_at=options.hide_at,
    )
    start = shared.initialiser(network, model)

    def init(rng, images):
        # Earlier networks have this one's shapes; their stages' checkpoints take these places.
        variables = dict(start(rng, images))
        return {**variables, **{name: jax.tree.map(jnp.copy, variables) for name in suppressors}}

    def split(variables):
        """This phase's own variables, and those of every network by its phase's name."""
        own = {k: v for k, v in variables.items() if k not in suppressors}
        earlier = {name: variables[name] for name in suppressors}
        if options.share_trunk and frozen:
            earlier = {name: _with_trunk(theirs, own) for name, theirs in earlier.items()}
        return own, {**earlier, phase: own}

    def keep_mask(everyone, images, labels):
        """(B, h, w): inference conditional feedback of every earlier network (section 3.4)."""
        keep = None
        for name, share in zip(suppressors, options.shares, strict=False):
            _, maps = network.apply(everyone[name], images)
            mask = suppression_mask(maps, labels, share)
            keep = mask if keep is None else keep * mask
        return keep

    def loss(variables, batch, rng, step):
        del step
        own, everyone = split(variables)
        keep = keep_mask(everyone, batch["image"], batch["labels"])
        (logits, _), updates = shared.forward(network, own, batch, rng, keep=keep)
        total, accuracy = shared.classification(logits, batch, scores)
        metrics = {"loss": total, "accuracy": accuracy}
        if keep is not None:
            hidden = jnp.mean(1 - keep, axis=(1, 2))
            metrics["suppressed"] = masked_mean(hidden, batch["valid"])
        return total, Aux(metrics, dict(updates), pictures(everyone, keep, batch))

    def maps_of(everyone, images):
        """By name: class scores (B, C) and raw maps of each phase, and of the vote if there is one.

        The vote's class scores are the first network's, the one that sees whole objects.
        """
        seen = {name: network.apply(v, images) for name, v in everyone.items()}
        seen = {name: shared.localization(*outputs, model) for name, outputs in seen.items()}
        if len(seen) > 1:
            voters = [seen[name] for name in options.voters]
            sure = [shared.probabilities(one.logits, scores) for one in voters]
            voted = vote([one.maps for one in voters], sure)
            seen["vote"] = Localization(voters[0].logits, voted)
        return seen

    def pictures(everyone, keep, batch):
        size = batch["image"].shape[1:3]
        label = jnp.argmax(batch["labels"], axis=-1)
        seen = {name: one.maps for name, one in maps_of(everyone, batch["image"]).items()}
        seen = {name: resize_maps(cam_ops.select_map(x, label), size) for name, x in seen.items()}
        shown = {}
        for name, one in seen.items():
            if name == phase and keep is not None:
                hidden = jax.image.resize(1 - keep, (len(keep), *size), "nearest")
                shown["hidden"] = hidden.astype(jnp.uint8)
            shown[f"{name} map" if name != "vote" else name] = cam_ops.min_max(one)
        return shown

    def localize(variables, images):
        _, everyone = split(variables)
        seen = maps_of(everyone, images)
        if len(seen) == 1:
            return seen[phase]
        voted = seen.pop("vote")
        return voted._replace(parts={name: one.maps for name, one in seen.items()})

    return Method(
        init=init,
        param_groups=shared.param_grouper(backbone, model.freeze_until, _part_of(config)),
        loss=loss,
        localize=localize,
        # Of this phase's own network, not of those that hide from it, nor of the vote.
        tap=tapper(lambda variables, images: network.apply(split(variables)[0], images)[0]),
        maps_layer=f"head/{_LAST[options.head]}:input",
    )


def cues(config: Config, num_classes: int) -> Labeller:
    """The segmenter's cues (section 4.1): SEC's, of the maps that the phases vote for."""
    return confident_cells(config, num_classes)


def _with_trunk(variables: Variables, other: Variables) -> dict[str, Tree]:
    """The same head on another's trunk; XLA sees one trunk on one batch, and runs it once."""
    return {
        kind: {**tree, "backbone": other[kind]["backbone"]} if "backbone" in tree else tree
        for kind, tree in variables.items()
    }


def _phase(options: Config, suppressors: tuple[str, ...], reads: Sequence[str]) -> str:
    """The phase's name.

    Raises:
      UserError: suppressors out of order or not at hand, shares outside (0, 1), or voters that are
        not trained.
    """
    phase = len(suppressors)
    if phase >= len(PHASES) or suppressors != PHASES[:phase]:
        raise UserError(
            f"two_phase.suppressors: expected the earlier phases in order, at most "
            f"{PHASES[:-1]}, got {suppressors}."
        )
    missing = [name for name in suppressors if name not in reads]
    if missing:
        raise UserError(f"two_phase.suppressors: {missing[0]!r} is not among the stage's reads.")
    if len(options.shares) < phase or not all(0 < share < 1 for share in options.shares):
        raise UserError(
            f"two_phase.shares: expected {phase} or more numbers above 0 and below 1, got "
            f"{tuple(options.shares)}."
        )
    unknown = [name for name in options.voters if name not in PHASES]
    if unknown or not options.voters:
        raise UserError(f"two_phase.voters: expected some of {PHASES}, got {options.voters}.")
    late = [name for name in options.voters if name not in PHASES[: phase + 1]]
    if phase and late:
        raise UserError(f"two_phase.voters: {late[0]!r} is not trained in phase {phase + 1}.")
    return PHASES[phase]


def _parts(config: Config, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """The trunk, and the paper's head, the one that CAM has here, or the background network's.

    Raises:
      UserError: no such head, or one that does not go with the other fields.
    """
    model = config.model
    dtype = shared.compute_dtype(config.dtype)
    match config.two_phase.head:
        case "fcn":
            head = FcnHead(num_classes, model.head_channels, model.dropout, dtype)
        case "dense":
            _check_dense(config)
            head = DenseHead(num_classes, model.head_channels, model.dropout, dtype)
        case "cam":
            head = shared.cam_head(model, num_classes, dtype)
        case other:
            raise UserError(f"two_phase.head: {other!r} is not one of 'fcn', 'cam', 'dense'.")
    return backbones.build(model, dtype), head


def _check_dense(config: Config) -> None:
    if config.two_phase.suppressors:
        raise UserError(
            "two_phase.head: 'dense' has no class maps, so nothing can be hidden by it."
        )
    if config.eval.size not in (0, config.data.crop):
        raise UserError(
            f"eval.size={config.eval.size}: a network with two_phase.head='dense' sees images of "
            f"data.crop={config.data.crop} pixels alone, in the stages that read it too."
        )


def _part_of(config: Config) -> Callable[[list[str]], str]:
    """The last layer of the papers' networks learns at its own rate."""
    head = config.two_phase.head
    paper = head != "cam"
    return lambda names: "classifier" if paper and names[1] == _LAST[head] else "head"

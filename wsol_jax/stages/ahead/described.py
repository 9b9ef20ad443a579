"""A training's step on hardware that is not here, as ``--mode=describe --topology=`` tells it."""

from wsol_jax.base.types import Config, Json
from wsol_jax.stages.ahead.compiled import Step, TooLarge, compile_step
from wsol_jax.stages.ahead.fit import largest
from wsol_jax.stages.ahead.topology import parse


def on(config: Config, num_classes: int, place: str, fit: bool) -> dict[str, Json]:
    """What a step asks of each chip, printed and returned as describe.json has it.

    Args:
      config: of one training.
      place: the topology's name.
      fit: with the largest batch a chip, and what a step of it asks.

    Returns:
      ``Step.to_json()``; {"too_large": a sentence} where a step needs more memory than there is.
      With ``fit`` "largest_images_per_chip", and "largest", that batch's ``to_json()``.
    """
    try:
        step = compile_step(config, num_classes, place)
        found = step.to_json()
        print("\n".join(lines(step)))
    except TooLarge as error:
        found = {"topology": place, "too_large": str(error)}
        print(error)
    if fit:
        found |= _largest(config, num_classes, place)
    return found


def _largest(config: Config, num_classes: int, place: str) -> dict[str, Json]:
    chips, limit = parse(place).count, parse(place).chip.memory
    steps: dict[int, Step] = {}

    def memory_of(rows: int) -> float | None:
        with_rows = config.copy_and_resolve_references()
        with with_rows.unlocked():
            with_rows.train.batch_size, with_rows.train.accumulate = rows * chips, 1
        try:
            steps[rows] = compile_step(with_rows, num_classes, place)
        except TooLarge:
            print(f"  {rows} images a chip: more memory than there is")
            return None
        print(f"  {rows} images a chip: {units(steps[rows].memory)}B")
        return steps[rows].memory

    print(f"the largest batch in {units(limit)}B:")
    rows = largest(memory_of, limit, -(-config.train.batch_size // chips))
    if not rows:
        print("no batch fits")
        return {"largest_images_per_chip": 0}
    print(f"{rows} images a chip, batch={rows * chips}:")
    print("\n".join(lines(steps[rows])))
    return {"largest_images_per_chip": rows, "largest": steps[rows].to_json()}


def lines(step: Step) -> list[str]:
    """The figures of a step as they are printed."""
    place, bound = step.topology, step.floor
    chip = place.chip
    full = f"{step.memory / chip.memory:.0%} of {units(chip.memory)}B"
    fits = "" if step.memory <= chip.memory else ": DOES NOT FIT"
    exchanged = ", ".join(
        f"{units(size)}B in {count} {name}(s)" for name, (count, size) in step.collectives.items()
    )
    found = [
        f"a training step on {place.name}, {place.count} chip(s) of {step.rows} images each; "
        f"a chip's:",
        f"  memory        {units(step.memory)}B ({full}{fits}); {units(step.temporaries)}B of it "
        "temporary",
        f"  products      {units(step.flops)}FLOP: {_time(bound.products)} at "
        f"{units(chip.flops)}FLOP/s",
        f"  traffic       {units(step.traffic)}B: {_time(bound.memory)} at "
        f"{units(chip.bandwidth)}B/s",
        f"  collectives   {exchanged or 'none'}: {_time(bound.interconnect)}, "
        f"{bound.interconnect / bound.seconds:.1%} of the step",
        f"  at best       {_time(bound.seconds)} a step, {step.images_per_second:,.0f} images/s on "
        f"all chips; {bound.binds} binds",
        f"  peak figures  {chip.source}",
    ]
    if step.host_calls:
        found.append(f"  calls of the host: {', '.join(step.host_calls[:5])}")
    return found


def units(value: float | None) -> str:
    """A number to three digits with its prefix and a space: "1.5 G"; "unknown " for None."""
    if value is None:
        return "unknown "
    for unit in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} P"


def _time(seconds: float) -> str:
    return f"{units(seconds * 1e6)}us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"

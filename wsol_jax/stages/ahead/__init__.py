"""Hardware that is not here: what a training's step asks of it, and what it takes at least.

XLA compiles for chips that the machine lacks. ``compiled`` does so and reads the program (``hlo``,
``products``); ``chips`` has the peak figures, ``topology`` the names, ``roofline`` the arithmetic.
"""

from wsol_jax.stages.ahead.compiled import Step, TooLarge, compile_step

__all__ = ["Step", "TooLarge", "compile_step"]

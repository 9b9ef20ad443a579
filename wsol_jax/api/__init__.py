"""What leads in from Python: ``load`` a run and show it photos, or ``train`` one.

``import wsol_jax`` gives these names, and loads JAX when one is first used.
"""

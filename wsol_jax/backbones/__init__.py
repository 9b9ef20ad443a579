"""Trunks: images -> a dict of named endpoints, each (B, H, W, C)."""

"""Values of uint8 masks and cues, (H, W): BACKGROUND, 1 + c for class c, UNLABELLED."""

BACKGROUND = 0
UNLABELLED = 255  # pixels that metrics and losses ignore, and that a cue says nothing of

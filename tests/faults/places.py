"""Where the fixtures of ``kit`` lie in a row's folder."""

METRICS, CONFIG, HISTORY = "run/metrics.json", "run/config.json", "run/history.jsonl"
SCORES, MAPS, DATA = "run/scores/test.npz", "run/maps/test.npz", "run/report_data.npz"
STEP = "run/checkpoints/5"
SIDES = ["run", "other"]
PAGE = [*SIDES, "--out=o.html"]

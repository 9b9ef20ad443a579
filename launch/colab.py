# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Where is it? Image labels in, heat maps and boxes out
#
# wsol_jax trains a network that is told only *what* is in each photo, and then says *where* it is.
# This notebook installs it, trains two methods on data that come with it (no download), shows what
# they found, and looks at your own photos. The trainings take about five minutes on two CPU cores;
# a GPU (**Runtime > Change runtime type**) is faster.

# %% [markdown]
# ## Install

# %%
import importlib.util
import pathlib
import shutil
import subprocess
import sys

# Where the code is: put your copy's address here. In a clone, the clone itself is installed.
REPOSITORY = "https://github.com/OWNER/wsol_jax"

here = [pathlib.Path.cwd(), *pathlib.Path.cwd().parents]
clone = next((folder for folder in here if (folder / "wsol_jax/__init__.py").is_file()), None)
if importlib.util.find_spec("wsol_jax") and importlib.util.find_spec("orbax"):
    print("It is installed.")
else:
    on_tpu = pathlib.Path("/dev/vfio/0").exists() or pathlib.Path("/dev/accel0").exists()
    extra = "[cuda]" if shutil.which("nvidia-smi") else "[tpu]" if on_tpu else ""
    what = f"{clone}{extra}" if clone else f"wsol_jax{extra} @ git+{REPOSITORY}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", what], check=True)
    importlib.invalidate_caches()
    print("Installed:", what)

# %% [markdown]
# ## The device

# %%
import jax

import wsol_jax

for device in jax.devices():
    print(device.device_kind)

# %% [markdown]
# ## Train
#
# 2,000 drawn pictures of eight animals that differ in their heads alone: a network that is told the
# animal need look no further than the head, and the usual class activation map (CAM) lights only
# that. SPG, the method here, learns to find the whole animal. Neither ever sees a box; the boxes of
# the test pictures serve to score them.
#
# This takes three minutes on two CPU cores. The lines below the cell say how far it is.

# %%
figures = wsol_jax.train("configs/spg.py:embedded", workdir="runs/spg")

# %% [markdown]
# ## What it found
#
# The run's report: figures, curves, and test pictures with a slider for the box threshold. It is
# one file, `runs/spg/report.html`, that opens in any browser.

# %%
import html

from IPython.display import display


def show(path, height=900):
    page = html.escape(pathlib.Path(path).read_text())
    style = f"width: 100%; height: {height}px; border: 1px solid #ddd"
    display({"text/html": f'<iframe srcdoc="{page}" style="{style}"></iframe>'}, raw=True)


show("runs/spg/report.html")

# %% [markdown]
# ## From Python
#
# A trained run is a function of photos. Here are three of the test pictures, enlarged so that what
# is drawn on them can be read; yours come further down.

# %%
import io

from PIL import Image

from wsol_jax.data.embedded.source import open_embedded

pictures = open_embedded("test")
files = [io.BytesIO(pictures[i].image) for i in range(3)]
photos = [Image.open(file, formats=["PNG"]).resize((288, 288)) for file in files]

model = wsol_jax.load("runs/spg")
result = model(photos[0])
result  # a notebook shows the photo with its heat map and box

# %%
for other in model(photos[1:]):
    display(other)

# %% [markdown]
# All of it is NumPy:

# %%
print(result.label, f"{result.score:.1%}")
print("box (x0, y0, x1, y1):", result.boxes.round().tolist())
print("heat map:", result.heatmap.shape, "mask:", result.mask.shape, result.mask.dtype)

# %% [markdown]
# ## Stop and go on
#
# A run that stops, by whatever, goes on with the same call. Here is CAM, the plain method, stopped
# on purpose after its first steps, as the notebook's stop button would do: it saves first.

# %%
import os
import signal
import threading
import time

from wsol_jax.base.errors import Interrupted


def stop_soon(workdir):
    """Presses the stop button when the run has begun."""
    history = pathlib.Path(workdir, "history.jsonl")
    while not (history.is_file() and history.stat().st_size):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)


plain = {"config": "configs/cam.py:embedded,epochs=4", "workdir": "runs/cam"}
threading.Thread(target=stop_soon, args=(plain["workdir"],), daemon=True).start()
try:
    wsol_jax.train(**plain)
except Interrupted as stop:
    print(stop)

# %% [markdown]
# The same call again:

# %%
figures_of_cam = wsol_jax.train(**plain)

# %% [markdown]
# ## Compare
#
# The picture, what CAM found, what SPG found:

# %%
import numpy as np

cam = wsol_jax.load("runs/cam")
for photo in photos:
    row = [photo.convert("RGB"), cam(photo).plot(), model(photo).plot()]
    display(Image.fromarray(np.hstack([np.asarray(picture) for picture in row])))

# %% [markdown]
# And all test pictures: PxAP scores the heat map's pixels over all thresholds; GT-known counts
# pictures whose box overlaps the true one by half.

# %%
subprocess.run(
    [sys.executable, "-m", "wsol_jax.report", "runs/cam", "runs/spg", "--out=runs/both.html"],
    check=True,
)
show("runs/both.html")

# %% [markdown]
# ## Your photos
#
# On Colab the next cell asks for files; elsewhere it takes the folder `photos`. Without any it
# takes the pictures from above.

# %%
folder = pathlib.Path("photos")
folder.mkdir(exist_ok=True)
if importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
    from google.colab import files

    for name, data in files.upload().items():
        (folder / pathlib.Path(name).name).write_bytes(data)
if not any(folder.iterdir()):
    for number, photo in enumerate(photos):
        photo.save(folder / f"{number}.png")
print(len(list(folder.iterdir())), "files in", folder)

# %% [markdown]
# A network that knows ImageNet's thousand classes says what is in them, and where (its weights, 14
# MB, are fetched):

# %%
try:
    imagenet = wsol_jax.pretrained("mobilenet_v2")
    for other in imagenet(folder):
        display(other)
except wsol_jax.UserError as error:
    print(error)

# %% [markdown]
# The run from above looks at the same folder (it knows the drawn animals alone), and leaves what
# the command `--mode=predict` leaves: `found/predictions.json` in COCO's layout, `heatmaps`,
# `overlays`, `masks`, and a page.

# %%
from wsol_jax.api.predict import predict

found = predict(pathlib.Path("runs/spg"), folder, pathlib.Path("found"))
for image, box in zip(found["images"], found["annotations"], strict=False):
    print(image["file_name"], box["bbox"], round(box["score"], 3))
show("found/index.html")

# %% [markdown]
# ## Train on your own classes
#
# Put photos into a folder for each class (`photos/cat/`, `photos/dog/`, ...; some twenty of each),
# and train on them from ImageNet's weights:
#
# ```python
# wsol_jax.train(
#     "configs/spg.py:folder,root=photos,backbone=mobilenet_v2,weights=imagenet",
#     workdir="runs/mine",
# )
# ```
#
# On Colab, what is written goes with the session. On a mounted drive it stays, and the same call
# goes on there:
#
# ```python
# from google.colab import drive
#
# drive.mount("/content/drive")
# wsol_jax.train("configs/spg.py:embedded", workdir="/content/drive/MyDrive/spg")
# ```

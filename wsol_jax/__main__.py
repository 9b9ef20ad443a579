"""Prints in one page what there is to do: ``python -m wsol_jax``. Nothing of JAX is loaded."""

PAGE = """\
wsol_jax: train a network on image labels alone; get back where things are: heat maps, boxes, masks.

Try it, without a download or a GPU (a few minutes; then open runs/cam/report.html):
  python -m wsol_jax.main --config=configs/cam.py:embedded --workdir=runs/cam

Your own photos, a folder a class (photos/cat/1.jpg, photos/dog/2.jpg); docs/own_data.md has more:
  python -m wsol_jax.main --mode=check_data --config=configs/cam.py:folder,root=photos --out=look
  python -m wsol_jax.main --workdir=runs/mine \\
      --config=configs/cam.py:folder,root=photos,backbone=mobilenet_v2,weights=imagenet

With a finished run:
  python -m wsol_jax.main --mode=predict --workdir=runs/mine --images=photos --out=found
  python -m wsol_jax.main --mode=evaluate --workdir=runs/mine   # score its checkpoint again
  python -m wsol_jax.report runs/cam runs/spg --out=both.html   # runs side by side, as a page
  python -m wsol_jax.compare runs/cam runs/spg                  # the same in a table, intervals
  wsol_jax.load("runs/mine")("dog.jpg").boxes                   # in Python: docs/python.md

Without a run:
  python -m wsol_jax.main --mode=describe --config=configs/spg.py --workdir=W  # sizes, FLOPs
  python -m wsol_jax.evaluate --scoremaps=MAPS --metadata=TRUTH  # anyone's maps
  python -m wsol_jax.crf PHOTO.jpg PROBABILITIES.npy --out=SHARP.npy  # a dense CRF

A method is a file of configs/, whose first lines have its commands, times and figures:
  cam              class activation maps, the baseline: quick, finds the most telling part
  spg, cams2i      one label a photo: maps of the whole object
  two_phase        one or several labels a photo: the second network looks elsewhere
  sec, mcof, ccnn  segmenters, trained in stages
  hide_and_seek    a segmenter, trained end to end

A data set stands after its colon, then keys such as root=, backbone=, weights=, epochs=, seed=:
  embedded         drawn on first use
  folder           your photos; boxes=FILE.csv (image,x0,y0,x1,y1[,class]), masks=FOLDER for scores
  cub, ilsvrc, voc as published; cub downloads itself

Every other field is a flag, such as --config.optimizer.momentum=0.8: configs/common.py lists them.
  python -m wsol_jax.main --help, and --help or --helpshort of any other command; README.md
"""


def main() -> None:
    """Prints the page."""
    print(PAGE, end="")


if __name__ == "__main__":
    main()

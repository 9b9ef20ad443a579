"""python -m wsol_jax.data.embedded --sheet=FILE: a contact sheet of the embedded data, a .png."""

from absl import app, flags

from wsol_jax.data.embedded import contact_sheet

_SHEET = flags.DEFINE_string("sheet", None, "Where to write the contact sheet.", required=True)
_PARTS = flags.DEFINE_integer("parts", 1, "Parts of a creature that tell its class.", 1, 2)


def _main(argv: list[str]) -> None:
    del argv
    contact_sheet.save(contact_sheet.draw(parts=_PARTS.value), _SHEET.value)


if __name__ == "__main__":
    app.run(_main)

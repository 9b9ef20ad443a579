"""python -m wsol_jax.data.embedded --sheet=FILE: a contact sheet of the embedded data, a .png."""

from absl import app, flags

from wsol_jax.data.embedded import contact_sheet

_SHEET = flags.DEFINE_string("sheet", None, "Where to write the contact sheet.", required=True)


def _main(argv: list[str]) -> None:
    del argv
    contact_sheet.save(contact_sheet.draw(), _SHEET.value)


if __name__ == "__main__":
    app.run(_main)

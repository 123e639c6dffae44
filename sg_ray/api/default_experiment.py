"""Which experiment is meant where none is named."""

from pathlib import Path

USUAL = Path("experiments/quick.yaml")
"""Where it is looked for first, from the working folder."""

_PACKAGE = Path(__file__).parents[1]


def default_experiment() -> Path:
    """Return ``experiments/quick.yaml`` of the working folder or, without one, sg-ray's own.

    Its own is a copy made when the wheel was built; in a checkout it is the file itself.
    """
    if USUAL.is_file():
        return USUAL
    own = (_PACKAGE / USUAL, _PACKAGE.parent / USUAL)
    return next((path for path in own if path.is_file()), USUAL)

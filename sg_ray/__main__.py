"""``python -m sg_ray``: the same as the ``sg-ray`` command."""

from sg_ray.cli import run

run()

"""Where a statement or expression stands in its function."""

from typing import NamedTuple, Self

from sg_ray.features.flow_graph import EXIT
from sg_ray.features.try_blocks import NOWHERE


class Context(NamedTuple):
    """Where the jumps of a statement lead, and the ``__try`` blocks that they leave.

    A jump leaves each ``__try`` from the innermost, ``seh_try``, up to the one around its target.
    """

    function: int = 0
    on_return: int = EXIT
    on_break: int = EXIT
    on_continue: int = EXIT
    switch: int = EXIT
    """Step from which case labels are reached."""
    seh_try: int = NOWHERE
    try_of_break: int = NOWHERE
    try_of_continue: int = NOWHERE

    def in_loop(self, on_break: int, on_continue: int) -> Self:
        """Return the context of a loop's body."""
        seh_try = self.seh_try
        inside = (on_break, on_continue, self.switch, seh_try, seh_try, seh_try)
        return type(self)(self.function, self.on_return, *inside)  # much faster than _replace

    def in_switch(self, on_break: int, switch: int) -> Self:
        """Return the context of a switch's body."""
        return self._replace(on_break=on_break, switch=switch, try_of_break=self.seh_try)

    def in_try(self, seh_try: int) -> Self:
        """Return the context of a ``__try`` block's body."""
        return self._replace(seh_try=seh_try)

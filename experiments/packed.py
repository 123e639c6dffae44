"""Puts the default experiment and its search spaces into the wheel; pyproject.toml names the class.

So ``sg-ray sweep`` works in an empty folder, and there is one source of both: the files here.
"""

from pathlib import Path

from setuptools.command.build_py import build_py

PACKAGE = "sg_ray"


def packed_files() -> list[Path]:
    """Return the files that the wheel holds beside the package's own, seen from the project."""
    return [Path("experiments/quick.yaml"), *sorted(Path("search_spaces").glob("*.yaml"))]


class BuildWithExperiment(build_py):
    """Copies them below the package as they lie in the project, so that their paths hold."""

    def run(self) -> None:
        """Build, unless the project itself is what will be imported."""
        super().run()
        if not self.editable_mode:
            for source, target in zip(packed_files(), self._targets(), strict=True):
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return what is built, these files included."""
        own = [] if self.editable_mode else map(str, self._targets())
        return [*super().get_outputs(include_bytecode), *own]

    def get_source_files(self) -> list[str]:
        """Return what a source distribution needs to build a wheel."""
        this = Path(__file__).relative_to(Path.cwd())
        return [*super().get_source_files(), *map(str, packed_files()), str(this)]

    def _targets(self) -> list[Path]:
        return [Path(self.build_lib) / PACKAGE / file for file in packed_files()]

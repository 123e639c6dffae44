"""What a node has answered, beside what the same question finds here: why it must not train."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

MODULES = (
    "numpy",
    "pydantic",
    "safetensors",
    "scipy",
    "sklearn",
    "tokenizers",
    "torch",
    "transformers",
)
"""What trials import beside this package."""


@dataclass(frozen=True)
class NodeAnswer:
    """What ``node_question.answer`` returns; texts are "" for what is not there, or well."""

    host: str
    python: str
    ray: str
    package: str
    """Where sg_ray lies."""
    code_version: str
    own_versions: Mapping[str, str]
    """By reference, the versions of the user's own code; "" of what is missing."""
    code_trouble: str
    missing: Sequence[str]
    torch: str
    cuda: str
    read_trouble: str
    write_trouble: str


def faults(node: str, there: NodeAnswer, here: NodeAnswer, folder: Path) -> list[str]:
    """Return why a node must not train for this driver, in sentences with what to do."""
    found = list(_faults_of_code(node, there, here))
    shared = "set output_dir to a folder that all nodes see"
    if there.read_trouble:
        found.append(
            f"output_dir is not shared: {node} cannot read {folder} ({there.read_trouble}). "
            f"Mount it there, or {shared}."
        )
    elif there.write_trouble:
        found.append(
            f"output_dir is not shared: {node} cannot write to {folder} ({there.write_trouble}). "
            f"Let the user of Ray's processes there write to it, or {shared}."
        )
    return found


def _faults_of_code(node: str, there: NodeAnswer, here: NodeAnswer) -> Iterator[str]:
    same = f"Install there what is installed here ({here.package})."
    if not there.package:
        yield f"sg_ray is not installed on {node} ({there.code_trouble}). {same}"
    elif there.code_version != here.code_version:
        version = there.code_version or there.code_trouble
        yield (
            f"{node} has other code: version {version} of sg_ray in {there.package}, here "
            f"{here.code_version}. {same}"
        )
    elif there.code_trouble:
        yield f"{node} lacks code of your own ({there.code_trouble}). {same}"
    for reference, version in here.own_versions.items():
        found = there.own_versions.get(reference, version)
        if not found:
            yield f"{node} lacks code of your own: {reference}. {same}"
        elif found != version:
            yield f"{node} has other code: {reference} is another there. {same}"
    if lacking := sorted(set(there.missing) - set(here.missing)):
        yield f"{node} lacks packages that trials import: {', '.join(lacking)}. {same}"
    for name, other, own in (
        ("Ray", there.ray, here.ray),
        ("torch", _release(there.torch), _release(here.torch)),
    ):
        if other and other != own:
            yield f"{node} has other code: {name} {other}, here {own}. {same}"


def notes(there: NodeAnswer, here: NodeAnswer) -> list[str]:
    """Return what is no reason to avoid a node, and yet to be known; without its name."""
    if _release(there.torch) == _release(here.torch) and there.cuda != here.cuda:
        builds = (f"torch for {_build(one)}" for one in (there, here))
        return [f"{' there, '.join(builds)} here; its last bits may differ."]
    return []


def _release(version: str) -> str:
    return Version(version).public if version else ""


def _build(answer: NodeAnswer) -> str:
    return f"CUDA {answer.cuda}" if answer.cuda else "CPUs"

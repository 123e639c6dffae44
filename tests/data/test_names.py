"""Names that give the label away are told, whichever way they do; honest ones are not."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.data.jsonl import read_jsonl, write_jsonl
from sg_ray.data.names import notes_on_names
from sg_ray.data.samples import Sample
from sg_ray.data.sources import DataConfig, load_data

NAME = re.compile(r"\b([A-Za-z_]\w*)\s*\(")

Change = Callable[[str, int, int], str]
"""From source, label and number of a function to its new source."""


def called(new: Callable[[str, int, int], str]) -> Change:
    """Call functions by a new name, made from the old one, the label and the number."""

    def change(source: str, label: int, number: int) -> str:
        found = NAME.search(source)
        assert found is not None
        return re.sub(rf"\b{found[1]}\b", new(found[1], label, number), source)

    return change


def shuffled(number: int) -> int:
    """A number that says nothing of the order of the functions, in which labels alternate."""
    return random.Random(number).randrange(10_000)


TELLING: dict[str, tuple[str, Change, str]] = {
    "bad and good": (
        "functions' names",
        called(lambda _, y, i: f"{'bad' if y else 'good'}_{shuffled(i)}"),
        "'bad', 'good'",
    ),
    "Juliet": (
        "functions' names",
        called(
            lambda _, y, i: f"CWE121_loop_{i:02d}_bad" if y else f"goodG2B{shuffled(i) % 3 or ''}"
        ),
        "'bad'",
    ),
    "before and after": (
        "functions' names",
        called(lambda name, y, _: f"{'vuln' if y else 'patched'}_{name}"),
        "'patched', 'vuln'",
    ),
    "without a joint": (
        "functions' names",
        called(lambda n, y, _: n + ("vu" if y else "ok")),
        "ok",
    ),
    "half of them": (
        "functions' names",
        called(lambda n, y, i: f"bad_{n}" if y and shuffled(i) % 2 else n),
        "'bad'",
    ),
    "parity": ("functions' names", called(lambda _, y, i: f"f_{2 * shuffled(i) + y}"), "an even"),
    "a range of numbers": (
        "functions' names",
        called(lambda _, y, i: f"f{i + 5000 * y}"),
        "digits",
    ),
    "a file's name": (
        "functions' names",
        called(lambda _, y, i: f"CVE_2014_{shuffled(i)}_{'old' if y else 'new'}_c"),
        "'new', 'old'",
    ),
    "capitals": ("functions' names", called(lambda n, y, _: n.upper() if y else n), "capitals"),
    "length": ("functions' names", called(lambda _, y, __: "a" * (8 + 3 * y)), "letters"),
    "underscores": (
        "functions' names",
        called(lambda n, y, _: "_" * y + n),
        "underscores in front",
    ),
    "not in ASCII": (
        "functions' names",
        called(lambda _, y, i: f"{chr(0x574F if y else 0x597D)}{shuffled(i)}"),
        "'\u574f', '\u597d'",
    ),
    "called functions": (
        "the names of called functions",
        lambda source, y, _: source.replace("{", f"{{ print_{'bad' if y else 'good'}();", 1),
        "'bad', 'good'",
    ),
    "static": (
        "what stands before",
        lambda source, y, _: "static " * y + source.replace("static ", ""),
        "'static'",
    ),
    "comments": (
        "comments",
        lambda source, y, _: source.replace("{", "{ /* POTENTIAL FLAW */" if y else "{ //\n", 1),
        "'flaw', 'potential'",
    ),
    "variables": (
        "variables' names",
        lambda source, y, _: source.replace("{", f"{{ int {'bad' if y else 'good'}Data = 0;", 1),
        "'bad', 'good'",
    ),
}


@pytest.fixture(scope="module")
def honest() -> dict[str, list[Sample]]:
    splits = load_data(DataConfig(num_samples=600)).splits
    return {split: list(splits[split]) for split in ("train", "valid")}


def changed(splits: dict[str, list[Sample]], change: Change) -> dict[str, list[Sample]]:
    return {
        split: [
            Sample(change(sample.source, sample.label, i), sample.label, sample.sample_id)
            for i, sample in enumerate(samples)
        ]
        for split, samples in splits.items()
    }


@pytest.mark.parametrize("kind", TELLING)
def test_case_31_names_that_tell_the_label_are_told(
    honest: dict[str, list[Sample]], kind: str
) -> None:
    place, change, pieces = TELLING[kind]
    (note,) = notes_on_names(changed(honest, change))
    assert note.startswith(f"names: the label can be told from {'the ' * (place[0] == 'f')}{place}")
    assert pieces in note


def test_case_31_the_command_says_so(
    honest: dict[str, list[Sample]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, samples in changed(honest, TELLING["bad and good"][1]).items():
        write_jsonl(tmp_path / f"{split}.jsonl", samples)
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "from the functions' names alone (ROC-AUC 1.00, by 'bad', 'good'" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("num_samples", [60, 600, 4000])
def test_built_in_names_say_nothing(num_samples: int) -> None:
    assert load_data(DataConfig(num_samples=num_samples)).notes == ()


def test_names_that_say_nothing_in_few_functions_are_not_accused(
    honest: dict[str, list[Sample]],
) -> None:
    """Random names in 30 functions: hundreds of pieces, the best of which tells much by chance."""
    for seed in range(20):
        letters = random.Random(seed)
        random_name = called(lambda *_, draw=letters: "".join(draw.choices("abcdeT_7", k=12)))
        few = {"train": honest["train"][:40], "valid": honest["valid"][:10]}
        assert notes_on_names(changed(few, random_name)) == []


def test_one_class_is_not_scored(honest: dict[str, list[Sample]]) -> None:
    fine = [sample for sample in honest["valid"] if not sample.label]
    assert notes_on_names({**honest, "valid": fine}) == []


def test_what_is_no_function_is_read_without_complaint() -> None:
    odd = ["", "/*", '"', "(((", "\ud800(", "9" * 5000 + "(", "f" * 5000 + "(", "int 9x(", "\0("]
    samples = [Sample(source, at % 2, str(at)) for at, source in enumerate(odd * 6)]
    notes_on_names({"train": samples, "valid": samples})


def test_devigns_names_are_honest(devign_dir: Path) -> None:
    splits = {
        name: read_jsonl(next(devign_dir.glob(f"{name}.jsonl*")), name)
        for name in ("train", "valid")
    }
    assert notes_on_names(splits) == []
    few = {name: samples[:300] for name, samples in splits.items()}
    assert notes_on_names(few) == []


def test_case_32_a_split_of_one_class_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, labels in (("train", (0, 1)), ("valid", (0,))):
        rows = [
            {"func": f"int f{i}(int a) {{ return a; }}", "target": y}
            for i in range(9)
            for y in labels
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "val_roc_auc has no value" in capsys.readouterr().out

"""YAML 1.2's core schema: what a word is, what is refused, and that what is written reads back."""

import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sg_ray.config.yaml_text import read_value, read_yaml, write_yaml
from sg_ray.errors import InputError

WORDS = {
    "1e-3": 0.001,
    "1E5": 100000.0,
    "1.": 1.0,
    "-.5": -0.5,
    ".5e1": 5.0,
    "017": 17,
    "0o17": 15,
    "0x1F": 31,
    "+1": 1,
    "1:30": "1:30",
    "1_000": "1_000",
    "yes": "yes",
    "on": "on",
    "No": "No",
    "TRUE": True,
    "true": True,
    "null": None,
    "~": None,
    "": None,
    "2024-01-01": "2024-01-01",
    "=": "=",
    "!!str 1e-3": "1e-3",
    "'1e-3'": "1e-3",
    "a#b": "a#b",
}


@pytest.mark.parametrize("text", WORDS)
def test_a_word_is_what_yaml_1_2_says(text: str) -> None:
    value, _ = read_value(text, "here")
    assert (type(value), value) == (type(WORDS[text]), WORDS[text])


def test_a_file_that_says_that_it_is_older_is_read_by_the_same_rules() -> None:
    assert read_yaml("%YAML 1.1\n---\na: yes\n", str).content == {"a": "yes"}


def test_infinity_is_read_so_that_it_can_be_refused_by_name() -> None:
    assert read_value("-.INF", "here")[0] == -math.inf
    assert math.isnan(read_value(".nan", "here")[0])


REFUSED = {
    "[1,2": "not valid YAML: expected ',' or ']'",
    "/data/run #3/x": "# begins a comment",
    "#3": "# begins a comment",
    "[run]/": "not valid YAML",
    "{a: 1, a: 2}": "a is given twice (first on line 1)",
    "{a: {b: 1, b: 2}}": "a.b is given twice",
    "{1: 2}": "a key is a word, not 1",
    "{<<: {a: 1}}": "does not merge in YAML 1.2",
    "!!python/object:os.system x": "is not a kind of value that settings have",
    "!!bool yes": "'yes' is no bool",
    "9" * 5000: "a number of 5,000 characters",
    "[" * 100: "maximum depth",
    "&a [*a]": "or itself",
    "*nobody": "undefined alias",
    "a\n---\nb": "another document",
    "\0": "a control character or half of one (U+0000)",
    "a ": "YAML reads 'a': blanks around it",
    "a\nb": "YAML reads 'a b'",
    "a\x85b": "YAML reads 'a b'",
    "&x a": "YAML reads 'a'",
    "--- a": "YAML reads 'a'",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_setting_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_value(text, "here")
    message = str(caught.value)
    assert message.startswith("here: ")
    assert REFUSED[text] in message
    assert "\n" not in message.strip()


def test_few_aliases_cannot_stand_for_more_than_memory_holds() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    bomb = "\n".join(["a0: &a0 [x, x]", *levels])
    with pytest.raises(InputError, match="more than 100,000 values"):
        read_yaml(bomb, str)


def test_a_problem_names_its_line() -> None:
    with pytest.raises(InputError, match=r"^3: b is given twice"):
        read_yaml("a: 1\nb: 2\nb: 3\n", str)
    with pytest.raises(InputError, match=r"^2: not valid YAML"):
        read_yaml("a: 1\nb: ]\n", str)
    with pytest.raises(InputError, match=r"^3: not valid YAML: a control character"):
        read_yaml("a: 1\nb: 2\nc: \a\n", str)


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from([word for word in WORDS if word.isprintable()])
)
CONTENT = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abcxyz"), inner)
)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(content=st.dictionaries(st.sampled_from(["name", "data", "models"]), CONTENT))
def test_whatever_is_written_reads_back(content: dict[str, object]) -> None:
    text = write_yaml(content)
    assert text.isascii()
    assert read_yaml(text, str).content == content


@pytest.mark.parametrize("word", ["off", "on", "No", "y", "plain", "1e3", "null"])
def test_a_word_is_written_so_that_readers_of_yaml_1_1_take_it_for_one(word: str) -> None:
    written = write_yaml({"key": word})
    assert yaml.safe_load(written) == {"key": word}
    assert read_yaml(written, str).content == {"key": word}

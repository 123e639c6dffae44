import gzip
import json
import lzma

import pytest
import zstandard

from sg_ray.data.jsonl import MAX_LINE_BYTES, read_jsonl, write_jsonl
from sg_ray.data.samples import Sample
from sg_ray.errors import InputError

GOOD = b'{"func": "int f(void) { return 0; }", "target": 0, "idx": 7}\n'
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


@pytest.fixture(params=PACK)
def packed(request, tmp_path):
    """Write bytes to a train file, packed or not."""

    def write(text: bytes, cut: int = 0):
        data = PACK[request.param](text)
        path = tmp_path / f"train.jsonl{request.param}"
        path.write_bytes(data[: len(data) - cut])
        return path

    return write


def test_rows_become_samples(packed):
    row = {"func": "int g(void);", "target": True, "project": "x", "commit_id": ""}
    path = packed(GOOD + b"\n" + json.dumps(row).encode() + b"\r\n")
    assert read_jsonl(path, "train") == [
        Sample("int f(void) { return 0; }", 0, "7"),
        Sample("int g(void);", 1, "train-3"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"func": "int f', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1, 2]", "a list, expected an object"),
        (b"null", "a null, expected an object"),
        (b'{"target": 1}', "'func' is missing .found: target"),
        (b'{"func": "f"}', "'target' is missing"),
        (b'{"func": null, "target": 1}', "func is null"),
        (b'{"func": 3, "target": 1}', "func is number"),
        (b'{"func": " \\n", "target": 1}', "func is empty"),
        (b'{"func": "f", "target": "1"}', "target is string"),
        (b'{"func": "f", "target": 1.0}', "target is the number 1.0, expected 0"),
        (b'{"func": "f", "target": NaN}', "target is the number nan, expected 0"),
        (b'{"func": "f", "target": null}', "target is null, expected 0"),
        (b'{"func": "f", "target": ' + b"1" * 5000 + b"}", "target is the number inf, expected 0"),
        (b'{"func": "f", "target": 1, "idx": ' + b"1" * 5000 + b"}", "at most 600 digits"),
        (b'{"func": "f", "target": 0, "target": 1}', "key 'target' is given twice"),
        (b'{"func": "f", "target": 1,}', "not JSON"),
        (b'{"func": "f", "target": 1}{}', "not JSON"),
        (b"\0" * 64, "holds NUL bytes.* copy it again"),
        ('{"func": "f", "target": 1}'.encode("utf-16-le"), "NUL bytes. Convert the file to UTF-8"),
        ('{"func": "f", "target": 1}'.encode("utf-16"), "text in UTF-16. Convert the file"),
        (b"a" * (MAX_LINE_BYTES + 1), "longer than 16,777,216 bytes"),
        (b'{"func": "f", "target": 2}', "target is 2"),
        (b'{"func": "f", "target": -1}', "target is -1"),
        (b'{"func": "f", "target": 1, "idx": [1]}', "idx is list"),
        (b'{"func": "caf\xe9", "target": 1}', "byte 13 .0xe9. is not UTF-8"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(packed, line, message):
    path = packed(GOOD + line + b"\n" + GOOD)
    with pytest.raises(InputError, match=message) as caught:
        read_jsonl(path, "train")
    assert f"{path}, line 2: " in str(caught.value)


def test_numbers_nobody_thought_of_in_other_keys_are_ignored(packed):
    strange = b'"big": ' + b"9" * 5000 + b', "nan": NaN, "deep": {"target": 1, "target": 2}'
    row = b'{"func": "f", "target": 1, "idx": ' + b"9" * 39 + b", " + strange + b"}\n"
    assert read_jsonl(packed(row), "train") == [Sample("f", 1, "9" * 39)]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_packed_file_without_its_suffix_is_named_as_such(tmp_path, suffix):
    path = tmp_path / "train.jsonl"
    path.write_bytes(PACK[suffix](GOOD * 9))
    with pytest.raises(InputError, match=rf"line 1: a packed file. Let its name end in \{suffix}"):
        read_jsonl(path, "train")


def test_a_folder_in_a_files_place_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_jsonl(tmp_path, "train")


def test_an_empty_file_is_refused(packed):
    with pytest.raises(InputError, match=r"train\.jsonl.* is empty"):
        read_jsonl(packed(b"\n\n"), "train")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_file_cut_off_is_refused(tmp_path, suffix):
    path = tmp_path / f"train.jsonl{suffix}"
    path.write_bytes(PACK[suffix](GOOD * 1000)[:-3])
    with pytest.raises(InputError, match=r"cannot be unpacked .*copy it again"):
        read_jsonl(path, "train")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_file_of_another_format_is_refused(tmp_path, suffix):
    path = tmp_path / f"train.jsonl{suffix}"
    path.write_bytes(GOOD)
    with pytest.raises(InputError, match="cannot be unpacked"):
        read_jsonl(path, "train")


def test_a_file_of_several_zstandard_frames_is_read_whole(tmp_path):
    path = tmp_path / "train.jsonl.zst"
    path.write_bytes(zstandard.compress(GOOD) + zstandard.compress(GOOD))
    assert len(read_jsonl(path, "train")) == 2


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        read_jsonl(tmp_path / "train.jsonl", "train")


def test_a_byte_order_mark_is_passed_over(packed):
    assert len(read_jsonl(packed(b"\xef\xbb\xbf" + GOOD), "train")) == 1


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_what_is_written_reads_back_and_equal_samples_give_equal_bytes(tmp_path, suffix):
    long = "int f(void) { /* \u00e9 \ud800 */ }" + " " * 142_346
    samples = [Sample(long, 1, "cwe787-00000-v"), Sample("int g;", 0, "cwe787-00000-f")]
    first, second = tmp_path / f"a.jsonl{suffix}", tmp_path / f"b.jsonl{suffix}"
    write_jsonl(first, samples)
    write_jsonl(second, samples)
    assert read_jsonl(first, "train") == samples
    assert first.read_bytes() == second.read_bytes()


def test_a_name_that_could_not_be_read_back_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"end the name in \.jsonl"):
        write_jsonl(tmp_path / "train.csv", [])
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "train.jsonl.gz"
    write_jsonl(path, [Sample("int f;", 0, "x")])
    with pytest.raises(TypeError):
        write_jsonl(path, [Sample("int f;", 0, "x"), Sample(b"int g;", 0, "y")])  # type: ignore[arg-type]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert len(read_jsonl(path, "train")) == 1

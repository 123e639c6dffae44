"""JSON Lines in the row format of CodeXGLUE: ``{"func": str, "target": 0 | 1, "idx": optional}``.

Further keys are allowed and ignored. Files may be packed with gzip, xz or Zstandard.
"""

import gzip
import io
import json
import lzma
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from sg_ray.data.samples import Sample
from sg_ray.errors import InputError
from sg_ray.files import atomic_path

PACKED_SUFFIXES = ("", ".gz", ".xz", ".zst")
"""What may follow ``.jsonl`` in the name of a file to read."""

MAX_LINE_BYTES = 16 * 2**20
"""Of the unpacked text. The longest real functions have some 10^5; what is longer is no row."""

_MAGIC = {b"\x1f\x8b": ".gz", b"\xfd7zXZ": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
"""How packed files begin."""
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MAX_DIGITS = 600
"""Of an integer. Python reads 4,300 unless it is told otherwise, and at least 640."""


def read_jsonl(path: Path, split: str) -> list[Sample]:
    """Return the samples of a file, every row checked. Blank lines are passed over.

    A sample's id is its row's ``idx``, or else ``<split>-<line>``. Raises InputError that names
    the file and the line (of the unpacked text, from 1).
    """
    samples = []
    with open_unpacked(path) as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES + 1), b""), 1):
            if line.strip():
                where = f"{path}, line {number}"
                row = read_row(line, where)
                samples.append(sample_from_row(row, f"{split}-{number}", where))
    if not samples:
        raise InputError(f'{path} is empty. Put one {{"func": ..., "target": 0 or 1}} on a line.')
    return samples


def read_row(line: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object on a line. Raises InputError that starts with ``where``."""
    _check_bytes(line, where)
    return _parse_row(_decode(line, where), where)


def sample_from_row(row: Mapping[str, Any], default_id: str, where: str) -> Sample:
    """Return the sample of one row. Raises InputError that starts with ``where``."""
    for key in ("func", "target"):
        if key not in row:
            found = ", ".join(sorted(map(str, row))) or "none"
            raise InputError(f"{where}: key {key!r} is missing (found: {found}). Add it.")
    source, target, sample_id = row["func"], row["target"], row.get("idx")
    if not isinstance(source, str):
        raise InputError(f"{where}: func is {_type_name(source)}, expected C source as a string.")
    if not source.strip():
        raise InputError(f"{where}: func is empty. Remove the row or fill it.")
    if not isinstance(target, bool | int):
        raise InputError(
            f"{where}: target is {_shown(target)}, expected 0 (not vulnerable) or 1, as an integer."
        )
    if target not in (0, 1):
        raise InputError(f"{where}: target is {target}, expected 0 (not vulnerable) or 1.")
    if not (sample_id is None or isinstance(sample_id, str | int)) or isinstance(sample_id, bool):
        raise InputError(
            f"{where}: idx is {_shown(sample_id)}, expected an integer of at most {_MAX_DIGITS} "
            "digits or a string."
        )
    return Sample(source, int(target), default_id if sample_id is None else str(sample_id))


def write_jsonl(path: Path, samples: Sequence[Sample]) -> None:
    """Write one row per sample, atomically; equal samples give equal bytes.

    The name ends in ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.xz``; raises InputError otherwise.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".jsonl.xz")):
        raise InputError(f"{path}: end the name in .jsonl, .jsonl.gz or .jsonl.xz.")
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as raw,
        _pack(raw, path.suffix) as lines,
    ):
        for sample in samples:
            row = {"func": sample.source, "target": sample.label, "idx": sample.sample_id}
            lines.write(json.dumps(row).encode() + b"\n")


@contextmanager
def open_unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to be read unpacked, as its suffix says.

    Raises InputError, also for damage that is met in the block.
    """
    try:
        with path.open("rb") as raw, _unpack(raw, path.suffix) as lines:
            yield lines
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path} cannot be unpacked ({error}). It is damaged or incomplete: copy it again."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Check the path.") from error


def _unpack(raw: BinaryIO, suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if suffix == ".xz":
        return lzma.LZMAFile(raw)
    if suffix == ".zst":
        return _unpack_zstd(raw)
    return raw


def _unpack_zstd(raw: BinaryIO) -> IO[bytes]:
    """Unpack in one go: the library's streams end silently where a file was cut off."""
    import zstandard

    parts, packed = [], raw.read()
    while packed:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            parts.append(frame.decompress(packed))
        except zstandard.ZstdError as error:
            raise EOFError(str(error)) from error
        if not frame.eof:
            raise EOFError("it ends inside a frame")
        packed = frame.unused_data
    return io.BytesIO(b"".join(parts))


def _check_bytes(line: bytes, where: str) -> None:
    """Raise InputError for what cannot be a row, and say what it probably is."""
    if len(line) > MAX_LINE_BYTES:
        raise InputError(
            f"{where}: longer than {MAX_LINE_BYTES:,} bytes, which no function is. Put each "
            "row on a line of its own, and remove rows that hold whole files."
        )
    suffix = next((suffix for magic, suffix in _MAGIC.items() if line.startswith(magic)), None)
    if suffix is not None:
        raise InputError(f"{where}: a packed file. Let its name end in {suffix}, or unpack it.")
    if line.startswith(_UTF16_MARKS) or b"\0" in line:
        kind = "text in UTF-16" if line.startswith(_UTF16_MARKS) else "NUL bytes"
        raise InputError(
            f"{where}: holds {kind}. Convert the file to UTF-8; if it was UTF-8, it is damaged: "
            "copy it again."
        )


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: byte {error.start} (0x{line[error.start]:02x}) is not UTF-8. "
            "Convert the file to UTF-8."
        ) from error


def _parse_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_Pairs, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}). Write one JSON object on a line.") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: a {_type_name(row)}, expected an object with func and target.")
    doubled = sorted({"func", "target", "idx"} & row.doubled) if isinstance(row, _Pairs) else []
    if doubled:
        raise InputError(f"{where}: key {doubled[0]!r} is given twice. Keep one of them.")
    return row


class _Pairs(dict[str, Any]):
    """A JSON object that knows which of its keys were given more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs) if len(pairs) > len(self) else Counter[str]()
        self.doubled = {name for name, count in counts.items() if count > 1}


def _integer(digits: str) -> int | float:
    """Return an integer, but a float (if need be infinity) where it has too many digits."""
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _shown(value: Any) -> str:
    """Return a value that is no label as a message may show it: the type, or a short number."""
    return f"the number {value}" if isinstance(value, float) else _type_name(value)


def _type_name(value: Any) -> str:
    """Return the name of a JSON value's type."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list"}
    return names.get(type(value), "object")


def _pack(raw: BinaryIO, suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        # Without a name and a time, so that equal samples give equal bytes.
        return cast(IO[bytes], gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
    if suffix == ".xz":
        return lzma.LZMAFile(raw, "wb")
    return raw

"""A folder of another version's format is shown, with a word."""

import json
from pathlib import Path

import pytest
from sample_sweep import write_sample_sweep

from sg_ray.cli import main
from sg_ray.sweep_folder import FORMAT, SweepFolder


@pytest.mark.parametrize(("number", "said"), [(FORMAT, None), (FORMAT + 1, FORMAT + 1), (None, 0)])
def test_another_format_is_reported_with_a_word(
    tmp_path: Path, number: int | None, said: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = SweepFolder(tmp_path)
    write_sample_sweep(tmp_path)
    folder.format.unlink()
    if number is not None:
        folder.format.write_text(json.dumps({"format": number}))
    assert main(["report", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert folder.report.exists()
    assert "fusion" in printed.out
    told = f"format {said}, those of this sg-ray format {FORMAT}"
    assert printed.err.count("format") == 0 if said is None else told in printed.err

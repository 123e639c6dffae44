import json

import pytest
from sample_sweep import SEEDS, make_record, write_sample_sweep

from sg_ray.errors import InputError
from sg_ray.report.tables import read_results, summary
from sg_ray.sweep.records import write_record


def write_metadata(folder, **content) -> None:
    folder.mkdir(parents=True)
    (folder / "training_metadata.json").write_text(json.dumps(content))


def test_mean_and_sd_of_each_configuration_and_every_seed(tmp_path):
    for seed, value in zip(SEEDS, (0.70, 0.72, 0.77), strict=True):
        write_record(tmp_path, make_record("gnn", {}, seed, metrics={"val_f1": value}))
    lines = [line.split()[2:] for line in summary(tmp_path).splitlines()[1:]]
    seeds = [["7", "0.7700"], ["42", "0.7000"], ["2025", "0.7200"]]
    assert lines == [*seeds, ["mean", "0.7300"], ["sd", "0.0361"]]


def test_failed_seeds_are_shown_and_counted(tmp_path):
    write_sample_sweep(tmp_path)
    text = summary(tmp_path)
    assert "7 failed" in text
    assert "mean of 2, 1 failed" in text
    assert "42 pruned" in text
    assert text.isascii()


def test_a_folder_of_metadata_files_is_enough(tmp_path):
    for seed, value in ((1, 0.5), (2, 0.7)):
        identity = {"family": "gnn", "seed": seed}
        facts = {"config": {"lr": 1e-3}, "identity": identity, "best_val_f1": value}
        write_metadata(tmp_path / "deep" / f"t{seed}", **facts)
    text = summary(tmp_path)
    assert "best_val_f1" in text.splitlines()[0]
    assert "mean  0.6000" in text


def test_metadata_of_another_trainer_are_named_by_their_folders(tmp_path):
    write_metadata(tmp_path / "resnet" / "run7", best_val_f1=0.4)
    (result,) = read_results(tmp_path)
    assert (result.family, result.seed, result.metrics) == ("resnet", "run7", {"best_val_f1": 0.4})


def test_an_empty_folder_is_refused_with_advice(tmp_path):
    with pytest.raises(InputError, match="holds neither run records"):
        summary(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", "\x00"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "training_metadata.json").write_text(content)
    with pytest.raises(InputError, match="training_metadata"):
        summary(tmp_path)

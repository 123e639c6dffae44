import re
import shutil

import numpy as np
import pytest
import torch
from exported_models import CONFIGS, NEURAL, Workshop, save_pretrained_encoder

from sg_ray.detector import Detector, WinnerCard
from sg_ray.errors import InputError, TrainingError
from sg_ray.files import write_json
from sg_ray.training.metrics import scored


def scores(detector: Detector, workshop: Workshop, prefix: str, split: str) -> dict:
    labels = np.array([sample.label for sample in workshop.data.splits[split]], dtype=np.int8)
    probabilities = detector.predict(workshop.sources(split))
    return scored(prefix, labels, probabilities, detector.threshold)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_exported_model_scores_as_the_training_did_to_the_bit(
    name, workshop, trained, tmp_path, moved
):
    spec, result = trained[name]
    folder = moved(workshop.export(spec, result, tmp_path / "best" / spec.family))

    detector = Detector.load(folder, torch.device("cpu"))

    validation = scores(detector, workshop, "val", "valid")
    # training takes the loss from logits, of which probabilities keep all but the last bit
    assert validation.pop("val_loss") == pytest.approx(result.metrics["val_loss"], abs=1e-12)
    assert validation == {name: result.metrics[name] for name in validation}
    assert scores(detector, workshop, "test", "test") == workshop.test_scores(spec)


def test_a_pretrained_encoder_is_loaded_without_the_folder_it_came_from(workshop, tmp_path, moved):
    encoder = tmp_path / "encoder"
    save_pretrained_encoder(encoder, workshop)
    config = {**NEURAL, "pretrained": str(encoder), "max_tokens": 64}
    spec, result = workshop.train("transformer", config)
    expected = workshop.test_scores(spec)
    folder = moved(workshop.export(spec, result, tmp_path / "best" / "transformer"))
    shutil.rmtree(encoder)

    detector = Detector.load(folder, torch.device("cpu"))

    assert scores(detector, workshop, "test", "test") == expected
    assert [path.name for path in (folder / "pretrained").iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", CONFIGS)
def test_one_at_a_time_gives_the_same_numbers_up_to_rounding(name, workshop, trained, tmp_path):
    spec, result = trained[name]
    detector = Detector.load(workshop.export(spec, result, tmp_path / "best" / spec.family))
    sources = workshop.sources("valid")
    alone = [detector.predict([source])[0] for source in sources]
    np.testing.assert_allclose(alone, detector.predict(sources), atol=1e-6)


def test_decisions_are_made_at_the_threshold(workshop, trained, lexical_model):
    detector = Detector.load(lexical_model)
    assert detector.threshold == trained["lexical"][1].metrics["val_threshold"]
    near = np.array([detector.threshold - 1e-9, detector.threshold])
    assert detector.decide(near).tolist() == [False, True]


def test_a_sweeps_folder_stands_for_its_winner(lexical_model):
    sweep = lexical_model.parents[1]
    card = WinnerCard(model="lexical", config_hash="ab", trial_key="cd")
    write_json(sweep / "best" / "winner.json", card)
    assert Detector.load(sweep).card == Detector.load(lexical_model).card


def test_the_callers_random_numbers_are_left_alone(workshop, trained, tmp_path):
    folder = workshop.export(*trained["gnn"], tmp_path / "best" / "gnn")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Detector.load(folder).predict(workshop.sources("valid")[:2])
    assert torch.equal(torch.rand(2), expected)


def test_no_functions_give_no_probabilities(lexical_model):
    assert Detector.load(lexical_model).predict([]).shape == (0,)


@pytest.mark.parametrize("sources", ["int f;", [b"int f;"], [None]])
def test_anything_but_a_list_of_strings_is_refused(sources, lexical_model):
    with pytest.raises(InputError, match="a list of C functions"):
        Detector.load(lexical_model).predict(sources)


def test_a_folder_without_a_model_is_refused_with_advice(tmp_path):
    with pytest.raises(InputError, match=r"holds no model\.json.*best/MODEL"):
        Detector.load(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        Detector.load(tmp_path / "missing")


@pytest.mark.parametrize("part", ["model.json", "features", "best_model.pt"])
def test_a_missing_part_is_named(part, lexical_model):
    path = lexical_model / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises((InputError, TrainingError), match=re.escape(str(lexical_model))):
        Detector.load(lexical_model)


def test_an_export_holds_what_it_needs_and_nothing_else(workshop, trained, tmp_path):
    spec, result = trained["fusion"]
    folder = workshop.export(spec, result, tmp_path / "best" / "fusion")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    kept = {"best_model.pt", "metrics.jsonl", "training_metadata.json"}
    parts = {f"branches/{name}/{file}" for name in ("gnn", "transformer") for file in kept}
    features = {file for file in files if file.startswith("features/")}
    assert files - features == {"model.json", *kept, *parts}
    assert {file.split("/")[1].split("-")[0] for file in features} == {"tokens", "graphs"}
    assert not any(file.endswith(".npy") for file in features)


def test_an_export_without_weights_says_what_to_do(workshop, trained, tmp_path):
    spec, result = workshop.train("lexical", {"min_df": 3})
    (workshop.folder / "trials" / spec.trial_key / "best_model.pt").unlink()
    with pytest.raises(InputError, match=f"records/{spec.trial_key}.json"):
        workshop.export(spec, result, tmp_path / "best" / "lexical")

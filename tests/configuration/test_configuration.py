"""Configurations are keys: two ways to write the same settings are one, two names are two."""

from collections.abc import Mapping
from typing import Any

import pytest

from sg_ray.config import Experiment, Model
from sg_ray.configuration import Configuration
from sg_ray.records.record import RunRecord
from sg_ray.trial.spec import TrialSpec


def model(**config: Any) -> Model:
    return Experiment.model_validate({"name": "e", "models": {"gnn": {"config": config}}}).model(
        "gnn"
    )


def renamed(configuration: Configuration, **changes: Any) -> Configuration:
    return Configuration.model_validate({**configuration.model_dump(), **changes})


@pytest.mark.parametrize("config", [{"learning_rate": 1e-3}, {"dropout": 0.1, "epochs": 5}])
def test_a_default_that_is_written_out_is_one_that_is_left_out(config: Mapping[str, Any]) -> None:
    defaults = model().baseline.values
    given = {name: defaults[name] for name in config}
    assert model(**given).baseline == model().baseline
    assert model(**given).baseline.hash == model().baseline.hash


def test_two_ways_to_write_a_number_are_one_key() -> None:
    own = model(weight_decay=0.5)
    found = {own.configured({"weight_decay": 1}): "whole", own.configured({"dropout": 0.0}): "none"}
    assert found[own.configured({"weight_decay": 1.0})] == "whole"
    assert found[own.configured({"dropout": 0})] == "none"
    assert len({*found, own.baseline, own.configured({}), own.configured({"weight_decay": 1})}) == 3


def test_equal_values_under_two_names_are_two_configurations() -> None:
    one = model().baseline
    other = renamed(one, model="wide")
    assert one.family == other.family == "gnn"
    assert one != other
    assert one.hash != other.hash
    assert (one.label, other.label) == ("gnn", "wide (gnn)")


def test_trials_of_two_names_are_two_trials() -> None:
    settings = {"seed": 1, "objective": "val_f1", "data_fingerprint": "d", "code_version": "c"}
    one = TrialSpec(configuration=model().baseline, **settings)
    other = TrialSpec(configuration=renamed(model().baseline, model="wide"), **settings)
    assert len({one.trial_key, other.trial_key}) == len({one.config_hash, other.config_hash}) == 2
    assert other.name.startswith("wide-")


def test_what_people_call_it_decides_nothing() -> None:
    own = model().baseline
    called = renamed(own, short_name="gnn the first")
    assert (called, called.hash) == (own, own.hash)
    assert (own.name, called.name) == ("gnn", "gnn the first")


def test_a_copy_of_pretrained_files_elsewhere_is_the_same_configuration() -> None:
    here = Configuration(
        model="t", family="t", values={"pretrained": "a", "pretrained_content": "12ab"}
    )
    there = renamed(here, values={"pretrained": "b", "pretrained_content": "12ab"})
    other = renamed(here, values={"pretrained": "a", "pretrained_content": "34cd"})
    assert here == there
    assert here != other


def test_a_record_reads_its_configuration_back() -> None:
    text = RunRecord.model_fields["configuration"]
    assert text.annotation is Configuration
    own = model().configured({"dropout": 0.25})
    assert Configuration.model_validate_json(own.model_dump_json()) == own

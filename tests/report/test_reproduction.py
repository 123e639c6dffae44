"""What counts as the same numbers, and how a difference is told."""

from typing import Any

import pytest
from sample_sweep import make_record

from sg_ray.records.record import RunRecord
from sg_ray.report.text.reproduction import Reproduction, as_text

HISTORY = [
    {"epoch": 1, "val_f1": 0.5, "val_loss": 0.7, "epoch_time_s": 1.0, "samples_per_s": 3.0},
    {"epoch": 2, "val_f1": 0.6, "val_loss": None, "epoch_time_s": 1.0, "samples_per_s": 3.0},
]


def record(*changed: tuple[int, str, float | None], **changes: Any) -> RunRecord:
    """A record of two epochs, the second the best, with some of its values changed."""
    history = [dict(epoch) for epoch in HISTORY]
    for epoch, metric, value in changed:
        history[epoch - 1][metric] = value
    best = {name: value for name, value in history[1].items() if name != "epoch"}
    fields = {"history": history, "epochs": 2, "best_epoch": 2, "metrics": best, **changes}
    return make_record("gnn", {}, 42, **fields)


def test_times_and_speeds_may_differ():
    now = record((1, "epoch_time_s", 9.0), (2, "samples_per_s", 9.0))
    reproduction = Reproduction(record(), now)
    assert reproduction.is_reproduced
    assert as_text(reproduction).endswith("bit-identical: 2 metrics x 2 epochs")
    assert "_s" not in as_text(reproduction)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ((1, "val_f1", 0.5 + 2**-53), "1 of 2 metrics, most val_f1 by 1.11e-16 in epoch 1"),
        ((2, "val_f1", 0.4), "1 of 2 metrics, most val_f1 by 0.2 in epoch 2"),
        ((2, "val_loss", 0.4), "1 of 2 metrics, most val_loss by inf in epoch 2"),
        ((1, "val_loss", None), "1 of 2 metrics, most val_loss by inf in epoch 1"),
    ],
)
def test_one_bit_is_a_difference_and_so_is_a_missing_value(changed, told):
    assert Reproduction(record(), record(changed)).problems == [told]


def test_the_largest_difference_of_each_metric_is_shown():
    reproduction = Reproduction(record(), record((1, "val_f1", 0.51), (2, "val_f1", 0.4)))
    line = next(x for x in as_text(reproduction).splitlines() if x.startswith("val_f1"))
    assert line.split() == ["val_f1", "2", "0.6", "0.4", "0.2"]


def test_a_metric_that_only_this_version_has_is_no_difference():
    assert Reproduction(record(), record((1, "val_new", 1.0), (2, "val_new", 1.0))).is_reproduced
    assert not Reproduction(record((1, "val_old", 1.0)), record()).is_reproduced


def test_epochs_too_few_or_too_many_are_a_difference():
    shorter = record(history=HISTORY[:1], epochs=1, best_epoch=1, metrics={"val_f1": 0.5})
    assert Reproduction(record(), shorter).problems == ["2 epochs then, 1 now"]
    assert Reproduction(shorter, record()).problems == ["1 epochs then, 2 now"]


def test_only_what_is_different_in_the_surroundings_is_listed():
    gpus = [{"name": name, "driver": "1"} for name in ("A", "B")]
    same = {"device": "c", "code_version": "of the process"}
    then = record(environment={"torch": "2.12", "gpu": gpus[0], "host": "w1", **same})
    now = record(
        (1, "val_f1", 0.0), environment={"torch": "2.13", "gpu": gpus[1], "host": "w2", **same}
    )
    assert as_text(Reproduction(then, now)).splitlines()[-4:] == [
        "what else is different:",
        "  gpu.name: A then, B now",
        "  host: w1 then, w2 now",
        "  torch: 2.12 then, 2.13 now",
    ]


def test_a_failure_without_an_epoch_has_no_table():
    failed = make_record(
        "gnn", {}, 42, status="failed", history=[], epochs=0, metrics={}, best_epoch=None
    )
    assert as_text(Reproduction(failed, failed)).splitlines() == [
        "failed then with TrainingError: "
        "loss is not finite at epoch 2, step 31 (<nan>). Lower learning_rate.",
        "failed now with TrainingError: "
        "loss is not finite at epoch 2, step 31 (<nan>). Lower learning_rate.",
        "reproduced: fails with TrainingError after 0 epochs, as on record",
    ]

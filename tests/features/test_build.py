import logging
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from feature_builds import SPECS, make_data, start_build

from sg_ray.data.samples import DataSet, Sample
from sg_ray.errors import InputError
from sg_ray.features.build import prepare_features, store_dir
from sg_ray.features.kinds import load_featuriser, save_featuriser
from sg_ray.features.spec import GraphSpec, TextSpec, TokenSpec
from sg_ray.features.tokens import TokenFeaturiser

NUM_SLOW = 2500
"""Enough functions for a build to take seconds, and for worker processes to be used."""


def assert_equal_features(found, expected):
    assert found.data_fingerprint == expected.data_fingerprint
    assert found.kinds.keys() == expected.kinds.keys()
    for split, labels in expected.labels.items():
        np.testing.assert_array_equal(found.labels[split], labels)
    for key, kind in expected.kinds.items():
        assert found.kinds[key].meta == kind.meta
        for split, arrays in kind.splits.items():
            for name, ragged in arrays.items():
                other = found.kinds[key].splits[split][name]
                np.testing.assert_array_equal(other.values, ragged.values)
                np.testing.assert_array_equal(other.offsets, ragged.offsets)
                assert other.values.dtype == ragged.values.dtype


def names_below(cache_dir):
    return sorted(path.name for path in cache_dir.glob("features/*/*"))


@pytest.fixture(scope="module")
def slow_reference(tmp_path_factory):
    return prepare_features(make_data(NUM_SLOW), SPECS, tmp_path_factory.mktemp("reference"))


def test_every_kind_has_every_sample(tmp_path):
    data = make_data()
    features = prepare_features(data, SPECS, tmp_path)
    assert features.labels["train"].tolist() == [s.label for s in data.splits["train"]]
    assert features.labels["train"].dtype == np.int8
    for spec in SPECS:
        for split, samples in data.splits.items():
            for ragged in features.split(spec.key, split).values():
                assert len(ragged) == len(samples)
    text = features.split(TextSpec().key, "valid")["bytes"]
    assert [text[i].tobytes().decode() for i in range(20)] == [
        sample.source for sample in data.splits["valid"]
    ]


def test_second_call_reads_what_the_first_built(tmp_path):
    first = prepare_features(make_data(), SPECS, tmp_path)
    calls = []
    second = prepare_features(make_data(), SPECS, tmp_path, progress=lambda *c: calls.append(c))
    assert calls == []
    assert_equal_features(second, first)


def test_other_data_or_settings_are_stored_apart(tmp_path):
    prepare_features(make_data(), [GraphSpec()], tmp_path)
    prepare_features(make_data(61), [GraphSpec()], tmp_path)
    prepare_features(make_data(), [GraphSpec(max_nodes=9)], tmp_path)
    assert len(names_below(tmp_path)) == 3


def test_progress_reaches_the_total(tmp_path):
    calls = []
    prepare_features(make_data(600), [TextSpec()], tmp_path, progress=lambda *c: calls.append(c))
    assert calls[0] == ("text", 0, 620)
    assert calls[-1] == ("text", 620, 620)
    assert [done for _, done, _ in calls] == sorted({done for _, done, _ in calls})


def test_vocabularies_know_the_train_split_only(tmp_path):
    train = [Sample("int common;", 0, "0")]
    features = prepare_features(
        DataSet("toy", {"train": train, "valid": [Sample("int odd;", 1, "1")]}),
        [GraphSpec(vocab_size=64)],
        tmp_path,
    )
    arrays = features.split(GraphSpec(vocab_size=64).key, "valid")
    assert arrays["node_token"].values.max() > 3  # "int", "common" and ";" are 1 to 3


def test_split_without_samples_and_no_train_split(tmp_path):
    data = DataSet("toy", {"test": [], "valid": [Sample("int x;", 0, "0")]})
    features = prepare_features(data, SPECS, tmp_path)
    for spec in SPECS:
        for name, ragged in features.split(spec.key, "test").items():
            assert len(ragged) == 0
            assert ragged.values.dtype == features.split(spec.key, "valid")[name].values.dtype


def test_damaged_store_is_built_again_with_a_warning(tmp_path, caplog):
    data = make_data()
    expected = prepare_features(data, SPECS, tmp_path / "other")
    prepare_features(data, SPECS, tmp_path)
    victim = store_dir(tmp_path, data.fingerprint, GraphSpec(vocab_size=64))
    os.truncate(victim / "train.edges.values.npy", 200)
    with caplog.at_level(logging.WARNING):
        assert_equal_features(prepare_features(data, SPECS, tmp_path), expected)
    assert "train.edges.values.npy has 200 bytes" in caplog.text
    assert "building it again" in caplog.text


def test_tokenizer_folder_with_other_content_is_read_again(tmp_path):
    data = make_data()
    sources = [sample.source for sample in data.splits["train"]]
    spec = TokenSpec(tokenizer=str(tmp_path / "tokenizer"))
    num_tokens = []
    for vocab_size in (300, 320):
        fitted = TokenFeaturiser.fit(TokenSpec(vocab_size=vocab_size), sources)
        save_featuriser(fitted, tmp_path / "tokenizer")
        ids = prepare_features(data, [spec], tmp_path).split(spec.key, "train")["ids"]
        num_tokens.append(len(ids.values))
    assert num_tokens[0] > num_tokens[1]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_loaded_featuriser_encodes_what_is_stored(tmp_path, spec):
    data = make_data()
    stored = prepare_features(data, [spec], tmp_path).split(spec.key, "valid")
    save_featuriser(
        load_featuriser(store_dir(tmp_path, data.fingerprint, spec)), tmp_path / "exported"
    )
    arrays = load_featuriser(tmp_path / "exported").encode(
        [sample.source for sample in data.splits["valid"]]
    )
    for name, ragged in arrays.items():
        np.testing.assert_array_equal(ragged.values, stored[name].values)


def test_folder_without_featuriser_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} holds no fitted featuriser"):
        load_featuriser(tmp_path)


def test_featuriser_of_another_version_is_refused(tmp_path):
    prepare_features(make_data(), [TextSpec()], tmp_path)
    (path,) = tmp_path.glob("features/*/*/featuriser.json")
    path.write_text(path.read_text().replace('"version": 1', '"version": 99'), encoding="utf-8")
    with pytest.raises(InputError, match=r"version 99.*version 1\b"):
        load_featuriser(path.parent)


def test_changed_library_is_warned_of(tmp_path, caplog):
    prepare_features(make_data(), [GraphSpec()], tmp_path)
    (path,) = tmp_path.glob("features/*/*/featuriser.json")
    text = path.read_text().replace('"tree-sitter-c": "', '"tree-sitter-c": "0.')
    path.write_text(text, encoding="utf-8")
    load_featuriser(path.parent)
    assert "tree-sitter-c 0." in caplog.text


def test_workers_give_the_same_arrays(tmp_path, slow_reference):
    features = prepare_features(make_data(NUM_SLOW), SPECS, tmp_path, num_workers=2)
    assert_equal_features(features, slow_reference)


def test_killed_builds_leave_nothing_that_is_believed(tmp_path, slow_reference):
    rng = random.Random(os.getpid())
    for num_workers in (2, 1):
        process = start_build(tmp_path, num_train=NUM_SLOW, num_workers=num_workers)
        process.stdout.readline()
        delay_s = rng.uniform(0, 2)
        time.sleep(delay_s)
        process.kill()
        process.communicate()
    features = prepare_features(make_data(NUM_SLOW), SPECS, tmp_path)
    assert_equal_features(features, slow_reference)
    assert names_below(tmp_path) == sorted(spec.key for spec in SPECS), f"killed after {delay_s} s"


def test_workers_die_with_a_killed_build(tmp_path):
    process = start_build(tmp_path, num_train=NUM_SLOW, num_workers=2)
    while process.stdout.readline() != "started graphs\n":
        pass
    workers = wait_for(lambda: workers_of(process.pid))
    process.kill()
    process.communicate()
    wait_for(lambda: not any(is_running(worker) for worker in workers))


def test_b12_killed_worker_is_explained(tmp_path):
    process = start_build(tmp_path, num_train=NUM_SLOW, num_workers=2)
    while process.stdout.readline() != "started graphs\n":
        pass
    os.kill(wait_for(lambda: workers_of(process.pid))[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert "one of 2 workers that built graphs was killed" in errors
    assert "put `taskset -c 0` before the command" in errors
    assert names_below(tmp_path) == [SPECS[0].key]


def test_interrupt_leaves_nothing_half_written(tmp_path):
    process = start_build(tmp_path, num_train=NUM_SLOW, num_workers=2)
    while process.stdout.readline() != "started graphs\n":
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert names_below(tmp_path) == [SPECS[0].key]


def test_two_builds_at_once_both_succeed(tmp_path, slow_reference):
    processes = [start_build(tmp_path, num_train=NUM_SLOW) for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert output.endswith("finished\n"), errors
    features = prepare_features(make_data(NUM_SLOW), SPECS, tmp_path)
    assert_equal_features(features, slow_reference)
    assert names_below(tmp_path) == sorted(spec.key for spec in SPECS)


def wait_for(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("the condition did not come true")


def workers_of(pid):
    """Worker processes alone: multiprocessing keeps a resource tracker as well."""
    children = psutil.Process(pid).children()
    return [child.pid for child in children if "spawn_main" in command_line(child)]


def command_line(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False

import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer

from sg_ray.errors import InputError
from sg_ray.features.spec import TokenSpec
from sg_ray.features.tokens import TokenFeaturiser

SOURCES = [f"int f{i}(char *p) {{ return p[{i}] + g(p, {i * i}); }}\n" for i in range(50)]
SPEC = TokenSpec(vocab_size=320, collapse_whitespace=False)

TRAIN_AND_PRINT = """
import hashlib
from sg_ray.features.spec import TokenSpec
from sg_ray.features.tokens import TokenFeaturiser
sources = [f"int f{i}(char *p) {{ return p[{i}] + g(p, {i * i}); }}\\n" for i in range(50)]
featuriser = TokenFeaturiser.fit(TokenSpec(vocab_size=320), sources)
print(hashlib.sha256(featuriser._tokenizer.to_str().encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def trained():
    return TokenFeaturiser.fit(SPEC, SOURCES)


def decode(featuriser, ids):
    return featuriser._tokenizer.decode(ids.tolist(), skip_special_tokens=False)


def test_text_survives_the_round_trip(trained):
    sources = [SOURCES[3], "", "tab\tand\r\nunseen \N{SNOWMAN}", "x" * 3000]
    ids = trained.encode(sources)["ids"]
    assert [decode(trained, ids[i]) for i in range(4)] == sources
    assert ids.values.dtype == np.uint16
    assert ids.lengths[1] == 0


def test_layout_makes_no_difference_by_default():
    featuriser = TokenFeaturiser.fit(TokenSpec(vocab_size=320), SOURCES)
    ids = featuriser.encode(["if (a)\n\t\tb();\n", "if (a) b();"])["ids"]
    assert ids[0].tolist() == ids[1].tolist()


def test_training_merges_what_is_frequent(trained):
    assert trained.encode(SOURCES[:1])["ids"].lengths[0] < len(SOURCES[0]) * 2 / 3


def test_meta_names_the_special_tokens(trained):
    assert trained.meta == {"vocab_size": 320, "bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}


def test_text_that_spells_a_special_token_is_text(trained):
    source = 'puts("<s></s><pad>");'
    ids = trained.encode([source])["ids"][0]
    assert ids.min() > 4
    assert decode(trained, ids) == source


def test_lone_surrogate_becomes_a_question_mark(trained):
    ids = trained.encode(["a\ud800b"])["ids"]
    assert decode(trained, ids[0]) == "a?b"


def test_no_sources_give_an_empty_array(trained):
    ids = trained.encode([])["ids"]
    assert (len(ids), ids.values.dtype) == (0, np.uint16)


def test_equal_data_gives_equal_merges_in_any_process():
    hashes = {
        subprocess.run(
            [sys.executable, "-c", TRAIN_AND_PRINT],
            env={"PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": parallel},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, parallel in (("1", "true"), ("2", "false"))
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json and merges.txt"])
def test_pretrained_folder_encodes_like_its_origin(tmp_path, trained, form):
    if form == "tokenizer.json":
        trained.save(tmp_path)
    else:
        trained._tokenizer.model.save(str(tmp_path))
    spec = TokenSpec(tokenizer=str(tmp_path), collapse_whitespace=False)
    pretrained = TokenFeaturiser.fit(spec, ["other data"])
    expected = trained.encode(SOURCES)["ids"]
    np.testing.assert_array_equal(pretrained.encode(SOURCES)["ids"].values, expected.values)
    assert pretrained.meta == trained.meta


def test_changed_files_of_a_pretrained_folder_are_noticed(tmp_path, trained):
    spec = TokenSpec(tokenizer=str(tmp_path))
    trained.save(tmp_path)
    before = TokenFeaturiser.inputs(spec)
    TokenFeaturiser.fit(TokenSpec(vocab_size=300), SOURCES).save(tmp_path)
    assert TokenFeaturiser.inputs(spec) != before


def test_missing_folder_says_what_to_do(tmp_path):
    spec = TokenSpec(tokenizer=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"does not exist.*tokenizer: train"):
        TokenFeaturiser.fit(spec, SOURCES)


def test_folder_without_tokenizer_says_what_it_needs(tmp_path):
    with pytest.raises(InputError, match=r"needs tokenizer\.json"):
        TokenFeaturiser.fit(TokenSpec(tokenizer=str(tmp_path)), SOURCES)


@pytest.mark.parametrize("names", [["tokenizer.json"], ["vocab.json", "merges.txt"]])
def test_damaged_tokenizer_is_named(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=names[0]):
        TokenFeaturiser.fit(TokenSpec(tokenizer=str(tmp_path)), SOURCES)


def test_tokenizer_without_padding_is_refused(tmp_path):
    from tokenizers.models import BPE

    Tokenizer(BPE({"<s>": 0, "</s>": 1}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="no token for pad_id"):
        TokenFeaturiser.fit(TokenSpec(tokenizer=str(tmp_path)), SOURCES)


def test_unreachable_hub_says_what_to_do(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hub.*tokenizer: train"):
        TokenFeaturiser.fit(TokenSpec(tokenizer="nobody/no-such-model"), SOURCES)

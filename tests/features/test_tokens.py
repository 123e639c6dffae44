import json
import subprocess
import sys
import time

import numpy as np
import pytest
from tokenizers import Tokenizer

from sg_ray.errors import InputError
from sg_ray.features import tokens
from sg_ray.features.pretrained_files import tokenizer_content
from sg_ray.features.spec import TokenSpec
from sg_ray.features.tokens import MAX_WORD_BYTES, TokenFeaturiser

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


def save_bpe(folder, *special, **names):
    from tokenizers.models import BPE

    Tokenizer(BPE({token: at for at, token in enumerate(special)}, [])).save(
        str(folder / "tokenizer.json")
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return TokenSpec(tokenizer=str(folder))


def test_a_tokenizer_says_itself_which_tokens_are_special(tmp_path):
    spec = save_bpe(
        tmp_path, "x", "<bos>", "<eos>", "<fill>", "</s>",
        bos_token={"content": "<bos>", "special": True}, eos_token="<eos>", pad_token="<fill>",
    )  # fmt: skip
    featuriser = TokenFeaturiser.fit(spec, SOURCES)
    assert featuriser.meta == {
        "vocab_size": 5, "bos_id": 1, "eos_id": 2, "pad_id": 3, "unk_id": None
    }  # fmt: skip
    featuriser.save(tmp_path)
    assert TokenFeaturiser.load(spec, tmp_path).meta == featuriser.meta


def test_a_tokenizer_may_lack_a_first_token_or_padding(tmp_path):
    spec = save_bpe(tmp_path, "x", "<s>", "</s>", bos_token=None)
    meta = TokenFeaturiser.fit(spec, SOURCES).meta
    assert (meta["bos_id"], meta["eos_id"], meta["pad_id"]) == (None, 2, None)


def test_ids_are_counted_to_the_highest(tmp_path):
    spec = save_bpe(tmp_path, "x", "</s>")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    content = json.loads(tokenizer.to_str())
    content["model"]["vocab"]["</s>"] = 9
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert TokenFeaturiser.fit(spec, SOURCES).meta["vocab_size"] == 10


def test_tokenizer_without_first_and_last_token_is_refused(tmp_path):
    with pytest.raises(InputError, match="no token to start or to end a function"):
        TokenFeaturiser.fit(save_bpe(tmp_path, "x", "<pad>"), SOURCES)


def test_case_33_a_run_of_one_letter_is_cut_and_costs_no_more_than_words():
    run = 'char *s = "' + "x" * 80_000 + '";'
    words = 'char *s = "' + " ".join(f"w{i * 7919 % 100_003}" for i in range(13_000)) + '";'
    seconds = {}
    for name, text in (("words", words), ("run", run)):
        started = time.perf_counter()
        featuriser = TokenFeaturiser.fit(TokenSpec(), [*SOURCES, text])
        ids = featuriser.encode([text])["ids"]
        seconds[name] = time.perf_counter() - started
        assert decode(featuriser, ids[0]) == text
    longest = max(len(token) for token in featuriser._tokenizer.get_vocab())
    assert longest <= MAX_WORD_BYTES
    assert seconds["run"] < 20 * seconds["words"]  # 0.1 on an idle machine; 60 without the cut


def test_case_33_ordinary_words_are_tokenised_as_without_the_cut(trained):
    from tokenizers import models, trainers

    tokenizer = tokens._byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(tokens.SPECIAL_TOKENS),
        initial_alphabet=sorted(tokens.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SOURCES, trainer)
    assert tokenizer.get_vocab() == trained._tokenizer.get_vocab()


def test_b13_another_content_of_a_tokenizer_is_another_feature(tmp_path, trained):
    trained.save(tmp_path)
    content = tokenizer_content(str(tmp_path))
    spec = TokenSpec(tokenizer=str(tmp_path), tokenizer_content=content)
    copy = tmp_path / "copy"
    copy.mkdir()
    trained.save(copy)
    assert TokenSpec(tokenizer=str(copy), tokenizer_content=content).key == spec.key
    TokenFeaturiser.fit(TokenSpec(vocab_size=300), SOURCES).save(tmp_path)
    assert tokenizer_content(str(copy)) == content != tokenizer_content(str(tmp_path))
    with pytest.raises(InputError, match=f"holds other files now.*meant were those of {content}"):
        TokenFeaturiser.fit(spec, SOURCES)


def test_the_key_of_a_trained_tokenizer_is_what_it_was():
    assert TokenSpec().key == "tokens-931efdda"


def test_the_local_cache_is_asked_before_the_hub(tmp_path, monkeypatch, trained):
    """A name on the hub, as it lies in the cache after a download; no route to the hub."""
    import socket

    import huggingface_hub.constants as constants

    repository = tmp_path / "models--some--tokenizer"
    snapshot = repository / "snapshots" / ("ab" * 20)
    snapshot.mkdir(parents=True)
    trained.save(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("ab" * 20, encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: asked.append(args[0]))
    spec = TokenSpec(tokenizer="some/tokenizer", collapse_whitespace=False)
    assert TokenFeaturiser.fit(spec, SOURCES).meta == trained.meta
    assert asked == []


def test_unreachable_hub_says_what_to_do(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hub.*tokenizer: train"):
        TokenFeaturiser.fit(TokenSpec(tokenizer="nobody/no-such-model"), SOURCES)

from collections import Counter

from sg_ray.features.syntax import SyntaxParser
from sg_ray.features.vocabulary import Vocabulary, count_leaves


def test_most_frequent_texts_get_ids_and_ties_go_by_text():
    counts = Counter({b"b": 2, b"a": 2, b"c": 3, b"d": 1})
    assert Vocabulary.fit(counts, size=5).words == [b"c", b"a", b"b"]


def test_unseen_texts_fall_into_the_buckets():
    vocabulary = Vocabulary.fit(Counter({b"seen": 1}), size=64)
    ids = {vocabulary.id(f"name{i}".encode()) for i in range(1000)}
    assert vocabulary.id(b"seen") == 1
    assert min(ids) >= 2
    assert max(ids) == 63
    assert len(ids) > 50


def test_smallest_vocabulary_has_room_for_the_unseen():
    vocabulary = Vocabulary.fit(Counter({str(i).encode(): 1 for i in range(99)}), size=16)
    assert 0 < vocabulary.id(b"unseen") < 16


def test_regular_expression_finds_the_texts_of_the_parser():
    source = r"""
    static unsigned long f(const T *p, int n) { // it's "nothing"
        char c = '\''; /* "x" */ n <<= 0x1fUL; p->q[n] = 1.5e-3f;
        return n-->0 ? sizeof(int) : g("a \" /* b */", n != ~0);
    }"""
    tree = SyntaxParser().parse(source.encode(), 10_000)
    missing = Counter(filter(None, tree.texts)) - count_leaves([source])
    assert not missing
    assert not {b"it", b"nothing", b"b"} & count_leaves([source]).keys()

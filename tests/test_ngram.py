"""The n-gram baseline: proper probabilities, hand-computed values, and better ones at higher orders."""

import math

import pytest

from benchmarks._ngram import bits_per_character, fit, probability
from models.data.text import VOCABULARY, text_parts

TEXT = "the cat sat on the mat, the rat sat on the cat; that hat is the cat's."


@pytest.mark.parametrize("order", range(1, 7))
@pytest.mark.parametrize("vocabulary", [None, VOCABULARY])
def test_probabilities_sum_to_one(order, vocabulary):
    model = fit(TEXT, order, vocabulary)
    for context in ("", "t", "the ", "the cat", TEXT[:5], TEXT[-5:], "s.", "....", "~~~"):
        values = [probability(model, context, character) for character in model.vocabulary]
        assert min(values) > 0
        assert math.fsum(values) == pytest.approx(1, abs=1e-12)


def test_first_order_by_hand():
    """Counts 2 and 1 give the discount (1 + 1) / (1 + 2 + 2) = 0.4; its mass 0.8 / 3 is shared by three characters."""
    model = fit("aab", 1, "abc")
    assert probability(model, "", "a") == pytest.approx((1.6 + 0.8 / 3) / 3)
    assert probability(model, "", "b") == pytest.approx((0.6 + 0.8 / 3) / 3)
    assert probability(model, "", "c") == pytest.approx(0.8 / 9)
    assert bits_per_character(model, "c") == pytest.approx(-math.log2(0.8 / 9))


def test_second_order_by_hand():
    """Bigrams aa, ab, ba, aa: the lower order counts the left contexts, two of a and one of b."""
    model = fit("aabaa", 2, "ab")
    low_a = (2 - 0.4 + 0.4 * 2 / 2) / 3  # distinct bigrams ending in a: aa, ba; in b: ab
    discount = 3 / 6  # two bigrams seen once, one seen twice
    assert probability(model, "", "a") == pytest.approx(low_a)
    assert probability(model, "a", "a") == pytest.approx((2 - discount + discount * 2 * low_a) / 3)
    assert probability(model, "b", "a") == pytest.approx(1 - discount + discount * low_a)
    expected = -(math.log2(low_a) + math.log2(probability(model, "a", "a"))) / 2
    assert bits_per_character(model, "aa") == pytest.approx(expected)


def test_unseen_contexts_back_off():
    model = fit(TEXT, 4)
    assert probability(model, "zzz", "t") == probability(model, "", "t")
    assert probability(model, "zze", " ") == probability(model, "e", " ")
    assert probability(model, "anything before the", " ") == probability(model, "the", " ")


def test_errors():
    for order in (0, 4):
        with pytest.raises(ValueError, match="order"):
            fit("abc", order)
    with pytest.raises(ValueError, match="vocabulary"):
        fit("abc", 1, "ab")
    model = fit("abc", 2)
    for text in ("d", ""):
        with pytest.raises(ValueError):
            bits_per_character(model, text)


@pytest.mark.long
def test_higher_orders_predict_the_text_better():
    train, validation, _ = text_parts()
    bits = [bits_per_character(fit(train, order, VOCABULARY), validation[:10000]) for order in range(1, 6)]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] < math.log2(len(VOCABULARY)) and bits[-1] < 0.6 * bits[0]

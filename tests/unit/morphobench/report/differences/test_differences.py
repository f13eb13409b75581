"""Differences to the baseline: what was lost is called lost, and nothing is claimed that the seeds cannot show."""

from __future__ import annotations

from morphobench.report.differences import text


def test_a_lost_comparison_is_called_lost_with_its_interval(results):
    row = {"dataset": "digits", "method": "backbone-variational", "variant": "default", "metric": "accuracy"}
    row |= {"difference": -0.02, "low": -0.03, "high": -0.01, "seeds": 6, "interval": "", "baseline": "b"}
    sentence = text.difference_sentence(results, row)
    assert "difference −0.0200 [−0.0300, −0.0100] over 6 paired seeds (lower, the interval excludes zero)" in sentence
    undecided = text.difference_sentence(results, row | {"high": 0.01})
    assert "the interval contains zero" in undecided
    lonely = text.difference_sentence(results, row | {"low": float("nan"), "interval": "one seed"})
    assert "no interval: one seed" in lonely


def test_the_answer_counts_the_intervals_and_claims_nothing(results):
    answer = [answer.sentence for answer in text.answer(results)]
    rows = text.variational_differences(results)
    above = sum(row["low"] > 0 for row in rows)
    below = sum(row["high"] < 0 for row in rows)
    assert f"in {above} it lies above zero" in answer[0]
    assert f"in {below} it lies below zero" in answer[0]
    assert answer[1].startswith("No significance is claimed. With 6 seeds and 6 comparisons")
    assert "needs 8 seeds" in answer[1]

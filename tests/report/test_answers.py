"""The line that says in how many samples an answer was found."""

import pandas as pd

from tts.report.summaries import answers


def test_the_policy_with_the_fewest_answers_is_named_with_the_reasons():
    statuses = pd.DataFrame(
        {"answered": [6, 9], "answered, phrase": [1, 0], "no answer": [2, 1], "truncated": [1, 0]}, index=["policy-6k", "policy-20k"]
    )
    line = "an answer in 7 of 10 samples (1 answered, phrase, 2 no answer, 1 cut off at 160 tokens; fewest: 6k)"
    assert answers(statuses, 160) == [line]
    assert "1 cut off;" in answers(statuses, None)[0]
    assert answers(statuses.iloc[:1], 160) == [line.replace("; fewest: 6k", "")]


def test_where_no_sample_has_an_answer_the_count_is_a_whole_number():
    assert answers(pd.DataFrame({"truncated": [10]}, index=["a"]), 160) == ["an answer in 0 of 10 samples (10 cut off at 160 tokens)"]


def test_where_every_sample_has_an_answer_no_policy_is_named():
    assert answers(pd.DataFrame({"answered": [10, 10]}, index=["a", "b"]), 160) == ["an answer in 10 of 10 samples"]
    assert answers(pd.DataFrame(), 160) == []

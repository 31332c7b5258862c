from pathlib import Path

import pytest

from thesis_lib.errors import ThesisError
from thesis_lib.widgets.judgements import Judgements


def judged(file: Path, *passes: str) -> Judgements:
    """Pictures 0, 1, ... judged in each pass, a letter a picture."""
    letters = {"i": "id", "n": "near_ood", "b": "bad"}
    record = Judgements(file)
    for number, verdicts in enumerate(passes, 1):
        for key, letter in enumerate(verdicts):
            if letter in letters:
                record.record(number, str(key), letters[letter], blind=True)
    return record


def test_kappa_by_hand(tmp_path):
    found = judged(tmp_path / "j.csv", "iinnbb", "iinnbi").agreement()
    observed, chance = 5 / 6, (2 * 3 + 2 * 2 + 2 * 1) / 36
    assert found == pytest.approx({"pictures": 6, "agreement": observed, "kappa": (observed - chance) / (1 - chance)})


def test_only_pictures_of_both_passes_count_and_a_second_thought_replaces(tmp_path):
    record = judged(tmp_path / "j.csv", "iinn", "-in")
    record.record(2, "2", "bad", blind=True)
    assert record.agreement()["pictures"] == 2 and record.agreement()["agreement"] == 0.5
    again = Judgements(tmp_path / "j.csv")
    assert len(again.table) == 6 and again.judged(2, True) == {"1", "2"}


def test_a_verdict_on_a_picture_whose_making_is_known_does_not_replace_a_blind_one(tmp_path):
    record = judged(tmp_path / "j.csv", "in", "ii")
    record.record(2, "1", "near_ood", blind=False)
    assert record.agreement()["agreement"] == 0.5 and len(record.table) == 5
    assert record.judged(2, False) == {"1"}


def test_two_who_judge_at_once_both_keep_their_verdicts(tmp_path):
    first, second = (Judgements(tmp_path / "j.csv") for _ in range(2))
    for key in "abc":
        first.record(1, key, "id", blind=True)
    second.record(2, "a", "bad", blind=True)
    assert len(Judgements(tmp_path / "j.csv").table) == 4 and second.judged(1, True) == {"a", "b", "c"}


def test_kappa_is_not_defined_without_variation(tmp_path):
    found = judged(tmp_path / "j.csv", "ii", "ii").agreement()
    assert found["agreement"] == 1 and found["kappa"] != found["kappa"]
    assert judged(tmp_path / "k.csv", "ii").agreement()["pictures"] == 0


def test_another_file_is_refused(tmp_path):
    (tmp_path / "j.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ThesisError, match="no record of judgements"):
        Judgements(tmp_path / "j.csv")

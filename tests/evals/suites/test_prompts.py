"""Prompts of made-up rows as lm-evaluation-harness builds them, shapes of data files, and bad files."""

from __future__ import annotations

import bz2
import json
from pathlib import Path

import pytest

from empu.errors import UsageError
from empu.evals.suites.base import GenerationSuite, MultipleChoiceSuite, PromptedRow, Suite
from empu.evals.suites.registry import SUITES, suite_by_name

ARC_ORIGINAL = {
    "id": "1",
    "question": {"stem": "What falls?", "choices": [{"text": "rain", "label": "A"}, {"text": "light", "label": "B"}]},
    "answerKey": "A",
}
ARC_PUBLISHED = {
    "question": "What falls?",
    "choices": {"text": ["rain", "light"], "label": ["A", "B"]},
    "answerKey": "A",
}
HELLASWAG = {
    "activity_label": "Baking",
    "ctx_a": "A cook stands in a kitchen.",
    "ctx_b": "the cook",
    "endings": ["[step] opens  the oven.", "sleeps.", "flies away.", "sings [title] loudly."],
    "label": "0",
    "source_id": "wikihow~1",
}
MMLU = {"question": " Which is even? ", "choices": ["1", "2", "3", "5"], "answer": 1, "subject": "number_theory"}
TRUTHFUL_CSV = (
    "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    'a,b,Is water wet?,"Yes, it is","Yes, it is; It depends",No; Never;,x\n'
)
COPAL = "premise,choice1,choice2,question,idx,label\nIa basah.,Hujan turun.,Ia makan.,cause,0,0\n"
GLOBAL = {
    "question": "Mana yang genap?",
    **{f"option_{letter}": str(number) for letter, number in zip("abcd", (1, 2, 3, 5), strict=True)},
    "answer": "B",
    "subject_category": "STEM",
}


def write_jsonl(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def only(suite: str, path: Path, shots: int | None = 0) -> PromptedRow:
    (row,) = SUITES[suite].load(path, shots)
    return row


@pytest.mark.parametrize("record", [ARC_ORIGINAL, ARC_PUBLISHED])
def test_arc(tmp_path: Path, record: object) -> None:
    row = only("arc_easy", write_jsonl(tmp_path / "any.jsonl", record))
    assert row.prompt == "Question: What falls?\nAnswer:"
    assert (row.question.choices, row.question.correct) == (("rain", "light"), (0,))


def test_hellaswag_removes_marks_and_capitalises_the_second_context(tmp_path: Path) -> None:
    row = only("hellaswag", write_jsonl(tmp_path / "hellaswag_val.jsonl", HELLASWAG))
    assert row.prompt == "Baking: A cook stands in a kitchen. The cook"
    assert row.question.choices == (" opens the oven.", "sleeps.", "flies away.", "sings. loudly.")
    assert row.question.cluster == "wikihow~1"


def test_hellaswag_reads_the_packed_text_file(tmp_path: Path) -> None:
    lines = ["Baking: A cook stands. the cook", "1", "a", "b", "c", "d"]
    path = tmp_path / "hellaswag_val_full.txt.bz2"
    path.write_bytes(bz2.compress("\n".join(lines).encode()))
    row = only("hellaswag", path)
    assert (row.prompt, row.question.correct) == ("Baking: A cook stands. the cook", (1,))


def test_piqa_joins_the_labels_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "valid-labels.lst", "1\n")
    row = only("piqa", write_jsonl(tmp_path / "valid.jsonl", {"goal": "Open a door", "sol1": "Push", "sol2": "Pull"}))
    assert row.prompt == "Question: Open a door\nAnswer:"
    assert (row.question.target, row.question.correct) == ("Pull", (1,))


def test_openbookqa_prompt_is_the_stem(tmp_path: Path) -> None:
    write(
        tmp_path / "test.tsv",
        "ID\tQuestion Stem\tChoices\tComplete Question\tAnswer Key\n"
        "1\tIce is\t(A) hot (B) cold (C) dry (D) loud\t-\tB\n",
    )
    published = {
        "question_stem": "Ice is",
        "choices": {"text": ["hot", "cold", "dry", "loud"], "label": list("ABCD")},
        "answerKey": "B",
    }
    rows = [only("openbookqa", tmp_path), only("openbookqa", write_jsonl(tmp_path / "own.jsonl", published))]
    for row in rows:
        assert (row.prompt, row.question.choices[1], row.question.correct) == ("Ice is", "cold", (1,))


def test_mmlu_puts_the_first_examples_of_the_subject_before_the_question(tmp_path: Path) -> None:
    write(
        tmp_path / "test" / "number_theory_test.csv",
        "question,choice0,choice1,choice2,choice3,answer\n Even? ,1,2,3,5,1\n",
    )
    write(tmp_path / "dev" / "number_theory_dev.csv", "Odd?,1,2,4,6,A\nPrime?,1,4,5,6,C\n")
    row = only("mmlu", tmp_path, 2)
    assert row.prompt == (
        "The following are multiple choice questions (with answers) about number theory.\n\n"
        "Odd?\nA. 1\nB. 2\nC. 4\nD. 6\nAnswer: A\n\n"
        "Prime?\nA. 1\nB. 4\nC. 5\nD. 6\nAnswer: C\n\n"
        "Even?\nA. 1\nB. 2\nC. 3\nD. 5\nAnswer:"
    )
    suite = SUITES["mmlu"]
    assert isinstance(suite, MultipleChoiceSuite)
    assert suite.continuations(row.question) == [" A", " B", " C", " D"]


def test_mmlu_reads_the_published_shape(tmp_path: Path) -> None:
    row = only("mmlu", write_jsonl(tmp_path / "test.jsonl", MMLU))
    assert row.prompt.endswith("\n\nWhich is even?\nA. 1\nB. 2\nC. 3\nD. 5\nAnswer:")
    assert row.question.correct == (1,)


def test_truthfulqa_from_the_csv_of_its_authors(tmp_path: Path) -> None:
    path = write(tmp_path / "TruthfulQA.csv", TRUTHFUL_CSV)
    one, two = only("truthfulqa_mc1", path), only("truthfulqa_mc2", path)
    assert one.prompt.startswith("Q: What is human life expectancy in the United States?\nA: Human life")
    assert one.prompt.endswith("were held in Barcelona, Spain.\n\nQ: Is water wet?\nA:")
    assert (one.question.choices, one.question.correct) == (("Yes, it is", "No", "Never"), (0,))
    assert (two.question.choices[:2], two.question.correct) == (("Yes, it is", "It depends"), (0, 1))


def test_copal_id_joins_the_premise_with_a_connector(tmp_path: Path) -> None:
    row = only("copal_id", write(tmp_path / "test.csv", COPAL))
    assert (row.prompt, row.question.choices) == ("Ia basah karena", ("hujan turun.", "ia makan."))


def test_global_mmlu_lite_has_no_description(tmp_path: Path) -> None:
    row = only("global_mmlu_lite_id", write_jsonl(tmp_path / "test.jsonl", GLOBAL))
    assert (row.prompt, row.question.group) == ("Mana yang genap?\nA. 1\nB. 2\nC. 3\nD. 5\nAnswer:", "STEM")


def test_gsm8k_compares_numbers_without_separators(tmp_path: Path) -> None:
    row = only("gsm8k", write_jsonl(tmp_path / "test.jsonl", {"question": "2 x 600?", "answer": "So.\n#### 1,200"}))
    suite = SUITES["gsm8k"]
    assert isinstance(suite, GenerationSuite)
    assert row.prompt == "Question: 2 x 600?\nAnswer:"
    assert suite.score(row.question, " 2 x 600 = 1200\n#### 1200") == {"exact_match": 1, "flexible_extract": 1}
    assert suite.score(row.question, " It is $1,200.") == {"exact_match": 0, "flexible_extract": 1}
    assert suite.score(row.question, " No idea") == {"exact_match": 0, "flexible_extract": 0}


def test_mgsm_reads_the_tsv_of_its_authors(tmp_path: Path) -> None:
    row = only("mgsm_de", write(tmp_path / "mgsm_de.tsv", "Wie viele?\t18\n"))
    assert (row.prompt, row.question.target) == ("Frage: Wie viele?\nAntwort:", "18")
    assert SUITES["mgsm_de"].score(row.question, " Es sind 18.") == {"exact_match": 0, "flexible_extract": 1}


def test_random_examples_are_those_of_the_reference(tmp_path: Path) -> None:
    """lm-evaluation-harness draws them by ``random.Random(1234)``, row after row."""
    import random

    train = [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(20)]
    write_jsonl(tmp_path / "train.jsonl", *train)
    write_jsonl(tmp_path / "test.jsonl", *({"question": f"{i}?", "answer": "#### 0"} for i in range(3)))
    generator = random.Random(1234)
    for row in SUITES["gsm8k"].load(tmp_path, 2):
        shots = "".join(f"Question: {s['question']}\nAnswer: {s['answer']}\n\n" for s in generator.sample(train, 2))
        assert row.prompt == shots + row.question.text


def test_a_limit_takes_the_first_rows_of_each_group_in_turn(tmp_path: Path) -> None:
    records = [{**GLOBAL, "question": f"{group}{i}", "subject_category": group} for group in "ab" for i in range(3)]
    rows = SUITES["global_mmlu_lite_id"].load(write_jsonl(tmp_path / "test.jsonl", *records), limit=3)
    assert [row.prompt[:2] for row in rows] == ["a0", "a1", "b0"]


def test_scores_of_multiple_choice() -> None:
    suite = SUITES["piqa"]
    question = suite.parse({"goal": "g", "sol1": "ab", "sol2": "abcdefgh", "label": 1})
    assert suite.score(question, [-3.0, -4.0]) == {"acc": 0.0, "acc_norm": 1.0}
    mc2 = SUITES["truthfulqa_mc2"]
    question = mc2.parse({"question": "q", "mc2_targets": {"choices": ["x", "y", "z"], "labels": [1, 1, 0]}})
    assert mc2.score(question, [-1000.0, -1000.0, -1000.0])["mc2"] == pytest.approx(2 / 3)


def test_every_suite_names_source_licence_and_fields() -> None:
    for name, suite in SUITES.items():
        assert suite.name == name
        assert suite.source
        assert suite.licence
        assert suite.fields
        assert suite.files
        assert suite.shots == 0 or suite.shot_files


@pytest.mark.parametrize(
    ("suite", "content", "sentence"),
    [
        ("piqa", '{"goal": "g", "sol1": "s", "label": 0}\n', "row 1: the field 'sol2' is missing; a row of piqa has"),
        ("piqa", '{"goal": "g", "sol1": "s", "sol2": "t", "label": 7}\n', "row 1: has another shape"),
        ("piqa", "goal\n", "line 1 is not JSON"),
        ("piqa", "[1]\n", "line 1 is not a JSON object"),
        ("piqa", "", "has no rows"),
        ("arc_easy", '{"question": 3, "choices": [], "answerKey": "A"}\n', "row 1: has another shape"),
        ("arc_easy", '{"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "B"}\n', "row 1"),
    ],
)
def test_bad_data_are_one_sentence(tmp_path: Path, suite: str, content: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        SUITES[suite].load(write(tmp_path / "data.jsonl", content))


def test_missing_data_and_examples_are_named(tmp_path: Path) -> None:
    suite: Suite = SUITES["gsm8k"]
    with pytest.raises(UsageError, match=r"has no data of the suite gsm8k; it looks for test.jsonl"):
        suite.load(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        suite.load(tmp_path / "nowhere")
    write_jsonl(tmp_path / "test.jsonl", {"question": "q", "answer": "#### 1"})
    with pytest.raises(UsageError, match=r"no few-shot examples for gsm8k .* use --shots 0"):
        suite.load(tmp_path)
    write_jsonl(tmp_path / "train.jsonl", {"question": "q", "answer": "#### 1"})
    with pytest.raises(UsageError, match="1 few-shot examples and 5 are needed"):
        suite.load(tmp_path)
    with pytest.raises(UsageError, match="choose from mgsm_bn, mgsm_de"):
        suite_by_name("mgsm")


def test_a_git_lfs_pointer_is_no_data_file(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UsageError, match="has no data"):
        SUITES["openbookqa"].load(tmp_path)

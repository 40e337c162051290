"""The licence gate: a table of combinations, each cell with its clause, and the policy and answers of a company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from empu.errors import UsageError
from empu.trust.gate import ALLOWED, REFUSED, WITH_OBLIGATIONS, Decision, LicenceError, Material, decide
from empu.trust.licence_terms import LIMITS, Action, all_licences, terms_of
from empu.trust.policy import Answers, Policy, read_answers, read_policy, record_answer

SMALL = Answers({f"{licence}:over-user-limit": "no" for licence in all_licences()})
COMMERCIAL, RESEARCH = Policy(purpose="commercial"), Policy(purpose="non-commercial")


def ask(action: Action, base: str, rows: str, policy: Policy = COMMERCIAL, name: str = "Llama-3-desk") -> Decision:
    materials = [Material("base", "base", base), Material("rows", "rows.csv", rows)]
    return decide(action, materials, policy, SMALL, name)


PERMISSIVE = ["Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"]
OPEN_ROWS = ["CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "CC-BY-SA-4.0", "CC-BY-SA-3.0", "ODC-By-1.0", "ODbL-1.0"]
COMMUNITY = ["llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "gemma", "OpenRAIL", "qwen"]
RESEARCH_ONLY = {
    "CC-BY-NC-4.0": "section 2(a)(1) with the definition in section 1(i)",
    "CC-BY-NC-SA-4.0": "section 2(a)(1) with the definition in section 1(k)",
    "mrl": "section 3.2 with the definition of Research Purposes in section 9, and section 4.2 for outputs",
    "qwen-research": "section 2(a)",
    "tongyi-qianwen-research": "section 2(a) and 2(b) with the definition in section 1(i)",
}
EXPORT_CLAUSES = {
    "Apache-2.0": {"section 4(a)", "section 4(b)", "section 4(c) and 4(d)"},
    "MIT": {"second paragraph"},
    "BSD-2-Clause": {"conditions 1 and 2"},
    "BSD-3-Clause": {"conditions 1 and 2", "condition 3"},
    "CC0-1.0": set(),
    "CC-BY-4.0": {"section 3(a)(1)(A) and (C)", "section 3(a)(1)(B)"},
    "CC-BY-3.0": {"section 4(a) and 4(b)", "section 3(b)"},
    "CC-BY-SA-4.0": {"section 3(a)(1)(A) and (C)", "section 3(a)(1)(B)", "section 3(b)"},
    "CC-BY-SA-3.0": {"section 4(a) and 4(c)", "section 3(b)", "section 4(b)"},
    "ODC-By-1.0": {"section 4.3"},
    "ODbL-1.0": {"section 4.3", "sections 4.4 and 4.6"},
    "llama2": {"section 1.b.i", "section 1.b.iii", "section 1.b.iv"},
    "gemma": {
        "section 3.2",
        *(f"section 3.1, {number} condition" for number in ("first", "second", "third", "fourth")),
    },
    "OpenRAIL": {"paragraph 5 and Attachment A", *(f"paragraph 4({letter})" for letter in "abcd")},
    "qwen": {"section 5(b)", "section 3(a)", "section 3(b)", "section 3(c)"},
} | {
    licence: {
        *("section 1.b.i(A)", "section 1.b.i(B)", "section 1.b.i, last sentence", "section 1.b.iii", "section 1.b.iv")
    }
    for licence in ("llama3", "llama3.1", "llama3.2", "llama3.3", "llama4")
}


@pytest.mark.parametrize("rows", OPEN_ROWS)
@pytest.mark.parametrize("base", [*PERMISSIVE, *COMMUNITY])
def test_export_of_open_base_and_open_rows_names_every_clause(base: str, rows: str) -> None:
    decision = ask("export", base, rows)
    clauses = {(f.licence, f.clause) for f in decision.obligations}
    expected = {(licence, clause) for licence in (base, rows) for clause in EXPORT_CLAUSES[licence]}
    assert clauses == expected
    assert decision.outcome == WITH_OBLIGATIONS
    assert not decision.refusals
    assert not decision.questions


@pytest.mark.parametrize("action", ["pull", "tune", "export", "serve"])
@pytest.mark.parametrize("licence", RESEARCH_ONLY)
def test_research_licences_refuse_commercial_use_by_their_clause(licence: str, action: Action) -> None:
    decision = decide(action, [Material("base", "base", licence)], COMMERCIAL, SMALL, "base")
    assert decision.outcome == REFUSED
    assert [finding.clause for finding in decision.refusals] == [RESEARCH_ONLY[licence]]
    with pytest.raises(LicenceError) as caught:
        decision.raise_if_refused()
    terms = terms_of(licence)
    assert terms is not None
    for part in (RESEARCH_ONLY[licence], terms.source, "Choose material with another licence", "not legal advice"):
        assert part in str(caught.value)


@pytest.mark.parametrize("action", ["pull", "tune", "export", "serve"])
@pytest.mark.parametrize("licence", RESEARCH_ONLY)
def test_research_licences_allow_research(licence: str, action: Action) -> None:
    decision = decide(action, [Material("base", "base", licence)], RESEARCH, SMALL, "base")
    assert decision.outcome != REFUSED


@pytest.mark.parametrize("base", PERMISSIVE)
@pytest.mark.parametrize(
    ("rows", "clause"),
    [
        *((licence, "section 1.b.v") for licence in ("llama2", "llama3")),
        *(("tongyi-qianwen", "section 5(b)"), ("tongyi-qianwen-research", "section 4(b)")),
    ],
)
def test_outputs_that_may_improve_no_other_model_are_refused_as_rows(base: str, rows: str, clause: str) -> None:
    decision = ask("tune", base, rows)
    assert [(finding.licence, finding.clause) for finding in decision.refusals] == [(rows, clause)]


@pytest.mark.parametrize("licence", ["llama2", "llama3", "tongyi-qianwen"])
def test_outputs_may_improve_models_of_their_own_family(licence: str) -> None:
    assert ask("tune", licence, licence).outcome != REFUSED


def test_llama2_outputs_may_not_improve_llama3() -> None:
    assert ask("tune", "llama3", "llama2").outcome == REFUSED


@pytest.mark.parametrize("rows", ["llama3.1", "llama3.2", "llama3.3", "llama4"])
@pytest.mark.parametrize("base", PERMISSIVE)
def test_outputs_of_newer_llamas_may_improve_other_models_under_a_name(base: str, rows: str) -> None:
    assert ask("tune", base, rows).outcome != REFUSED
    refused = ask("export", base, rows, name="desk")
    assert [finding.clause for finding in refused.refusals] == ["section 1.b.i, last sentence"]
    assert "such as Llama-desk" in refused.refusals[0].sentence()
    assert ask("export", base, rows, name="Llama-desk").outcome == WITH_OBLIGATIONS


@pytest.mark.parametrize(
    ("licence", "name", "is_allowed"),
    [
        *(("llama2", "desk", True), ("llama3", "Llama-desk", False), ("llama3", "Llama-3-desk", True)),
        *(("llama3.1", "desk", False), ("llama3.1", "llama-desk", False), ("llama3.1", "Llama-desk", True)),
        *(("llama4", "My-Llama", False), ("llama3.2", "Llama", True), ("llama3.3", "Llama_desk", True)),
    ],
)
def test_name_of_an_exported_llama_begins_as_its_licence_says(licence: str, name: str, is_allowed: bool) -> None:
    assert (ask("export", licence, "CC0-1.0", name=name).outcome != REFUSED) == is_allowed


@pytest.mark.parametrize(
    ("licence", "sentence"),
    [
        *(("llama2", None), ("llama3", "Built with Meta Llama 3"), ("llama3.1", "Built with Llama")),
        *(("llama3.2", "Built with Llama"), ("llama3.3", "Built with Llama"), ("llama4", "Built with Llama")),
        *(("qwen", "Built with Qwen"), ("gemma", None), ("MIT", None)),
    ],
)
def test_sentence_to_display(licence: str, sentence: str | None) -> None:
    assert ask("export", licence, "CC0-1.0").values("display") == ([sentence] if sentence else [])


@pytest.mark.parametrize("licence", ["llama2", "llama3.1", "llama4", "qwen", "tongyi-qianwen"])
def test_user_limit_is_asked_and_its_answer_decides(licence: str) -> None:
    materials = [Material("base", "base", licence)]
    actions: tuple[Action, ...] = ("tune", "export", "serve")
    for action in actions:
        open_question = decide(action, materials, COMMERCIAL, Answers(), "Llama-x")
        assert open_question.outcome == REFUSED
        assert [finding.question for finding in open_question.questions] == [f"{licence}:over-user-limit"]
    assert decide("pull", materials, COMMERCIAL, Answers()).outcome != REFUSED
    large = decide("pull", materials, COMMERCIAL, Answers({f"{licence}:over-user-limit": "yes"}))
    assert large.outcome == REFUSED
    assert large.refusals[0].kind == "monthly_users"
    assert decide("tune", materials, COMMERCIAL, SMALL).outcome != REFUSED


def test_rows_of_unknown_licence_are_named_and_not_guessed() -> None:
    decision = ask("tune", "MIT", "unknown")
    assert decision.outcome == ALLOWED
    assert [finding.sentence() for finding in decision.unknown] == [
        "rows.csv: the licence of these rows is not known. State it with --licence if you know it."
    ]


def test_licence_outside_the_table_is_named() -> None:
    (finding,) = ask("tune", "GPL-3.0-only", "CC0-1.0").unknown
    assert "GPL-3.0-only, whose terms are not in Empu's table" in finding.sentence()


def test_policy_denies_and_allows() -> None:
    denied = ask("tune", "MIT", "unknown", Policy(deny=("unknown",), path=Path("p.toml")))
    assert [finding.sentence() for finding in denied.refusals] == [
        "rows.csv: its licence, unknown, is denied by your policy. (unknown, your policy: p.toml) "
        "Choose other material, or change the policy."
    ]
    assert ask("tune", "MIT", "CC0-1.0", Policy(allow=("MIT",))).outcome == REFUSED
    assert ask("tune", "mit license", "CC0-1.0", Policy(allow=("MIT", "CC0-1.0"))).outcome == ALLOWED


def test_share_alike_is_noted_or_refused_as_the_policy_says() -> None:
    assert [f.clause for f in ask("tune", "MIT", "CC-BY-SA-4.0").obligations] == ["section 3(b)"]
    strict = replace(COMMERCIAL, share_alike="refuse")
    assert [f.clause for f in ask("tune", "MIT", "CC-BY-SA-4.0", strict).refusals] == ["section 3(b)"]


def test_every_term_names_clause_and_source() -> None:
    for licence in all_licences().values():
        assert licence.source.startswith("https://")
        assert licence.grant_clause
        for term in licence.terms:
            assert term.clause
            assert term.text.endswith(".")
            if term.kind in ("display", "name_prefix", "notice", "use_policy", "monthly_users"):
                assert term.value, f"{licence.id}: {term.kind} needs a value"
            if term.kind in LIMITS and term.kind != "outputs_no_other_models":
                assert set(term.when) == {"pull", "tune", "export", "serve"}


def test_answers_are_recorded_once_with_time(tmp_path: Path) -> None:
    record_answer(tmp_path, "purpose", "commercial")
    record_answer(tmp_path, "llama3.1:over-user-limit", "no")
    assert read_answers(tmp_path).values == {"purpose": "commercial", "llama3.1:over-user-limit": "no"}
    for question, answer in (("purpose", "fun"), ("MIT:over-user-limit", "no"), ("colour", "red")):
        with pytest.raises(UsageError):
            record_answer(tmp_path, question, answer)


def test_policy_file_is_read(tmp_path: Path) -> None:
    assert read_policy(tmp_path) == Policy()
    (tmp_path / "policy.toml").write_text('purpose = "commercial"\ndeny = ["cc by-nc 4.0", "unknown"]\n')
    policy = read_policy(tmp_path)
    assert (policy.purpose, policy.deny) == ("commercial", ("CC-BY-NC-4.0", "unknown"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"purpose = ", "not valid TOML"),
        (b'purpose = "fun"', "commercial or non-commercial"),
        (b'alow = ["MIT"]', "unknown key 'alow'"),
        (b'allow = "MIT"', "list of licence ids"),
        (b"\xff", "not valid TOML"),
        (b"share_alike = 3", "note or refuse"),
    ],
)
def test_bad_policy_gets_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_policy(tmp_path, path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_policy(tmp_path, tmp_path / "absent.toml")

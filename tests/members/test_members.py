"""Members give in numpy what scikit-learn gave, and their files are read back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from empu.errors import CheckpointError, ConfigError, MissingDependencyError
from empu.members.ensemble import CascadeStage, Ensemble
from empu.members.files import ENSEMBLE_FILE, TENSORS_FILE, VOCABULARY_FILE, read_ensemble, read_summary, write_ensemble
from empu.members.fitting import EMBEDDING_C, SVM_C, SVM_SCALE, fit_embeddings, fit_tfidf, rows_to_fit, stratified_folds
from empu.members.member import log_softmax
from tests.members.samples import LABELS, ODD_TEXTS, TARGETS, TEXTS, HashEncoder

ENCODER = HashEncoder()


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    members = (
        fit_tfidf(TEXTS, TARGETS, len(LABELS)),
        fit_embeddings(ENCODER.encode_queries(TEXTS), TARGETS, len(LABELS), ENCODER),
    )
    return Ensemble(
        LABELS,
        {member.name: member for member in members},
        {"lm": 0.5, "tfidf": 0.75, "embeddings": 1.25},
        (CascadeStage({"tfidf": 1.5}, 0.9),),
        {"lm": {"tfidf": 1.0}},
        (0.8, 0.1),
        {"training_rows": len(TEXTS)},
    )


def test_tfidf_features_equal_those_of_scikit_learn(ensemble: Ensemble) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(TEXTS)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True).fit(TEXTS)
    member = ensemble.members["tfidf"]
    texts = [*TEXTS, *ODD_TEXTS]
    expected = np.hstack([words.transform(texts).toarray(), characters.transform(texts).toarray()])
    actual = np.zeros_like(expected)
    for row, text in zip(actual, texts, strict=True):
        indices, values = member.features(text)  # type: ignore[attr-defined]
        row[indices] = values
    assert np.abs(actual - expected).max() < 1e-6
    svm = LinearSVC(C=SVM_C, random_state=0).fit(expected[: len(TEXTS)], TARGETS)
    scores = log_softmax(SVM_SCALE * svm.decision_function(expected))
    assert (
        np.abs(member.log_probabilities(texts) - scores).max() < 1e-2
    )  # dense and sparse fits differ in the last digits


def test_embedding_member_equals_logistic_regression_on_standardised_vectors(ensemble: Ensemble) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    vectors = ENCODER.encode_queries(TEXTS).astype(np.float64)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=EMBEDDING_C, max_iter=1000)).fit(vectors, TARGETS)
    expected = reference.predict_log_proba(ENCODER.encode_queries(ODD_TEXTS).astype(np.float64))
    assert np.abs(ensemble.members["embeddings"].log_probabilities(ODD_TEXTS) - expected).max() < 1e-4


def test_a_text_has_the_same_bits_alone_and_in_a_batch(ensemble: Ensemble) -> None:
    for member in ensemble.members.values():
        batch = member.log_probabilities([*TEXTS, *ODD_TEXTS])
        alone = np.concatenate([member.log_probabilities([text]) for text in (*TEXTS, *ODD_TEXTS)])
        assert np.array_equal(batch, alone)


def test_files_are_read_back_bit_for_bit(ensemble: Ensemble, tmp_path: Path) -> None:
    write_ensemble(tmp_path, ensemble)
    first = {name: (tmp_path / name).read_bytes() for name in (ENSEMBLE_FILE, TENSORS_FILE, VOCABULARY_FILE)}
    read = read_ensemble(tmp_path, lambda: [HashEncoder("other@2"), ENCODER])
    assert read is not None
    assert (read.labels, read.weights, read.cascade) == (ensemble.labels, ensemble.weights, ensemble.cascade)
    assert (read.without, read.calibration) == (ensemble.without, ensemble.calibration)
    for name, member in ensemble.members.items():
        assert np.array_equal(read.members[name].log_probabilities(ODD_TEXTS), member.log_probabilities(ODD_TEXTS))
    write_ensemble(tmp_path, read)
    assert first == {name: (tmp_path / name).read_bytes() for name in first}
    summary = read_summary(tmp_path)
    assert summary is not None
    assert (summary.members, summary.encoder) == (("tfidf", "embeddings"), "hash@1")


def test_a_folder_without_members_has_no_ensemble(tmp_path: Path) -> None:
    assert read_ensemble(tmp_path, list) is None
    assert read_summary(tmp_path) is None


@pytest.mark.parametrize("encoders", [[], [HashEncoder("hash@2")]])
def test_another_encoder_than_at_tuning_is_refused(
    ensemble: Ensemble, tmp_path: Path, encoders: list[HashEncoder]
) -> None:
    write_ensemble(tmp_path, ensemble)
    with pytest.raises(MissingDependencyError, match="text encoder hash@1, which is not installed"):
        read_ensemble(tmp_path, lambda: encoders)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("labels", ["a", "b"]),
        ("labels", None),
        ("weights", {}),
        ("weights", {"tfidf": -1}),
        ("weights", {"tfidf": float("nan")}),
        ("weights", {"oracle": 1}),
        ("members", {"tfidf": {"words": 1, "characters": 1}}),
        ("members", {"oracle": {}}),
        ("cascade", [{"weights": {"tfidf": 1}}]),
        ("language_model_calibration", [1]),
    ],
)
def test_damaged_settings_are_one_sentence(ensemble: Ensemble, tmp_path: Path, key: str, value: object) -> None:
    write_ensemble(tmp_path, ensemble)
    path = tmp_path / ENSEMBLE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises((ConfigError, CheckpointError), match=r"tune (the specialist )?again|missing") as raised:
        read_ensemble(tmp_path, lambda: [ENCODER])
    assert "\n" not in str(raised.value)


def test_a_cut_vocabulary_is_refused(ensemble: Ensemble, tmp_path: Path) -> None:
    write_ensemble(tmp_path, ensemble)
    path = tmp_path / VOCABULARY_FILE
    path.write_text(path.read_text().removesuffix("\n").rpartition("\n")[0] + "\n")
    with pytest.raises(ConfigError, match="the vocabulary has"):
        read_ensemble(tmp_path, lambda: [ENCODER])


def test_two_labels_and_texts_of_one_character_can_be_learned() -> None:
    texts, targets = ["a", "b"] * 5, np.array([0, 1] * 5)
    encoder = HashEncoder()
    members = (
        fit_tfidf(texts, targets, 2),
        fit_embeddings(encoder.encode_queries(texts), targets, 2, encoder),
    )
    for member in members:
        log_p = member.log_probabilities(["a", "b", "c"])
        assert log_p.argmax(axis=1)[:2].tolist() == [0, 1]
        assert np.allclose(np.exp(log_p).sum(axis=1), 1)


def test_a_label_without_rows_is_possible_and_unlikely() -> None:
    member = fit_tfidf(TEXTS, TARGETS, len(LABELS) + 1)
    assert np.exp(member.log_probabilities(TEXTS))[:, -1].max() < 1e-4


def test_folds_spread_the_rows_of_each_label_evenly() -> None:
    folds = stratified_folds(TARGETS)
    for label in range(len(LABELS)):
        assert np.bincount(folds[label == TARGETS]).tolist() == [4] * 5


def test_very_many_rows_are_sampled() -> None:
    assert rows_to_fit(1000, 77) == range(1000)
    assert len(rows_to_fit(100_000, 12)) <= 30_000
    assert len(rows_to_fit(100_000, 500)) <= 16_000

"""Exports carry card, notices and licences from the ledger; signed ones verify, and any change is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from empu.trust.checks import LicenceGate
from empu.trust.dsse import SignatureError, sign
from empu.trust.facts import read_facts
from empu.trust.release import document_path, write_documents
from empu.trust.signed_export import sign_export, verify_export
from empu.trust.signing_key import PUBLIC_KEY, read_public_key, signing_key
from tests.specialist.workspace import Workspace
from tests.trust.conftest import store_and_model, tune, workspace_with_base

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def exported(apache: Workspace) -> Path:
    apache.empu("export", "desk", "desk-hf", "--to", "hf", "--type", "F32", "--sign")
    return apache.folder / "desk-hf"


def test_card_has_the_metadata_of_hubs_and_the_figures_of_the_ledger(exported: Path, apache: Workspace) -> None:
    text = (exported / "README.md").read_text()
    metadata: Any = ModelCard(text).data
    assert (metadata.license, metadata.tags, metadata.model_name) == ("apache-2.0", ["empu"], "desk-hf")
    metrics = {result.metric_type: result.metric_value for result in metadata.eval_results or ()}
    recorded = apache.json("show", "desk")["card"]["scores"][-1]["metrics"]
    assert metrics == {name: metric["value"] for name, metric in recorded.items()}
    assert "rows.csv" in text
    assert str(apache.folder) not in text, "no path of this machine"


def test_notice_credits_rows_and_licence(exported: Path) -> None:
    notice = (exported / "NOTICE").read_text()
    assert "Modified: these weights were changed by fine-tuning Small base" in notice
    assert "rows of rows.csv, licence Creative Commons Attribution 4.0 (https://creativecommons.org" in notice
    assert "SPDX-License-Identifier: Apache-2.0" in (exported / "LICENSE").read_text()


def test_signed_export_verifies_with_the_public_key(exported: Path, apache: Workspace) -> None:
    key = apache.folder / "home" / "trust" / PUBLIC_KEY
    document = apache.json("verify", str(exported), "--key", str(key))
    assert document["compared_with"] == "this store's ledger"
    assert document["files"] == sum(1 for path in exported.rglob("*") if path.is_file()) - 1
    elsewhere = verify_export(exported, read_public_key(key))
    assert elsewhere.ledger == "the signed facts"


def test_one_changed_byte_in_any_file_is_refused(exported: Path, apache: Workspace, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    key = read_public_key(apache.folder / "home" / "trust" / PUBLIC_KEY)
    verify_export(copy, key)
    for path in sorted(copy.rglob("*")):
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        with pytest.raises(SignatureError):
            verify_export(copy, key)
        path.write_bytes(content)
    verify_export(copy, key)


def test_added_missing_and_linked_files_are_refused(exported: Path, apache: Workspace, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    key = read_public_key(apache.folder / "home" / "trust" / PUBLIC_KEY)
    (copy / "modeling.py").write_text("import os")
    with pytest.raises(SignatureError, match="was not signed"):
        verify_export(copy, key)
    (copy / "modeling.py").unlink()
    (copy / "NOTICE").rename(tmp_path / "NOTICE")
    with pytest.raises(SignatureError, match="is missing"):
        verify_export(copy, key)
    (copy / "NOTICE").symlink_to(tmp_path / "NOTICE")
    with pytest.raises(SignatureError, match="not a regular file"):
        verify_export(copy, key)


def test_card_whose_figures_are_not_the_ledgers_is_refused_even_if_signed(
    exported: Path, apache: Workspace, tmp_path: Path
) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    store, model = store_and_model(apache, "desk")
    key = signing_key(store.home)
    facts = read_facts(store, model)
    decision = LicenceGate(store).decide_model("export", model, "desk-hf")
    card = copy / "README.md"
    original = card.read_text()
    line = next(line for line in original.splitlines() if line.startswith("| desk |"))
    (copy / "empu.dsse.json").unlink()
    for text in (original.replace(line, line.replace(line.split(" | ")[2], "0.9999")), original.replace(line, "")):
        card.write_text(text)
        sign_export(copy, store.home, facts, decision)
        with pytest.raises(SignatureError, match=r"figures of README.md"):
            verify_export(copy, key.public_key())
    flattering = json.loads(json.dumps(facts))
    flattering["evaluations"][-1]["metrics"]["accuracy"]["value"] = 0.9999
    write_documents(copy, store, model, flattering, decision)
    sign_export(copy, store.home, flattering, decision)
    verify_export(copy, key.public_key())
    with pytest.raises(SignatureError, match="not those of this store's ledger"):
        verify_export(copy, key.public_key(), store)


def test_envelope_about_something_else_is_refused(exported: Path, apache: Workspace, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    key = signing_key(apache.folder / "home")
    for statement in ({"predicateType": "urn:other"}, {"predicateType": "urn:empu:export:v1", "subject": 3}):
        data = sign({"_type": "https://in-toto.io/Statement/v1", **statement}, key)
        (copy / "empu.dsse.json").write_bytes(data)
        with pytest.raises(SignatureError, match=r"something else|incomplete"):
            verify_export(copy, key.public_key())


def test_documents_of_a_single_file_stand_beside_it(apache: Workspace, tmp_path: Path) -> None:
    store, model = store_and_model(apache, "desk")
    file = tmp_path / "desk.gguf"
    file.write_bytes(b"weights")
    facts = read_facts(store, model)
    decision = LicenceGate(store).decide_model("export", model, "desk")
    write_documents(file, store, model, facts, decision)
    sign_export(file, store.home, facts, decision)
    assert document_path(file, "NOTICE") == tmp_path / "desk.gguf.NOTICE"
    key = signing_key(store.home).public_key()
    assert verify_export(file, key).files == 4
    (tmp_path / "unrelated.txt").write_text("not part of the export")
    verify_export(file, key)
    file.write_bytes(b"Weights")
    with pytest.raises(SignatureError, match=r"desk.gguf in .* changed"):
        verify_export(file, key)


def test_bad_input_gets_one_sentence(exported: Path, apache: Workspace, tmp_path: Path) -> None:
    key = str(apache.folder / "home" / "trust" / PUBLIC_KEY)
    for arguments, code, words in (
        (("verify", "absent-folder/x", "--key", key), 2, "does not exist"),
        (("verify", str(tmp_path), "--key", key), 2, "is not signed"),
        (("verify", str(exported), "--key", "absent"), 2, "cannot be read"),
        (("verify", str(exported), "--key", str(exported / "README.md")), 2, "holds no public key"),
        (("verify", str(exported), "--key", key, "--retrain"), 2, "omit one"),
        (("bom", "tiny"), 2, "was not tuned in this store"),
        (("licences", "show", "nonsense"), 2, "not in Empu's table"),
        (("licences", "answer", "purpose", "fun"), 2, "commercial or non-commercial"),
        (("tune", "rows.csv", "--name", "x", "--base", "tiny", "--policy", "absent"), 2, "cannot be read"),
    ):
        _, err = apache.empu(*arguments, exit_code=code)
        assert words in err
        assert "Traceback" not in err


def test_llama_licence_is_asked_named_and_passed_on(tmp_path: Path) -> None:
    workspace = workspace_with_base(tmp_path, "llama3.1")
    refused = tune(workspace, "desk", "--licence", "CC0-1.0", "--no-compare", exit_code=1)
    for words in ("section 2", "700 million", "empu licences answer llama3.1:over-user-limit no"):
        assert words in refused
    workspace.empu("licences", "answer", "llama3.1:over-user-limit", "no")
    tune(workspace, "desk", "--licence", "CC0-1.0", "--no-compare")
    _, err = workspace.empu("export", "desk", "desk", "--to", "hf", exit_code=1)
    assert "section 1.b.i, last sentence" in err
    assert not (tmp_path / "desk").exists()
    workspace.empu("export", "desk", "Llama-desk", "--to", "hf", "--replay", "0")
    notice, card = ((tmp_path / "Llama-desk" / name).read_text() for name in ("NOTICE", "README.md"))
    assert "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc." in notice
    assert "https://www.llama.com/llama3_1/use-policy" in notice
    assert "\n**Built with Llama**\n" in card
    assert "license: llama3.1\n" in card
    (tmp_path / "policy.toml").write_text('deny = ["llama3.1"]\n')
    _, err = workspace.empu("export", "desk", "Llama-2", "--to", "hf", "--policy", "policy.toml", exit_code=1)
    assert "denied by your policy" in err
    _, err = workspace.empu("serve", "desk", "--port", "0", "--policy", "policy.toml", exit_code=1)
    assert "denied by your policy" in err

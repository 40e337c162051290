"""Pulls from a hub are complete, resume after broken connections, refuse wrong bytes, and explain failures."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from empu.errors import DownloadError, StoreError, UnsupportedError, UsageError
from empu.store.pull import hub_download
from empu.store.pull.hub import Address
from empu.store.pull.pull import PullSpec, pull
from empu.store.store import Store
from tests.store.helpers import paths_below
from tests.store.pull.fake_hub import COMMIT, FakeHub, serve_hub
from tests.store.tiny_models import tiny_folder, tiny_gguf

CARD = b"---\nlicense: apache-2.0\ndatasets:\n- org/books\n- org/code\nbase_model: org/base\n---\n# Tiny\n"
APACHE = (Path(__file__).resolve().parents[3] / "LICENSE").read_bytes()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub_download, "PAUSE_S", 0.001)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), shards=2)


@pytest.fixture
def remote(model_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    files = {
        **model_files,
        "LICENSE": APACHE,
        "README.md": CARD,
        "pytorch_model.bin": b"a pickle",
        "modeling.py": b"import os",
    }
    card: dict[str, object] = {"license": "apache-2.0", "datasets": ["org/books", "org/code"], "base_model": "org/base"}
    with serve_hub(FakeHub(files=files, card=card)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("hf:org/name", Address("org/name")),
        ("hf:org/name@v1.0", Address("org/name", None, "v1.0")),
        ("hf:org/name@refs/pr/3", Address("org/name", None, "refs/pr/3")),
        ("hf:Org-1/na.me_2/sub/f.gguf", Address("Org-1/na.me_2", "sub/f.gguf")),
        ("hf:org/name/f.gguf@main", Address("org/name", "f.gguf", "main")),
    ],
)
def test_addresses_are_parsed(typed: str, address: Address) -> None:
    assert Address.parse(typed) == address


@pytest.mark.parametrize(
    "typed",
    [
        "hf:",
        "hf:name",
        "hf:/name",
        "hf:org/",
        "hf:org/name@",
        "hf:org/name/model.bin",
        "hf:org/name/../x.gguf",
        "hf:../x",
    ],
)
def test_invalid_addresses_are_refused_with_the_valid_forms(typed: str) -> None:
    with pytest.raises(UsageError, match="write hf:ORG/NAME"):
        Address.parse(typed)


def test_pull_downloads_the_model_and_nothing_else(
    store: Store, remote: FakeHub, model_files: dict[str, bytes]
) -> None:
    added = pull(store, PullSpec("hf:org/tiny"))
    record = added.model.record
    assert added.is_new_model
    assert added.model.name == "tiny"
    expected = {**model_files, "LICENSE": APACHE, "README.md": CARD}
    assert {f.name: f.size for f in record.files} == {name: len(data) for name, data in expected.items()}
    for name, data in expected.items():
        assert (added.model.path / name).read_bytes() == data, name
    requested = {request.path for request in remote.requests}
    assert not any(path.endswith((".bin", ".py")) for path in requested)
    assert record.source.revision == COMMIT
    assert record.source.address == f"{remote.endpoint}/org/tiny"
    assert (record.licence.id, record.licence.text_file) == ("Apache-2.0", "LICENSE")
    assert (added.model.folder / "LICENSE").read_bytes() == APACHE
    assert record.base_models == ("org/base",)
    assert record.disclosure.in_files == "data sets named by the model card: org/books, org/code"
    assert record.disclosure.statements == ()
    store.verify(added.model)


def test_token_is_sent_to_the_hub_only(store: Store, remote: FakeHub) -> None:
    pull(store, PullSpec("hf:org/tiny"))
    for request in remote.requests:
        assert request.path.startswith(("/api/models/org/tiny", "/org/tiny/resolve/", "/content/")), request
        is_content_network = request.host.startswith("localhost")
        assert request.authorization == (None if is_content_network else "Bearer hf_secret"), request
        assert "torch" not in request.agent
    assert any(request.path.startswith("/content/") for request in remote.requests)


def test_pull_writes_nothing_outside_the_store(store: Store, remote: FakeHub, tmp_path: Path) -> None:
    pull(store, PullSpec("hf:org/tiny"))
    assert not (tmp_path / "user").exists() or paths_below(tmp_path / "user") == []


def test_pulling_the_same_commit_again_downloads_nothing(store: Store, remote: FakeHub) -> None:
    pull(store, PullSpec("hf:org/tiny"))
    remote.sent.clear()
    again = pull(store, PullSpec("hf:org/tiny@main"))
    assert (again.is_new_model, again.is_new_name) == (False, False)
    assert remote.sent == {}


def test_single_gguf_file_of_a_repository(store: Store, remote: FakeHub, tmp_path: Path) -> None:
    remote.files["sub/Tiny-F32.gguf"] = data = tiny_gguf(tmp_path / "f.gguf")
    added = pull(store, PullSpec("hf:org/tiny/sub/Tiny-F32.gguf"))
    assert added.model.name == "tiny-f32"
    assert added.model.path.name == "Tiny-F32.gguf"
    assert added.model.path.read_bytes() == data
    assert [f.name for f in added.model.record.files] == ["Tiny-F32.gguf"]
    assert [s.says for s in added.model.record.disclosure.statements] == ["data sets: org/books, org/code"]
    assert added.model.record.licence.text_file == "LICENSE"
    assert set(remote.sent) == {"sub/Tiny-F32.gguf", "LICENSE"}
    store.verify(added.model)


def test_broken_connections_resume_without_downloading_a_byte_twice(
    store: Store, remote: FakeHub, model_files: dict[str, bytes]
) -> None:
    remote.cut_after, remote.cuts_left = 30_000, 5
    added = pull(store, PullSpec("hf:org/tiny"))
    for name, data in model_files.items():
        assert (added.model.path / name).read_bytes() == data, name
        assert remote.sent[name] == len(data), name
    assert remote.cuts_left == 0


def test_failed_pull_is_resumed_by_the_same_command(
    store: Store, remote: FakeHub, model_files: dict[str, bytes]
) -> None:
    remote.cut_after, remote.cuts_left, remote.dead_after_cuts = 30_000, 1, True
    with pytest.raises(
        DownloadError, match="the downloaded part is kept, so check the network and run the same command again"
    ):
        pull(store, PullSpec("hf:org/tiny"))
    assert store.list_models() == []
    assert sum(remote.sent.get(name, 0) for name in model_files if name.endswith(".safetensors")) == 30_000
    remote.cut_after = None
    added = pull(store, PullSpec("hf:org/tiny"))
    for name, data in model_files.items():
        assert (added.model.path / name).read_bytes() == data
        assert remote.sent[name] == len(data), name
    assert paths_below(store.tmp_folder) == []


def test_sign_in_page_does_not_lose_the_downloaded_part(
    store: Store, remote: FakeHub, model_files: dict[str, bytes]
) -> None:
    remote.cut_after, remote.cuts_left, remote.dead_after_cuts = 30_000, 1, True
    with pytest.raises(DownloadError):
        pull(store, PullSpec("hf:org/tiny"))
    remote.cut_after, remote.page = None, b"<html>Please log in to the airport's network</html>"
    with pytest.raises(DownloadError, match="a sign-in page; the downloaded part is kept"):
        pull(store, PullSpec("hf:org/tiny"))
    remote.page = None
    added = pull(store, PullSpec("hf:org/tiny"))
    for name, data in model_files.items():
        assert (added.model.path / name).read_bytes() == data
        assert remote.sent[name] == len(data), "a byte was downloaded twice"


def test_server_without_ranges_sends_the_file_again(
    store: Store, remote: FakeHub, model_files: dict[str, bytes]
) -> None:
    remote.cut_after, remote.cuts_left, remote.ignore_ranges = 30_000, 2, True
    added = pull(store, PullSpec("hf:org/tiny"))
    for name, data in model_files.items():
        assert (added.model.path / name).read_bytes() == data


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "config.json"])
def test_wrong_byte_is_refused(store: Store, remote: FakeHub, name: str) -> None:
    remote.corrupt = {name}
    with pytest.raises(DownloadError, match=f"{name} of org/tiny does not have the size and hash that the hub states"):
        pull(store, PullSpec("hf:org/tiny"))
    assert store.list_models() == []
    remote.corrupt = set()
    store.verify(pull(store, PullSpec("hf:org/tiny")).model)


REFUSALS = {
    "gated": ((401, "GatedRepo", "Access to model org/tiny is restricted."), "is gated: accept its terms"),
    "gated for this user": ((403, "GatedRepo", "You are not in the authorized list."), "is gated: accept its terms"),
    "missing": ((404, "RepoNotFound", "Repository not found"), "is not on .*, or is private; check the spelling"),
    "private": ((401, "RepoNotFound", "Repository not found"), "is not on .*, or is private; check the spelling"),
    "bad token": ((401, "", "Invalid credentials in Authorization header"), "answered 401 for .*check your token"),
    "forbidden": ((403, "", "no"), "answered 403 for .*check your token"),
    "hub is down": ((500, "", "oops"), "answered 500 for hf:org/tiny; try again later"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_has_helpful_advice(store: Store, remote: FakeHub, case: str) -> None:
    remote.refuse, message = REFUSALS[case]
    with pytest.raises(DownloadError, match=message) as caught:
        pull(store, PullSpec("hf:org/tiny"))
    assert "\n" not in str(caught.value)
    assert paths_below(store.home) == []


def test_gated_files_of_a_visible_repository(store: Store, remote: FakeHub) -> None:
    remote.refuse_files = (403, "GatedRepo", "Access to model org/tiny is restricted.")
    with pytest.raises(DownloadError, match=r"is gated: accept its terms on its page .*`hf auth login`"):
        pull(store, PullSpec("hf:org/tiny"))
    assert store.list_models() == []


def test_other_failures_have_helpful_messages(store: Store, remote: FakeHub, model_files: dict[str, bytes]) -> None:
    with pytest.raises(DownloadError, match="has no revision 'v9'"):
        pull(store, PullSpec("hf:org/tiny@v9"))
    with pytest.raises(DownloadError, match=r"has no file absent\.gguf"):
        pull(store, PullSpec("hf:org/tiny/absent.gguf"))
    remote.missing = {"config.json"}
    with pytest.raises(DownloadError, match="A file of hf:org/tiny is missing"):
        pull(store, PullSpec("hf:org/tiny"))
    remote.missing = set()
    remote.is_captive_portal = True
    with pytest.raises(DownloadError, match="did not answer as a model hub does"):
        pull(store, PullSpec("hf:org/tiny"))


def test_repository_with_only_gguf_files_lists_them(store: Store, remote: FakeHub) -> None:
    remote.files = {"a-Q4_0.gguf": b"x", "a-Q8_0.gguf": b"y", "README.md": b""}
    with pytest.raises(DownloadError, match=r"it has a-Q4_0\.gguf, a-Q8_0\.gguf: pull one with hf:org/tiny/FILE\.gguf"):
        pull(store, PullSpec("hf:org/tiny"))


def test_unsupported_architecture_downloads_only_the_config(store: Store, remote: FakeHub) -> None:
    remote.files["config.json"] = remote.files["config.json"].replace(b"llama", b"gpt2").replace(b"Llama", b"GPT2")
    with pytest.raises(UnsupportedError, match="gpt2"):
        pull(store, PullSpec("hf:org/tiny"))
    assert set(remote.sent) == {"config.json"}


def test_repository_with_only_pickles_is_refused_before_any_download(store: Store, remote: FakeHub) -> None:
    remote.files = {"config.json": b"{}", "pytorch_model.bin": b"a pickle"}
    with pytest.raises(DownloadError, match=r"has no config\.json with safetensors"):
        pull(store, PullSpec("hf:org/tiny"))
    assert remote.sent == {}


@pytest.mark.parametrize("name", ["../../evil.safetensors", "/etc/evil.safetensors", "a.bin", "sub\\..\\x.safetensors"])
def test_index_cannot_name_files_outside_the_folder(store: Store, remote: FakeHub, name: str, tmp_path: Path) -> None:
    remote.files["model.safetensors.index.json"] = json.dumps({"weight_map": {"x": name}}).encode()
    remote.files[name] = b"evil"
    with pytest.raises(DownloadError, match="names files that are not safetensors"):
        pull(store, PullSpec("hf:org/tiny"))
    assert not list(tmp_path.rglob("evil*"))


def test_damaged_index_raises_download_error(store: Store, remote: FakeHub) -> None:
    for content in (b"{", b"[]", b'{"weight_map": 3}'):
        remote.files["model.safetensors.index.json"] = content
        with pytest.raises(DownloadError, match=r"index\.json of org/tiny is damaged"):
            pull(store, PullSpec("hf:org/tiny"))


def test_unreachable_hub_raises_download_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(DownloadError, match="cannot be reached or the connection broke"):
        pull(store, PullSpec("hf:org/tiny"))


def test_taken_name_is_refused_before_the_download(store: Store, remote: FakeHub, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "tiny.gguf")
    pull(store, PullSpec(str(tmp_path / "tiny.gguf")))
    with pytest.raises(StoreError, match="'tiny' belongs to another model already"):
        pull(store, PullSpec("hf:org/tiny"))
    assert remote.sent == {}
    assert pull(store, PullSpec("hf:org/tiny", name="other")).model.name == "other"


def test_damaged_files_are_downloaded_again(store: Store, remote: FakeHub) -> None:
    model = pull(store, PullSpec("hf:org/tiny")).model
    shard = model.path / "model-00001-of-00002.safetensors"
    shard.chmod(0o644)
    shard.write_bytes(b"\0" + shard.read_bytes()[1:])
    again = pull(store, PullSpec("hf:org/tiny"))
    assert again.is_new_model
    store.verify(again.model)

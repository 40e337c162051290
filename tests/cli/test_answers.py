"""run and chat around a model of canned answers: what is asked, shown, remembered, stopped and refused."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.talking import LIMIT, CannedModel


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> CannedModel:
    canned = CannedModel()
    monkeypatch.setattr("empu.cli.loading.open_resolved", lambda *given, **named: canned)
    return canned


def turns(outcome_text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in outcome_text.splitlines()]


def test_run_streams_one_answer(empu: Run, tiny: Path, model: CannedModel) -> None:
    outcome = empu("run", str(tiny), "What", "is", "it?")
    assert (outcome.code, outcome.out, outcome.err) == (0, "You said: What is it? \n", "")
    assert model.asked == [[{"role": "user", "content": "What is it?"}]]


def test_run_reads_standard_input(empu: Run, tiny: Path, model: CannedModel) -> None:
    assert empu("run", str(tiny), "-", input="one\ntwo\n").code == 0
    assert model.asked == [[{"role": "user", "content": "one\ntwo"}]]


def test_run_uses_the_system_instruction_and_raw_text(empu: Run, tiny: Path, model: CannedModel) -> None:
    empu("run", str(tiny), "hi", "--system", "Be brief.")
    empu("run", str(tiny), "hi", "--raw")
    model.has_template = False
    empu("run", str(tiny), "hi")
    assert model.asked == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "hi",
        "hi",
    ]
    outcome = empu("run", str(tiny), "hi", "--system", "Be brief.")
    assert outcome.code == 2
    assert "--system cannot be used, because this model has no chat template" in outcome.err


def test_run_json_is_one_document_with_everything(empu: Run, tiny: Path, model: CannedModel) -> None:
    empu("pull", str(tiny))
    document = empu("run", "tiny", "hi", "--json", "--seed", "3", "--temperature", "0.5").json
    assert document["text"] == "You said: hi "
    assert document["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 3,
        "dropped_tokens": 0,
        "cached_tokens": 0,
    }
    assert document["model"]["name"] == "tiny"
    assert document["model"]["id"].startswith("sha256:")
    assert (document["seed"], document["sampling"]["seed"], document["sampling"]["temperature"]) == (3, 3, 0.5)
    assert (document["engine"], document["finish_reason"]) == ("canned", "stop")
    assert set(document["timings"]) >= {"load_s", "prefill_s", "first_token_s", "decode_s"}
    assert empu("run", str(tiny), "hi", "--json").json["model"]["id"] is None


def test_sampling_options_reach_the_model(empu: Run, tiny: Path, model: CannedModel) -> None:
    options = "--temperature 0.7 --top-p 0.8 --top-k 40 --min-p 0.05 --repetition-penalty 1.1 --presence-penalty 0.2"
    more = "--frequency-penalty 0.3 --seed 9 --max-tokens 17 --stop END --stop ##"
    assert empu("run", str(tiny), "hi", *options.split(), *more.split()).code == 0
    params = model.params[0]
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.7, 0.8, 40, 0.05)
    assert (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) == (1.1, 0.2, 0.3)
    assert (params.seed, params.max_tokens, tuple(params.stop)) == (9, 17, ("END", "##"))
    empu("run", str(tiny), "hi")
    assert (model.params[1].temperature, model.params[1].top_p) == (0.2, 0.9)


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(empu: Run, tiny: Path, model: CannedModel) -> None:
    long = "x" * (LIMIT + 45)
    outcome = empu("run", str(tiny), long)
    assert (outcome.code, outcome.out) == (1, "")
    assert f"The prompt has {LIMIT + 45} tokens and at most {LIMIT} fit" in outcome.err
    cut = empu("run", str(tiny), long, "--truncate", "--json")
    assert cut.code == 0
    assert "its oldest 45 tokens were dropped" in cut.err
    assert cut.json["usage"]["dropped_tokens"] == 45


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_prompt_is_refused(empu: Run, tiny: Path, model: CannedModel, text: str) -> None:
    assert "The prompt is empty" in empu("run", str(tiny), text).err
    assert empu("run", str(tiny), "-", input=text).code == 2
    assert model.asked == []


def test_ctrl_c_stops_run_with_130_and_keeps_what_came(empu: Run, tiny: Path, model: CannedModel) -> None:
    model.interrupt_after = 2
    outcome = empu("run", str(tiny), "one two three four")
    assert outcome.code == 130
    assert outcome.out == "You said: one \n"
    assert outcome.err == "Stopped.\n"


def test_chat_remembers_the_dialogue(empu: Run, tiny: Path, model: CannedModel) -> None:
    outcome = empu("chat", str(tiny), "--system", "S", input="one\n\ntwo\n")
    assert outcome.code == 0
    assert outcome.out == "You said: one \nYou said: two \n"
    assert [m["content"] for m in model.asked[1]] == ["S", "one", "You said: one ", "two"]
    assert [m["role"] for m in model.asked[1]] == ["system", "user", "assistant", "user"]


def test_ctrl_c_in_chat_stops_the_answer_and_not_the_program(empu: Run, tiny: Path, model: CannedModel) -> None:
    model.interrupt_after = 2
    outcome = empu("chat", str(tiny), input="one two three\nfour\n")
    assert outcome.code == 0
    assert outcome.out == "You said: one \nYou said: four \n"
    assert outcome.err.count("(stopped)") == 2
    assert [m["content"] for m in model.asked[1]] == ["one two three", "You said: one ", "four"]


def test_turns_may_have_several_lines(empu: Run, tiny: Path, model: CannedModel) -> None:
    empu("chat", str(tiny), input='one \\\ntwo\n"""\nthree\n\nfour\n"""\n"""five"""\n')
    assert [asked[-1]["content"] for asked in model.asked] == ["one \ntwo", "three\n\nfour", "five"]


def test_chat_prints_one_document_for_each_turn(empu: Run, tiny: Path, model: CannedModel) -> None:
    outcome = empu("chat", str(tiny), "--json", input=f"one\n{'x' * 999}\ntwo\n")
    first, refused, second = turns(outcome.out.rpartition('{\n  "error"')[0] or outcome.out)
    assert (first["text"], second["text"]) == ("You said: one ", "You said: two ")
    assert isinstance(refused["error"], dict)
    assert refused["error"]["kind"] == "PromptTooLongError"
    assert outcome.code == 1


def test_a_refused_turn_is_taken_back(empu: Run, tiny: Path, model: CannedModel) -> None:
    outcome = empu("chat", str(tiny), input=f"one\n{'x' * 999}\ntwo\n")
    assert outcome.code == 1
    assert "at most 200 fit in the context" in outcome.err
    assert [m["content"] for m in model.asked[-1]] == ["one", "You said: one ", "two"]


def test_the_commands_of_chat(empu: Run, tiny: Path, model: CannedModel, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    script = [
        "/help",
        "one",
        "/regenerate",
        "/set temperature 0.9",
        "/set top_k none",
        f"/save {saved}",
        "/reset",
        "two",
        "/system Be kind.",
        "three",
        "/quit",
        "never asked",
    ]
    outcome = empu("chat", str(tiny), input="\n".join(script) + "\n")
    assert outcome.code == 0, outcome.err
    contents = [[m["content"] for m in asked] for asked in model.asked]
    assert contents == [["one"], ["one"], ["two"], ["Be kind.", "three"]]
    assert [params.temperature for params in model.params] == [0.2, 0.2, 0.9, 0.9]
    assert [m["content"] for m in json.loads(saved.read_text())["messages"]] == ["one", "You said: one "]
    assert "/regenerate" in outcome.err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/nope", "Unknown command /nope"),
        ("/regenerate", "There is no answer to regenerate"),
        ("/save", "Give a file"),
        ("/save /proc/none/x", "cannot be written"),
        ("/set", "Current values: "),
        ("/set colour 3", "temperature 0.2"),
        ("/set temperature hot", "needs a number"),
        ("/set temperature true", "needs a number"),
        ("/set temperature NaN", "temperature"),
        ("/set max_tokens -3", "max_tokens"),
    ],
)
def test_wrong_commands_are_explained_and_chat_goes_on(
    empu: Run, tiny: Path, model: CannedModel, line: str, sentence: str
) -> None:
    outcome = empu("chat", str(tiny), input=f"{line}\nstill there?\n")
    assert sentence in outcome.err
    assert outcome.out == "You said: still there? \n"
    assert outcome.code == 1


def test_save_never_overwrites(empu: Run, tiny: Path, model: CannedModel, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    assert "exists already" in empu("chat", str(tiny), input=f"hi\n/save {tmp_path / 'kept'}\n").err
    assert (tmp_path / "kept").read_text() == "mine"


def test_chat_needs_a_template(empu: Run, tiny: Path, model: CannedModel) -> None:
    model.has_template = False
    outcome = empu("chat", str(tiny), input="hi\n")
    assert outcome.code == 2
    assert "use `empu run` to continue a text" in outcome.err


def test_model_text_is_exact_in_a_pipe_and_harmless_on_a_terminal(
    empu: Run, tiny: Path, model: CannedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.words = ["a\x1b[2Jb", "\x07\r\x9b1m", "é😀\tz\n"]
    assert empu("run", str(tiny), "hi").out == "a\x1b[2Jb\x07\r\x9b1mé😀\tz\n"
    monkeypatch.setattr("empu.cli.output.is_terminal", lambda stream: True)
    assert empu("run", str(tiny), "hi").out == "a␛[2Jb␇␍\ufffd1mé😀\tz\n"


TERMINAL_PROGRAM = """
import sys
import empu.cli.loading
from empu.cli.main import main
from tests.cli.talking import CannedModel
model = CannedModel()
empu.cli.loading.open_resolved = lambda *given, **named: model
main(["chat", sys.argv[1]])
"""


def test_chat_on_a_real_terminal(home: Path, tiny: Path) -> None:
    """A pseudo-terminal: prompt, answer, Ctrl-C at the prompt, history kept in the store, Ctrl-D."""
    home.mkdir()
    master, slave = pty.openpty()
    command = [sys.executable, "-c", TERMINAL_PROGRAM, str(tiny)]
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": f"{root / 'src'}:{root}"}
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=env,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a job's child may ignore it
    )
    os.close(slave)
    try:
        assert ">>> " in _read_until(master, ">>> ")
        os.write(master, b"hello there\n")
        assert "You said: hello there" in _read_until(master, ">>> ")
        os.write(master, b"half a line")
        shown = ""
        for _ in range(50):  # a signal that comes before the line editor waits is seen at the next one
            os.killpg(process.pid, signal.SIGINT)
            while select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 4096).decode("utf-8", "replace")
            if shown.endswith(">>> ") and "leaves)" in shown:
                break
        assert "Ctrl-D" in shown
        os.write(master, b"\x04")
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    history = home / "chat_history"
    assert "hello there" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


def _read_until(master: int, words: str, seconds: float = 20.0) -> str:
    text = ""
    deadline = time.monotonic() + seconds
    while words not in text:
        ready, _, _ = select.select([master], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"waited for {words!r}, got {text!r}"
        text += os.read(master, 4096).decode("utf-8", "replace")
    return text

"""Hugging Face folders tokenize like transformers, with the same BOS and end tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

from empu.errors import TokenizerError, UnsupportedError
from empu.text import load_text_processor
from empu.text.base import TextProcessor
from empu.text.templates.chat_encoding import encode_chat
from empu.text.tokenizers.hf_tokenizer import HuggingFaceTokenizer, parse_tokenizer_json
from empu.text.tokenizers.tiktoken import LLAMA3_PATTERN, special_names
from tests.text.chat_families import LLAMA3, PHI
from tests.text.corpus import WORDS, strings
from tests.text.sentencepiece_model import train_sentencepiece
from tests.text.test_load_gguf import FILE

TRAINING = [" ".join(WORDS[i % 40 :]) for i in range(300)]


def byte_level() -> Tokenizer:
    """Return a small vocabulary with Llama 3's pre-tokenizer and added tokens of every kind."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TRAINING, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    )
    names = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.add_special_tokens(
        [
            AddedToken(f"<|{name}|>", special=True, rstrip=True, normalized=False)
            for name in ("user", "assistant", "end")
        ]
    )
    tokenizer.add_tokens(
        [AddedToken("<tool_call>", special=False, normalized=False), AddedToken("日本", special=False)]
    )
    bos = ("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    return tokenizer


def pieces(legacy: bool) -> Tokenizer:
    """Return a vocabulary like Llama 2's, with byte fallback, in either of the two notations."""
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>", *fallback], show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    if legacy:
        tokenizer.normalizer = normalizer
    else:
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = metaspace
    last = decoders.Strip(content=" ", left=1)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), last])
    bos = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[bos])
    return tokenizer


SETTINGS: dict[str, dict[str, Any]] = {
    "byte level": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": LLAMA3},
    "stripping specials": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end|>", "chat_template": PHI},
    "pieces, first": {
        "bos_token": {"__type": "AddedToken", "content": "<s>"},
        "eos_token": "</s>",
        "chat_template": LLAMA3,
    },
    "pieces, each": {"bos_token": "<s>", "eos_token": "</s>", "chat_template": LLAMA3},
}


@pytest.fixture(scope="module", params=list(SETTINGS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("folder")
    kind: str = request.param
    tokenizer = pieces(kind.endswith("each")) if kind.startswith("pieces") else byte_level()
    tokenizer.save(str(made / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **SETTINGS[kind]}
    (made / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return made


def differing(ours: TextProcessor, theirs: Any, **choices: Any) -> list[str]:
    """Strings on which the two differ."""
    return [
        text
        for text in strings()
        if ours.tokenizer.encode(text, parse_special=not choices)
        != theirs.encode(text, add_special_tokens=False, **choices)
    ]


def test_folder_equals_transformers(folder: Path) -> None:
    ours, theirs = load_text_processor("huggingface", folder, {}), AutoTokenizer.from_pretrained(folder)
    assert not differing(ours, theirs)
    assert not differing(ours, theirs, split_special_tokens=True)
    assert ours.add_bos
    assert ours.tokenizer.bos_id == theirs.bos_token_id
    assert theirs.eos_token_id in ours.tokenizer.eos_ids
    for text in strings()[::7]:
        ids = ours.tokenizer.encode(text, add_bos=True)
        assert ids == theirs.encode(text, split_special_tokens=True)
        assert ours.tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_chat_equals_transformers_for_ordinary_content(folder: Path) -> None:
    ours, theirs = load_text_processor("huggingface", folder, {}), AutoTokenizer.from_pretrained(folder)
    for text in strings()[::9]:
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": " ya"}]
        if any(name in text for name in theirs.all_special_tokens + list(theirs.get_added_vocab())):
            continue
        expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert encode_chat(ours, messages) == expected, repr(text)


def test_spelled_specials_stay_letters_in_place(folder: Path) -> None:
    """Nothing but the spelled tokens changes: the marker leaves no seam in the text around them."""
    ours, theirs = load_text_processor("huggingface", folder, {}), AutoTokenizer.from_pretrained(folder)
    for name in ours.tokenizer.special_tokens:
        messages = [{"role": "user", "content": f"kata{name}lagi {name} akhir"}]
        ids = encode_chat(ours, messages)
        harmless = encode_chat(ours, [{"role": "user", "content": "kata"}])
        specials = set(ours.tokenizer.special_tokens.values())
        assert [i for i in ids if i in specials] == [i for i in harmless if i in specials]
        assert f"kata{name}lagi {name} akhir" in ours.tokenizer.decode(ids, keep_special=True)
        plain = theirs.encode(f"\nkata{name}lagi {name} akhir", add_special_tokens=False, split_special_tokens=True)
        joined = ",".join(map(str, ids))
        assert ",".join(map(str, plain[4:])) in joined


def test_llama3_converted_by_transformers_and_written_as_gguf(llama3_tokenizer_model: Path, tmp_path: Path) -> None:
    """One vocabulary in three forms: tiktoken, ``tokenizer.json`` and GGUF give the same ids."""
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "tokenizer.model").write_bytes(llama3_tokenizer_model.read_bytes())
    meta = load_text_processor("meta", tmp_path / "meta", {}).tokenizer
    converted = TikTokenConverter(str(llama3_tokenizer_model), extra_special_tokens=special_names()).converted()  # type: ignore[no-untyped-call]
    converted.save(str(tmp_path / "tokenizer.json"), pretty=False)
    folder = load_text_processor(
        "huggingface", tmp_path, {"bos_token_id": 128_000, "eos_token_id": [128_001, 128_008, 128_009]}
    )
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [*content["model"]["vocab"], *special_names()]
    fields = {
        "model": "gpt2",
        "pre": "llama-bpe",
        "tokens": tokens,
        "token_type": [1] * 128_000 + [3] * 256,
        "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]],
        "bos_token_id": 128_000,
        "eos_token_id": 128_009,
    }
    gguf = load_text_processor("gguf", FILE, {f"tokenizer.ggml.{key}": value for key, value in fields.items()})
    assert gguf.add_bos
    assert not folder.add_bos
    for text in (gguf, folder):
        assert text.tokenizer.special_tokens == meta.special_tokens
        assert text.tokenizer.eos_ids == meta.eos_ids
        assert text.tokenizer.bos_id == meta.bos_id
        for string in strings():
            assert text.tokenizer.encode(string, parse_special=True) == meta.encode(string, parse_special=True)
        for i in range(0, 128_256, 17):
            assert text.tokenizer.token_bytes(i) == meta.token_bytes(i)


def test_tokenizer_model_is_read_without_tokenizer_json(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(train_sentencepiece())
    added = {"480": {"content": "<|im_start|>", "special": True}, "481": {"content": "<think>", "special": False}}
    settings = {"added_tokens_decoder": added, "add_bos_token": False, "bos_token": "<s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    text = load_text_processor("huggingface", tmp_path, {"eos_token_id": 2})
    assert text.tokenizer.vocab_size == 482
    assert text.tokenizer.encode("<|im_start|>", parse_special=True) == [480]
    assert 481 in text.tokenizer.encode("a <think> b")
    assert not text.add_bos
    added["490"] = {"content": "<far>", "special": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(TokenizerError, match="do not follow its 480 tokens"):
        load_text_processor("huggingface", tmp_path, {})


def test_end_tokens_and_templates_come_from_all_files(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 6]}', encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "old", "eos_token": null}', encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text("new {{ messages[0].content }}", encoding="utf-8")
    text = load_text_processor("huggingface", tmp_path, {"eos_token_id": 7, "bos_token_id": 700})
    named = {text.tokenizer.special_tokens[name] for name in ("<|eot_id|>", "<|end_of_text|>", "<|end|>")}
    assert text.tokenizer.eos_ids == {5, 6, 7} | named
    assert text.tokenizer.bos_id == 700
    assert text.template is not None
    assert text.template.render([{"role": "user", "content": "x"}]) == "new x"


def test_named_templates_of_tokenizer_config(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}), encoding="utf-8")
    template = load_text_processor("huggingface", tmp_path, {}).template
    assert template is not None
    assert template.render([{"role": "user", "content": ""}]) == "d"
    assert template.render([{"role": "user", "content": ""}], tools=[{}]) == "t"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither tokenizer.json nor tokenizer.model"),
        ({"tokenizer.json": b"{"}, "not a tokenizer that the tokenizers library can read"),
        ({"tokenizer.json": b"\xff"}, "not UTF-8"),
        ({"tokenizer.json": b"{}", "tokenizer_config.json": b"["}, "is not usable JSON"),
        ({"tokenizer.json": b"{}", "tokenizer_config.json": b"[]"}, "holds a list; expected an object"),
    ],
)
def test_broken_folders_are_reported(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(TokenizerError, match=message):
        load_text_processor("huggingface", tmp_path, {})


def test_other_kinds_of_vocabulary_are_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UnsupportedError, match="WordPiece"):
        load_text_processor("huggingface", tmp_path, {})


def test_a_written_tokenizer_adds_bos_itself() -> None:
    """`tokenizers` and transformers' general class read the post-processor alone."""
    plain = json.dumps({**json.loads(byte_level().to_str()), "post_processor": None})
    backend = Tokenizer.from_str(plain)
    bos = backend.token_to_id("<|begin_of_text|>")
    ids = backend.encode("hi", add_special_tokens=False).ids
    tokenizer = HuggingFaceTokenizer(parse_tokenizer_json(plain, "it"), "it", bos_id=bos, eos_ids=[])
    assert Tokenizer.from_str(tokenizer.to_json(add_bos=True)).encode("hi").ids == [bos, *ids]
    assert Tokenizer.from_str(tokenizer.to_json()).encode("hi").ids == ids


@pytest.mark.parametrize("value", [-1, 1.5, "2", True, [1, None], {"id": 2}, 100_000, [3, 100_000]])
def test_an_end_token_that_cannot_be_is_refused(tmp_path: Path, value: object) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    for name, config in (("config.json", {"eos_token_id": value}), ("generation_config.json", {})):
        if name == "generation_config.json":
            (tmp_path / name).write_text(json.dumps({"eos_token_id": value}), encoding="utf-8")
        with pytest.raises(TokenizerError, match="eos_token_id"):
            load_text_processor("huggingface", tmp_path, config)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": null}', encoding="utf-8")
    load_text_processor("huggingface", tmp_path, {"vocab_size": 200_000, "eos_token_id": 100_000})

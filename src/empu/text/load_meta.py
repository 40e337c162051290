"""The tokenizer and dialogue format of a Meta folder."""

from __future__ import annotations

from pathlib import Path

from empu.errors import TokenizerError
from empu.text.base import TextProcessor
from empu.text.templates.meta_dialogue import Llama2Dialogue, Llama3Dialogue
from empu.text.tokenizers.files import read_vocabulary
from empu.text.tokenizers.sentencepiece import SentencePieceTokenizer, is_sentencepiece
from empu.text.tokenizers.tiktoken import TiktokenTokenizer

_FILE = "tokenizer.model"


def load_meta(path: Path) -> TextProcessor:
    """Load ``tokenizer.model`` from the folder or, as in Meta's first releases, from its parent.

    The dialogue format is that of the family: SentencePiece means Llama 2, tiktoken Llama 3.
    """
    folder = path if path.is_dir() else path.parent
    file = next((parent / _FILE for parent in (folder, folder.parent) if (parent / _FILE).is_file()), None)
    if file is None:
        raise TokenizerError(f"{folder} has no tokenizer.model; copy the one that came with the weights into it.")
    data = read_vocabulary(file)
    if is_sentencepiece(data):
        return TextProcessor(SentencePieceTokenizer(data, str(file)), Llama2Dialogue(), True)
    return TextProcessor(TiktokenTokenizer(data, str(file)), Llama3Dialogue(), True)

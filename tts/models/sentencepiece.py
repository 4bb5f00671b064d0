"""Reading of a sentencepiece file where a model folder has no other tokenizer, as older Llama and Mistral models do."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tokenizers.models import BPE
from transformers import LlamaTokenizer

from tts.models.hub import ModelError


def sentencepiece_tokenizer(folder: Path) -> LlamaTokenizer:
    """The tokenizer of a folder's ``tokenizer.model``, which must be byte-pair encoding.

    transformers orders its merges by the pieces' numbers. Sentencepiece goes by their scores, which differ from that for runs of
    spaces: these merge last, whatever their number, so that a word after two spaces keeps its own space.

    Raises:
        ModelError: where sentencepiece is not installed.
    """
    if not (find_spec("sentencepiece") and find_spec("google")):
        raise ModelError(f"the tokenizer of {str(folder)!r} is a sentencepiece file: pip install sentencepiece protobuf")
    from sentencepiece import SentencePieceProcessor  # an extra

    pieces = SentencePieceProcessor(str(folder / "tokenizer.model"))
    vocabulary = {pieces.id_to_piece(number): number for number in range(pieces.vocab_size())}
    merges = []
    for piece, number in vocabulary.items():
        halves = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        merges += [(pieces.get_score(number), half) for half in halves if half[0] in vocabulary and half[1] in vocabulary]
    ordered = [half for _, half in sorted(merges, key=lambda merge: -merge[0])]
    tokenizer = LlamaTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.backend_tokenizer.model = BPE(vocabulary, ordered, fuse_unk=True, byte_fallback=True)
    return tokenizer

"""The pocket family's tokenizer: one token per character, plus the few multi-character marks the formats need."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# " ки", " +" and " -" are Math-Shepherd's step tag and labels; "<extra_0>" and ChatML's marks are Qwen2.5-Math-PRM's.
SPECIAL = ["<pad>", "<eos>", "<unk>", "<|im_start|>", "<|im_end|>", "<extra_0>"]
MARKS = ["\n\n", "\\boxed{", " ки", " +", " -", " ok", " no", "system", "user", "assistant"]
CHARACTERS = list("0123456789+-*=;,()}? \n")
LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz>[].:|")  # of the domains that need them, after all others

POLICY_TEMPLATE = "{{ messages[-1]['content'] + '\\n\\n' }}"
CHATML_TEMPLATE = (
    "{% for m in messages if m['role'] != 'system' %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
)

_PIECE = r"\n\n|\\boxed\{| ки| \+| -| ok| no|system|user|assistant|<\|im_start\|>|<\|im_end\|>|<extra_0>|[\s\S]"
pieces = re.compile(_PIECE).findall  # cuts a text into the strings that are one token each


def build(chat_template: str = POLICY_TEMPLATE, letters: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer of the pocket policies, or of a PRM with ``chat_template=CHATML_TEMPLATE``; ``letters`` adds those to its tokens."""
    from transformers import PreTrainedTokenizerFast  # half a second, which whoever only cuts texts does without

    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *MARKS, *CHARACTERS, *(LETTERS if letters else ())])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    marks = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>", "additional_special_tokens": SPECIAL[3:]}
    options = {"chat_template": chat_template, "model_max_length": 512, "clean_up_tokenization_spaces": False}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks, **options)

"""Scores of PRM families, worked out by their own modules."""

from __future__ import annotations

import torch

from tts.reward_models import open_prm


def qwen_by_hand(folder, problem, steps):
    prm = open_prm(str(folder)).family
    text = f"<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n" + "".join(f"{s}<extra_0>" for s in steps) + "<|im_end|>\n"
    ids = prm.tokenizer(text)["input_ids"]
    with torch.inference_mode():
        logits = prm.model.score(prm.model.model(input_ids=torch.tensor([ids])).last_hidden_state)[0]
    separator = prm.tokenizer.convert_tokens_to_ids("<extra_0>")
    return logits[[i for i, token in enumerate(ids) if token == separator]].softmax(-1)[:, 1].tolist()

"""Discriminative PRMs in three stages: predict each token, compare it with the one that was written, remember the least likely one.

A policy's last layer holds what comes next, and hardly which token it stands at. A layer on top of it therefore cannot see that a token
is an unlikely one, unless training first finds out how to keep the token, how to look one position back and how to multiply the two.
These PRMs start with that in place. Their hidden state is wider than the policy's by four parts::

    policy's hidden state | which symbol this token is | what the policy expected here, a logit a symbol | likelihood | remembered

The policy's layers compute what they did in the policy. The first new layer fetches the logits from the token before (attention with a
peak at distance 1) and multiplies them with the symbol; the second attends to the token of lowest likelihood. All weights are trained,
and each stage has a loss of its own.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config

from tts.reward_models.qwen_prm import Qwen2ForProcessRewardModel
from tts.tasks import pocket_tokenizer
from tts.training.pocket.corpora import LAYOUTS, UNLABELLED, Sequence
from tts.training.pocket.losses import next_token_loss

SYMBOLS = (*"0123456789+-*=;(),}", "\\boxed{")  # what solutions are written in
LAYOUT_TOKENS = ("<|im_start|>", "<|im_end|>", "user", "assistant", "\n", " ", "<extra_0>", " ки")  # which no policy has seen
FREE = 8  # dimensions beyond the three parts: likelihood, what is remembered, and room
WIDER = 2 * len(SYMBOLS) + FREE


def label_ids() -> list[int]:
    vocabulary = pocket_tokenizer.build().get_vocab()
    return [vocabulary[" -"], vocabulary[" +"]]


def mark_id(family: str) -> int:
    """The token at which a family's scores are read."""
    return pocket_tokenizer.build().get_vocab()[pocket_tokenizer.pieces(LAYOUTS[family][1])[0]]


def labelled_up_to_the_error(sequences: Iterable[Sequence], mark: int) -> Iterator[Sequence]:
    """The same sequences; after the first wrong token only marks keep their labels.

    The tokens of a solution that has gone wrong are many, and all wrong: with labels they outweigh the one that is to be found.
    """
    for sequence in sequences:
        first = sequence.label.index(0) if 0 in sequence.label else len(sequence.label)
        labels = zip(sequence.ids, sequence.label)
        kept = [label if number <= first or token == mark else UNLABELLED for number, (token, label) in enumerate(labels)]
        yield sequence._replace(label=kept)


def comparing_prm(family: str, policy: LlamaForCausalLM) -> nn.Module:
    """A PRM of a family with two layers more than the policy, initialised as the module says; the rest is drawn at random."""
    config, qwen = policy.config, family == "qwen-prm"
    narrow, layers = config.hidden_size, config.num_hidden_layers
    other = {"architectures", "model_type", "transformers_version", "dtype"}
    shape = {name: value for name, value in config.to_diff_dict().items() if name not in other}
    shape |= {"num_hidden_layers": layers + 2, "hidden_size": narrow + WIDER, "attention_bias": True}
    model = Qwen2ForProcessRewardModel(Qwen2Config(**shape)) if qwen else LlamaForCausalLM(LlamaConfig(**shape))
    with torch.no_grad():
        _widen(model.model, policy.model)
        _compare(model.model, policy.model)
        _remember(model.model, narrow)
        if qwen:
            nn.init.normal_(model.score[0].weight, std=(narrow + WIDER) ** -0.5)
        else:
            wrong, right = label_ids()
            at = narrow + 2 * len(SYMBOLS) + 1
            model.model.embed_tokens.weight[[right, wrong], at] = torch.tensor([1.0, -1.0])
    return model


def _widen(model: nn.Module, policy: nn.Module) -> None:
    """The policy's weights in the first dimensions, nothing in the others; new layers that change nothing yet."""
    old, narrow, wide = dict(policy.named_parameters()), policy.config.hidden_size, model.config.hidden_size
    for name, weight in model.named_parameters():
        if name in old:
            here = old[name]
            if here.ndim == 1:  # of an RMSNorm, whose mean square now is over more dimensions, the new ones zero
                weight.fill_(1.0)[:narrow] = here * (narrow / wide) ** 0.5
            else:
                weight.zero_()[tuple(map(slice, here.shape))] = here
        elif name.endswith("bias") or "o_proj" in name or "down_proj" in name:
            weight.zero_()
        elif weight.ndim == 2:
            nn.init.normal_(weight, std=wide**-0.5)
    vocabulary = pocket_tokenizer.build().get_vocab()
    separator = model.embed_tokens.weight[vocabulary["\n\n"]].clone()
    for token in LAYOUT_TOKENS:
        model.embed_tokens.weight[vocabulary[token]] = separator


def _compare(model: nn.Module, policy: nn.Module) -> None:
    """Sets up the first new layer: the likelihood dimension receives the logit that the policy gave to the token which followed."""
    layer, narrow, count = model.layers[policy.config.num_hidden_layers], policy.config.hidden_size, len(SYMBOLS)
    symbol, logit = slice(narrow, narrow + count), slice(narrow + count, narrow + 2 * count)
    vocabulary = pocket_tokenizer.build().get_vocab()
    ids, one = [vocabulary[text] for text in SYMBOLS], torch.eye(count)
    embeddings = policy.embed_tokens.weight[ids]
    size = 0.3 * embeddings.square().mean().sqrt()  # small, so that the policy's layers hardly notice it in their norms
    model.embed_tokens.weight[ids, symbol] = size * one
    layer.post_attention_layernorm.weight[symbol] = 1 / size

    # Rotary embeddings turn pair j of a query by theta_j per position: these biases score distance d by 64 sum_j cos(theta_j (d - 1)).
    attention, pairs = layer.self_attn, policy.config.head_dim // 2
    theta = policy.config.rope_parameters["rope_theta"] ** (-torch.arange(pairs) / pairs)
    for projection, bias in (attention.q_proj, [theta.cos(), -theta.sin()]), (attention.k_proj, [torch.ones(pairs), torch.zeros(pairs)]):
        projection.weight.mul_(0.1)
        projection.bias[:] = 8 * torch.cat(bias).repeat(len(projection.bias) // (2 * pairs))
    layer.input_layernorm.weight[:narrow] = policy.norm.weight * (narrow / model.config.hidden_size) ** 0.5
    attention.v_proj.weight[:count] = 0
    attention.v_proj.weight[:count, :narrow] = 0.3 * (embeddings - embeddings.mean(0))
    attention.o_proj.weight[logit, :count] = one

    # silu(x) - silu(-x) = x, so two gated units give the product of a logit and a symbol.
    gate, up, down = layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight, layer.mlp.down_proj.weight
    gate[:, :narrow] = 0
    gate[: 2 * count] = up[: 2 * count] = 0
    for unit, sign in (slice(count), one), (slice(count, 2 * count), -one):
        gate[unit, logit], up[unit, symbol] = sign, sign
    down[narrow + 2 * count, : 2 * count] = 1


def _remember(model: nn.Module, narrow: int) -> None:
    """Sets up the last layer: attention to where the likelihood is lowest, by slowly turning pairs, which hardly see the distance."""
    attention, likelihood = model.layers[-1].self_attn, narrow + 2 * len(SYMBOLS)
    slow = slice(10, 16)
    attention.q_proj.weight[slow] = attention.k_proj.weight[slow] = 0
    attention.q_proj.bias[slow] = 2
    attention.k_proj.weight[slow, likelihood] = -2
    attention.v_proj.weight[0] = 0
    attention.v_proj.weight[0, likelihood] = attention.o_proj.weight[likelihood + 1, 0] = 1


def comparing_loss(family: str, model: nn.Module, narrow: int):
    """Cross-entropy of each stage: the next token where the policy's layers end, right or wrong at each token, and at each mark.

    Wrong tokens and marks count twice. ``narrow`` is the policy's hidden size.
    """
    mark, labels = mark_id(family), label_ids()
    read: dict[str, torch.Tensor] = {}  # what the layers of each stage begin with
    for name, layer in zip(("predicted", "compared"), model.model.layers[-2:]):
        layer.register_forward_pre_hook(lambda _, inputs, name=name: read.__setitem__(name, inputs[0]))

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs = {"input_ids": batch["ids"], "position_ids": batch["position"], "attention_mask": batch["mask"]}
        hidden = model.model(**inputs, use_cache=False).last_hidden_state
        embeddings = model.model.embed_tokens.weight
        verdicts = model.score(hidden) if family == "qwen-prm" else hidden @ embeddings[labels].T
        likelihood = read["compared"][..., narrow + 2 * len(SYMBOLS)]
        label, marks = batch["label"], batch["ids"] == mark
        weights = torch.where(label == 0, 2.0, 1.0) * (label != UNLABELLED)
        of_marks = F.cross_entropy(verdicts.flatten(0, 1), label.flatten(), ignore_index=UNLABELLED, reduction="none").view_as(weights)
        of_tokens = F.binary_cross_entropy_with_logits(likelihood, (label == 1).float(), reduction="none")
        parts = [(of_marks, weights * marks), (of_tokens, weights * ~marks)]
        judged = sum((value * weight).sum() / weight.sum() for value, weight in parts)
        return judged + next_token_loss(model.model.norm(read["predicted"]) @ embeddings.T, batch)

    return loss

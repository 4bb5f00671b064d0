"""Discriminative PRMs in three stages: predict each token, compare it with the one that was written, remember the least likely one.

A policy's last layer holds what comes next, and hardly which token it stands at (docs/pocket_prms.md): a layer on top of it cannot see
how likely a token was. These PRMs start with that comparison in place. Their hidden state is wider than the policy's by four parts::

    policy's hidden state | which symbol this token is | what the policy expected here, a logit a symbol | likelihood | remembered

The policy's layers compute what they did in the policy. The first new layer fetches the logits from the token before (attention with a
peak at distance 1) and multiplies them with the symbol; the second attends to the token of lowest likelihood. All weights are trained,
and each stage has a loss of its own.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaForCausalLM

from tts.reward_models.qwen_prm import Qwen2ForProcessRewardModel
from tts.training.pocket.corpora import LAYOUTS, UNLABELLED, VOCABULARY, Sequence, token_ids
from tts.training.pocket.losses import LABELS, hidden_states, next_token_loss, verdicts

SYMBOLS = (*"0123456789+-*=;(),}", "\\boxed{")  # what solutions are written in
LAYOUT_TOKENS = ("<|im_start|>", "<|im_end|>", "user", "assistant", "\n", " ", "<extra_0>", " ки")  # which no policy has seen
FREE = 8  # the last dimensions: likelihood, what is remembered, and room
WIDER = 2 * len(SYMBOLS) + FREE


def mark_id(family: str) -> int:
    """The token at which a family's scores are read."""
    return token_ids(LAYOUTS[family][1])[0]


def labelled_up_to_the_error(sequences: Iterable[Sequence], mark: int) -> Iterator[Sequence]:
    """The same sequences; after the first wrong token only marks keep their labels.

    The tokens of a solution that has gone wrong are many, and all wrong: with labels they outweigh the one that is to be found.
    """
    for sequence in sequences:
        first = sequence.label.index(0) if 0 in sequence.label else len(sequence.label)
        labels = zip(sequence.ids, sequence.label)
        kept = [label if number <= first or token == mark else UNLABELLED for number, (token, label) in enumerate(labels)]
        yield sequence._replace(label=kept)


def start_comparing(model: nn.Module, policy: LlamaForCausalLM) -> None:
    """Starts a PRM, wider than the policy by ``WIDER`` and with two layers more, as the module says; the rest stays as it was drawn."""
    width = model.config.hidden_size
    with torch.no_grad():
        _widen(model.model, policy.model)
        _compare(model.model, policy.model)
        _remember(model.model)
        if isinstance(model, Qwen2ForProcessRewardModel):
            nn.init.normal_(model.score[0].weight, std=width**-0.5)
        else:
            model.model.embed_tokens.weight[LABELS, width - FREE + 1] = torch.tensor([-1.0, 1.0])


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
    model.embed_tokens.weight[[VOCABULARY[token] for token in LAYOUT_TOKENS]] = model.embed_tokens.weight[VOCABULARY["\n\n"]].clone()


def _compare(model: nn.Module, policy: nn.Module) -> None:
    """Sets up the first new layer: the likelihood dimension receives the logit that the policy gave to the token which followed."""
    layer, narrow, count = model.layers[policy.config.num_hidden_layers], policy.config.hidden_size, len(SYMBOLS)
    symbol, logit = slice(narrow, narrow + count), slice(narrow + count, narrow + 2 * count)
    ids, one = [VOCABULARY[text] for text in SYMBOLS], torch.eye(count)
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


def _remember(model: nn.Module) -> None:
    """Sets up the last layer: attention to where the likelihood is lowest, by slowly turning pairs, which hardly see the distance."""
    attention, likelihood = model.layers[-1].self_attn, model.config.hidden_size - FREE
    slow = slice(10, 16)
    attention.q_proj.weight[slow] = attention.k_proj.weight[slow] = 0
    attention.q_proj.bias[slow] = 2
    attention.k_proj.weight[slow, likelihood] = -2
    attention.v_proj.weight[0] = 0
    attention.v_proj.weight[0, likelihood] = attention.o_proj.weight[likelihood + 1, 0] = 1


def comparing_loss(family: str, model: nn.Module) -> Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]:
    """Cross-entropy of each stage: the next token where the policy's layers end, right or wrong at each token, and at each mark.

    Wrong tokens and marks count twice.
    """
    mark, likelihood = mark_id(family), model.config.hidden_size - FREE
    read: dict[str, torch.Tensor] = {}  # what the layers of each stage begin with
    for name, layer in zip(("predicted", "compared"), model.model.layers[-2:]):
        layer.register_forward_pre_hook(lambda _, inputs, name=name: read.__setitem__(name, inputs[0]))

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        of_all = verdicts(model, hidden_states(model, batch)).flatten(0, 1)
        label, marks = batch["label"], batch["ids"] == mark
        weights = torch.where(label == 0, 2.0, 1.0) * (label != UNLABELLED)
        of_marks = F.cross_entropy(of_all, label.flatten(), ignore_index=UNLABELLED, reduction="none").view_as(weights)
        of_tokens = F.binary_cross_entropy_with_logits(read["compared"][..., likelihood], (label == 1).float(), reduction="none")
        parts = [(of_marks, weights * marks), (of_tokens, weights * ~marks)]
        judged = sum((value * weight).sum() / weight.sum() for value, weight in parts)
        return judged + next_token_loss(model.model.norm(read["predicted"]) @ model.model.embed_tokens.weight.T, batch)

    return loss

"""What the suite's speed is measured against: transformers' own sampling, bare forward passes, and a search done plainly.

The plain search follows the published tools' loop: one problem at a time, all of its beams one step per round, the
whole conversation rendered, encoded and read again each round by the policy and by the PRM.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from transformers import ContinuousBatchingConfig, DynamicCache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tts.policies.transformers import TransformersPolicy
from tts.reward_models.base import Family
from tts.search import beam_search, dvts
from tts.search.base import Candidate, Sample
from tts.tasks import prompts


def encoded(policy: TransformersPolicy, problems: Sequence[dict]) -> list[list[int]]:
    """Each problem's prompt, shortest first."""
    ids = [policy.tokenizer(prompts.render_prompt(policy.tokenizer, p["problem"]), add_special_tokens=False)["input_ids"] for p in problems]
    return sorted(ids, key=len)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[list[int]],
    batch: int,
    ends: Sequence[int] = (),
    **kw,
) -> list[list[int]]:
    """``generate`` in padded batches; what each request got, up to its first end."""
    pad, stops, answers = tokenizer.pad_token_id, [tokenizer.eos_token_id, *ends], []
    for at in range(0, len(requests), batch):
        part = requests[at : at + batch]
        longest = max(map(len, part))
        ids = torch.tensor([[pad] * (longest - len(r)) + r for r in part], device=model.device)
        mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in part], device=model.device)
        out = model.generate(input_ids=ids, attention_mask=mask, do_sample=True, eos_token_id=stops, pad_token_id=pad, **kw)
        answers += [[t for t in row if t != pad] for row in out[:, longest:].tolist()]
    return answers


def generate_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[list[int]], max_tokens: int, temperature: float
) -> int:
    """Tokens that ``generate_batch`` (continuous batching) generated for the requests.

    A small batch, for its attention on a processor is over all sequences at once.
    """
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    sampling = GenerationConfig(max_new_tokens=max_tokens, do_sample=True, temperature=temperature, **ends)
    config = ContinuousBatchingConfig(num_blocks=256, page_size=64, max_batch_tokens=32)
    outputs = model.generate_batch(list(requests), generation_config=sampling, continuous_batching_config=config)
    return sum(len(output.generated_tokens) for output in outputs.values())


@torch.inference_mode()
def forward_loop(model: PreTrainedModel, batch: int, prompt: int, steps: int) -> int:
    """The model's own forward passes, greedy, nothing else: ``steps`` tokens for each of ``batch`` rows; returns their number."""
    tokens, cache = torch.randint(5, 30, (batch, prompt), device=model.device), DynamicCache(config=model.config)
    for _ in range(steps):
        tokens = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1:].argmax(-1)
    return batch * steps


# -- the plain search ------------------------------------------------------------------------------------------

SEARCHES: dict[str, Callable] = {"beam_search": beam_search, "dvts": dvts}


def plain_search(
    policy: TransformersPolicy, model: PreTrainedModel, family: Family, method: str, problem: dict, n: int, width: int, prm_batch: int
) -> list[Candidate]:
    """One problem's search by rounds of ``generate`` and of whole-prefix scoring.

    The rounds' logic is the suite's own method, so that both sides do the same search; only how its requests are
    answered is the plain way.

    Args:
        policy: for its tokenizer and limits; ``model``, its weights as transformers runs them.
        family: the PRM, whose module is run as transformers runs it.
        method, problem, n, width: of the search.
        prm_batch: conversations read at once; search-and-learn's default is 4.
    """
    search, answer = SEARCHES[method](policy.root(problem["id"], problem["problem"]), n, width), None
    while True:
        try:
            request = search.send(answer)
        except StopIteration as stop:
            return stop.value
        answer = _sample(policy, model, request) if isinstance(request, Sample) else _score(family, request.candidates, prm_batch)


def _sample(policy: TransformersPolicy, model: PreTrainedModel, request: Sample) -> list[list[Candidate]]:
    tokenizer, sampling = policy.tokenizer, policy.sampling
    separator = tokenizer.encode("\n\n", add_special_tokens=False)[0]
    texts = [prompts.render_prompt(tokenizer, p.problem) + p.text for p in request.parents for _ in range(request.count)]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    room = max(1, sampling.max_tokens - max(len(p.tokens) for p in request.parents))
    answers = iter(generate(model, tokenizer, ids, len(ids), [separator], max_new_tokens=room, temperature=sampling.temperature))
    return [[_child(tokenizer, parent, i, next(answers), separator) for i in range(request.count)] for parent in request.parents]


def _child(tokenizer: PreTrainedTokenizerBase, parent: Candidate, index: int, tokens: list[int], separator: int) -> Candidate:
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    last = tokens[-1] if tokens else None
    status = "finished" if last == tokenizer.eos_token_id else "open" if last == separator and text.strip() else "truncated"
    steps = parent.steps + tuple(filter(None, [text.strip()]))
    generated = parent.tokens + tuple(tokens)
    return parent.child(index, tokens=generated, steps=steps, status=status, generated=len(tokens), text=parent.text + text)


@torch.inference_mode()
def _score(family: Family, candidates: Sequence[Candidate], batch: int) -> None:
    """The whole conversation of every candidate, rendered, encoded and read from its beginning; its last step's score."""
    for at in range(0, len(candidates), batch):
        part = candidates[at : at + batch]
        ids = family.render([(c.problem, c.steps) for c in part])
        starts = [len(row) for row in family.render([(c.problem, c.steps[:-1]) for c in part])]
        longest, width = max(map(len, ids)), max(len(row) - start for row, start in zip(ids, starts))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])  # at the end: a causal model needs no mask
        hidden = family.backbone(input_ids=padded, use_cache=False).last_hidden_state
        before = hidden[range(len(ids)), [start - 1 for start in starts]]
        columns = (torch.tensor(starts)[:, None] + torch.arange(width)).clamp(max=longest - 1)
        new = hidden.gather(1, columns[..., None].expand(-1, -1, hidden.shape[-1]))
        for candidate, score in zip(part, family.read(before, new, [row[start:] for row, start in zip(ids, starts)])):
            candidate.scores = (score,)


def seconds(work: Callable[[], int]) -> tuple[float, int]:
    """Wall time of some work, and what it says it did."""
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done

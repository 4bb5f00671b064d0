"""A PRM that cannot read its input is refused: before anything is generated where the problems show it, else as it reads."""

from __future__ import annotations

import json

import published_prms
import pytest
from tokenizers import Tokenizer

from tts.analysis import provenance
from tts.analysis.accuracy import Results
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.models.hub import ModelError
from tts.reward_models import check_reads, open_prm
from tts.store.chunk_file import read_chunk
from tts.store.store import Store
from tts.tasks.prompts import unknown_id

PROSE = {"id": "a", "problem": "7a+b", "answer": "7"}  # a token per character: 2 of 4 are unknown
SUM = {"id": "b", "problem": "7,+8,+9,+10,+11,+12=?", "answer": "57"}  # 21 tokens, all known
SOLUTION = ("7+8=15", "15+9=24", "\\boxed{24}")


def test_problems_are_enough_to_refuse_one(tiny_qwen_prm):
    with pytest.raises(ModelError, match=rf"the PRM {tiny_qwen_prm} cannot read its input: .* 50% of the tokens, as in '7a\+b'"):
        check_reads(str(tiny_qwen_prm), [PROSE])
    with pytest.raises(ModelError, match="8% of the tokens"):  # 2 of 25
        check_reads(str(tiny_qwen_prm), [SUM, PROSE])
    check_reads(str(tiny_qwen_prm), [SUM, SUM | {"problem": SUM["problem"] + "a"}])  # 1 of 43
    check_reads("imported:any", [PROSE])


def test_a_checker_of_pocket_problems_is_refused_for_others():
    check_reads("dial:0.1,0.1", [SUM | {"task": "pocket"}])
    with pytest.raises(ValueError, match="cannot check the steps of '7a"):
        check_reads("dial:0.1,0.1", [PROSE])


def test_nothing_is_generated_for_one(tiny_lm, tiny_qwen_prm, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(PROSE))
    names = {"problems": {str(file): 1}, "policies": [str(tiny_lm)], "prms": [str(tiny_qwen_prm)]}
    with pytest.raises(ModelError, match="the PRM .* cannot read its input"):
        fill(Grid(**names, methods=["best_of_n"], samples=4, budgets=[4]), Store(tmp_path / "runs"))
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("family", ["qwen-prm", "math-shepherd", "implicit"])
def test_solutions_that_cannot_be_read_are_refused(request, family):
    folder = request.getfixturevalue("tiny_qwen_prm" if family == "qwen-prm" else "tiny_lm")
    prm = open_prm(f"{family}:{folder}")
    asked = [(SUM["id"], SUM["problem"])]
    prm.score(asked * 20, [(*SOLUTION, f"{i}+1=2") for i in range(20)])
    assert prm.unknown == 0 and prm.tokens > 1000
    prm.score(asked, [("well, 7+8=15", *SOLUTION)])  # the letters of one step
    assert prm.unknown > 0
    told, of = prm.unknown / prm.tokens, f"{prm.tokens:,}"
    assert prm.report_unread()[1] == f"{prm.name} does not know {told:.1%} of the {of} tokens that it was given"
    assert prm.report_unread()[1] is None and prm.unknown == prm.tokens == 0, "each chunk is judged by itself"
    with pytest.raises(ModelError, match=r"does not know \d+% of the tokens, as in 'then we are done'"):
        prm.score(asked * 20, [(f"first we add {i}", "then we are done") for i in range(20)])


def test_a_byte_level_tokenizer_reads_everything(tmp_path):
    folder = published_prms.build_skywork(tmp_path / "value-head")
    prm = open_prm(f"skywork:{folder}")
    assert prm.family.tokenizer.unk_token_id is not None and prm.unknown_id is None, "what it declares as unknown begins every text"
    assert unknown_id(Tokenizer.from_file(str(folder / "tokenizer.json"))) is None
    check_reads(f"skywork:{folder}", [PROSE | {"problem": "Füße 🦄"}])
    prm.score([("a", "Füße 🦄")] * 9, [(f"🦄 {i}" * 9,) for i in range(9)])


def test_what_it_could_not_read_is_kept_with_the_run_and_shown_in_the_report(tiny_lm, tiny_qwen_prm, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(SUM | {"id": str(number)}) for number in range(2)))
    names = {"problems": {str(file): 2}, "policies": [str(tiny_lm)], "prms": [str(tiny_qwen_prm)]}
    grid, store = Grid(**names, methods=["best_of_n"], samples=2, budgets=[2], chunk=1), Store(tmp_path / "runs")
    solutions = [("7+8=15 so", "\\boxed{57}"), ("7+8=15", "1" * 300, "\\boxed{57}")]
    trajectories = [
        {"path": [number], "steps": steps, "scores": [], "status": "answered", "tokens": 9} for number, steps in enumerate(solutions)
    ]
    counts = {"prompt_tokens": 7, "policy_tokens": 18, "prm_tokens": 0}
    chunks = grid.chunks(str(file))
    for [problem] in chunks:
        asked = {"problem_id": problem["id"], "problem": problem["problem"], "answer": problem["answer"]}
        store.open(grid.spec("pool", str(tiny_lm), n=2)).write([problem], [asked | counts | {"trajectories": trajectories}], 1.0)
    fill(grid, store)

    run = store.run(grid.spec("scores", str(tiny_lm), str(tiny_qwen_prm), 2))
    kept = [json.loads(read_chunk(run.path(chunk)).schema.metadata[b"unread"]) for chunk in chunks]
    prm = open_prm(str(tiny_qwen_prm))
    prefixes = {(SUM["problem"], steps[:depth]) for steps in solutions for depth in range(len(steps) + 1)}
    rendered = prm.family.render(list(prefixes))
    by_hand = {"steps": 2, "unknown": sum(ids.count(prm.unknown_id) for ids in rendered), "tokens": sum(map(len, rendered))}
    assert kept == [by_hand] * 2 and by_hand["unknown"] > 0
    shown = provenance.runs([Results(grid, store)]).set_index("method")["PRM's limits"]
    share = by_hand["unknown"] / by_hand["tokens"]
    assert shown["PRM scores of samples"] == f"4 steps that end beyond its context scored 0; {share:.2%} of its tokens are unknown to it"
    assert shown["samples"] == ""

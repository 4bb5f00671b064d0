"""The pocket problems: what the generator promises, and the checker against errors planted by hand."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig

from tts.generate import labelled
from tts.models.files import POCKET_FOLDER, read_card
from tts.tasks import pocket_tokenizer as pocket_tokenizer
from tts.tasks.pocket_problems import (
    LARGEST,
    OPENED,
    SETS,
    first_error,
    first_problems,
    parse,
    random_hard,
    random_long,
    random_main,
    training_problems,
)
from tts.tasks.pocket_traces import Example, check_text, corrupted, plant_slip, self_checking_traces, solve
from tts.training.pocket.comparing import WIDER
from tts.training.pocket.corpora import LAYOUTS, ROW, pack, policy_sequences, prm_sequences
from tts.training.pocket.domains import DOMAINS
from tts.training.pocket.recipes import FAMILY, FURTHER, POLICIES, PRMS, ComparingPRMRecipe, family

seeds = st.integers(0, 2**32)


@settings(max_examples=200, deadline=None)
@given(seeds, st.sampled_from([random_main, random_hard, random_long]), st.sampled_from(["terse", "verbose"]))
def test_solutions_are_right_and_problems_read_back(seed, draw, style):
    rng = random.Random(seed)
    problem = draw(rng)
    steps = solve(problem, style, rng)
    assert first_error(problem, steps) is None
    assert steps[-1] == f"\\boxed{{{problem.answer}}}" and len(steps) == problem.operations + 1
    assert parse(problem.text) == problem
    assert 0 <= int(problem.answer) <= LARGEST


def test_several_next_steps_are_valid_in_trees():
    problem = parse("(12+7)*(9-4)=?")
    assert first_error(problem, ["9-4=5", "12+7=19", "19*5=95", "\\boxed{95}"]) is None
    assert first_error(problem, ["12+7=19", "9-4=5;19*5", "19*5=95", "\\boxed{95}"]) is None


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        (["47+38=85", "85*3=265", "\\boxed{265}"], (1, 6)),
        (["47+38=8"], (0, 7)),
        (["47+38=85", "\\boxed{85}"], (1, 0)),
        (["47+38=85;85,*4"], (0, 13)),
        (["47+38=85", "85*3=255", "\\boxed{255}", "\\boxed{255}"], (3, 0)),
        (["38+47=85"], (0, 0)),
    ],
)
def test_first_error_by_hand(steps, where):
    assert first_error(parse("47,+38,*3=?"), steps) == where


@pytest.mark.parametrize("text", ["", "=?", "47=?", "47,+38", "47,/3=?", "(12+7=?", "12+7)*2=?", "1,+\u0664=?", "2,+(3=?", "12345,+1=?"])
def test_what_is_no_pocket_problem_is_refused(text):
    with pytest.raises(ValueError, match="not a pocket problem"):
        parse(text)


def test_splits_never_meet_and_lists_grow_at_the_end():
    for name in SETS:
        tests = first_problems(SETS[name], name, "test", 60)
        assert [p.text for p in tests[:20]] == [p.text for p in first_problems(SETS[name], name, "test", 20)]
        assert all(p.split == "test" for p in tests) and len({p.text for p in tests}) == 60
        fresh, opened = first_problems(SETS[name], name, "confirmation", 400), first_problems(SETS[name], name, "selection", OPENED)
        assert all(p.split == "selection" for p in fresh) and not {p.text for p in fresh} & {p.text for p in opened}
        again = {p.text for p in first_problems(SETS[name], name, "confirmation-2", 400)}
        assert not again & {p.text for p in (*opened, *first_problems(SETS[name], name, "confirmation", OPENED))}
    stream = training_problems(0)
    assert all(next(stream).split == "train" for _ in range(500))


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_planted_slips_are_wrong_and_their_checks_say_so(seed):
    rng = random.Random(seed)
    a, b = rng.randint(0, 99), rng.randint(1, 99)
    for equation in (f"{a}+{b}={a + b}", f"{a + b}-{b}={a}", f"{a}*7={a * 7}"):
        assert check_text(equation).endswith("ok")
        wrong = plant_slip(equation, rng)
        assert wrong != equation and check_text(wrong).endswith("no")


def test_traces_end_right_and_slips_are_not_taught():
    traces = self_checking_traces(3)
    for _ in range(50):
        trace = next(traces)
        assert trace.steps[-1] == f"\\boxed{{{trace.problem.answer}}}"
        for step, taught, check in zip(trace.steps, trace.taught, trace.steps[1:], strict=False):
            assert taught or check.endswith(" no"), (step, check)


def test_corruptions_are_about_evenly_right_and_wrong():
    pairs = [next(stream) for stream in [corrupted(5)] for _ in range(400)]
    wrong = sum(first_error(problem, steps) is not None for problem, steps in pairs)
    assert 180 < wrong < 300


def test_tokenizer_reads_back_and_agrees_with_its_pieces():
    built = pocket_tokenizer.build()
    text = "47,+38,*3=?\n\n47+38=85 ки\n85*3=255\n\n\\boxed{255} + -"
    ids = built(text)["input_ids"]
    assert built.decode(ids) == text
    assert [built.convert_ids_to_tokens(i) for i in ids] == pocket_tokenizer.pieces(text)


def test_policy_rows_teach_the_solution_only():
    example = Example(parse("3,+4=?"), ["3+4=7", "\\boxed{7}"], [True, True])
    [sequence] = policy_sequences([example])
    prompt = len(pocket_tokenizer.pieces("3,+4=?\n\n"))
    assert sequence.learn == [0] * (prompt - 1) + [1] * (len(sequence.ids) - prompt) + [0]
    assert sequence.ids[-1] == pocket_tokenizer.build().eos_token_id


@pytest.mark.parametrize("family", list(LAYOUTS))
def test_prm_rows_label_every_token_up_to_the_first_error(family):
    [sequence] = prm_sequences([(parse("3,+4=?"), ["3+4=8", "\\boxed{8}"])], LAYOUTS[family])
    built = pocket_tokenizer.build()
    labelled = [(built.convert_ids_to_tokens(i), label) for i, label in zip(sequence.ids, sequence.label) if label != 2]
    assert labelled[:4] == [("3", 1), ("+", 1), ("4", 1), ("=", 1)]
    assert {label for _, label in labelled[4:]} == {0}


def test_packing_keeps_documents_apart():
    stream = policy_sequences(self_checking_traces(0))
    corpus = pack(stream, 5000, "test")
    document = corpus["document"]
    assert corpus["ids"].shape[1] == ROW and (document > 0).sum() >= 5000
    starts = corpus["position"] == 0
    changed = (document[:, 1:] != document[:, :-1]) & (document[:, 1:] > 0)
    assert (starts[:, 1:][document[:, 1:] > 0] == changed[document[:, 1:] > 0]).all()


def results_of(name):
    return read_card(POCKET_FOLDER / name)["results"]


def test_the_committed_policies_span_what_the_documentation_says():
    greedy = [results_of(name)["pocket-main greedy"] for name in FAMILY]
    assert greedy == sorted(greedy) and greedy[0] <= 0.15 and greedy[-1] >= 0.85
    assert all(b - a <= 0.30 for a, b in zip(greedy, greedy[1:]))
    page = (POCKET_FOLDER.parent.parent / "docs" / "pocket_family.md").read_text()
    for name, value in zip(FAMILY, greedy):
        assert f"| `{name}` | {read_card(POCKET_FOLDER / name)['parameters']:,} | {100 * value:.1f} % |" in page


def test_the_committed_prms_span_weak_to_strong():
    f1 = {name: results_of(name)["localisation F1"] for name, recipe in PRMS.items() if recipe.domain == "arithmetic"}
    f1 |= {f"implicit:{name}": results_of(name)["as implicit PRM"]["localisation F1"] for name in FAMILY}
    assert min(f1.values()) <= 0.45 and max(f1.values()) >= 0.80
    root = POCKET_FOLDER.parent.parent
    tables = "".join((root / "docs" / name).read_text() for name in ("pocket_family.md", "pocket_prms.md"))
    for name in f1.keys() & PRMS.keys():
        assert f"| `{name}` | {read_card(POCKET_FOLDER / name)['parameters']:,} | {f1[name]:.2f} |" in tables


def test_committed_weights_have_the_shape_of_their_recipes():
    for name in [*POLICIES, *PRMS]:
        stored = AutoConfig.from_pretrained(POCKET_FOLDER / name)
        recipe = POLICIES[name] if name in POLICIES else POLICIES[PRMS[name].start]
        layers = recipe.layers + (PRMS[name].extra_layers if name in PRMS else 0)
        width = recipe.width + (WIDER if isinstance(PRMS.get(name), ComparingPRMRecipe) else 0)
        assert (stored.hidden_size, stored.num_hidden_layers) == (width, layers)


@pytest.mark.parametrize("domain", ["arithmetic", *FURTHER])
def test_the_solutions_that_prms_are_judged_on_are_labelled_by_the_checker(domain):
    of, policies = DOMAINS[domain], family(domain)
    for split, each in (("validation", 18 * len(policies)), ("test", 37 * len(policies))):
        solutions_of = labelled.read(split, of.task.name)
        for s in solutions_of:
            error = of.first_error(of.parse(s.problem), s.steps)
            assert s.first_error == (-1 if error is None else error[0])
        wrong = sum(s.first_error >= 0 for s in solutions_of)
        assert wrong >= each and len(solutions_of) - wrong >= each
        assert {s.policy for s in solutions_of} == set(policies)
    texts = [{s.problem for s in labelled.read(split, of.task.name)} for split in ("validation", "test")]
    assert not texts[0] & texts[1]

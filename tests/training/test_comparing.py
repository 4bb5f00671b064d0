"""PRMs that compare what a policy expected with what was written: how they start, and what they are taught."""

import pytest
import torch
from transformers import LlamaForCausalLM

from tts.models.files import POCKET_FOLDER
from tts.tasks import pocket_tokenizer
from tts.tasks.pocket_problems import parse
from tts.training.loop import Schedule, train
from tts.training.pocket.build import corpus_batches, new_prm
from tts.training.pocket.comparing import SYMBOLS, comparing_loss, labelled_up_to_the_error, mark_id
from tts.training.pocket.corpora import LAYOUTS, UNLABELLED, Sequence, pack, prm_sequences
from tts.training.pocket.recipes import ROWS_PER_BATCH, ComparingPRMRecipe

FAMILIES = ("qwen-prm", "math-shepherd")
START, NARROW = "policy-20k", 24
VOCABULARY = pocket_tokenizer.build().get_vocab()


def recipe(family):
    return ComparingPRMRecipe(family, START, 2, None, 1000, ())


def test_after_the_first_wrong_token_only_marks_have_a_label():
    ids, mark = [9, 9, 5, 9, 9, 9, 5, 9, 5], 5
    labels = [UNLABELLED, 1, 1, 1, 0, 0, 0, 0, 0]
    [kept] = labelled_up_to_the_error([Sequence(ids, [0] * 9, labels)], mark)
    assert kept.label == [UNLABELLED, 1, 1, 1, 0, UNLABELLED, 0, UNLABELLED, 0] and kept.ids == ids
    [right] = labelled_up_to_the_error([Sequence(ids, [0] * 9, [1] * 9)], mark)
    assert right.label == [1] * 9


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mark_is_labelled_by_the_checker(family):
    sequences = prm_sequences([(parse("47,+38=?"), ["47+38=95", "\\boxed{95}"])], LAYOUTS[family])
    [sequence] = labelled_up_to_the_error(sequences, mark_id(family))
    of_marks = [label for token, label in zip(sequence.ids, sequence.label) if token == mark_id(family)]
    assert of_marks == [0, 0] and sequence.label.count(0) == 3  # the other one is the 9 of 95
    assert sequence.ids[sequence.label.index(0)] == VOCABULARY["9"]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_starts_as_the_policy_that_compares_each_token_with_what_it_expected(family):
    policy = LlamaForCausalLM.from_pretrained(POCKET_FOLDER / START)
    model = new_prm(recipe(family), POCKET_FOLDER).eval()
    symbols = torch.tensor([VOCABULARY[text] for text in SYMBOLS])
    written = [VOCABULARY[piece] for piece in pocket_tokenizer.pieces("47,+38=?\n\n47+38")]
    ids = torch.cat([torch.tensor(written).expand(len(symbols), -1), symbols[:, None]], 1)  # each symbol as the next one
    read, count = {}, len(SYMBOLS)
    comparing = model.model.layers[-2]
    comparing.register_forward_pre_hook(lambda _, inputs: read.__setitem__("predicted", inputs[0]))
    comparing.self_attn.register_forward_hook(lambda _, inputs, output: read.__setitem__("fetched", output[0]))
    model.model.layers[-1].register_forward_pre_hook(lambda _, inputs: read.__setitem__("compared", inputs[0]))
    with torch.no_grad():
        model.model(ids)
        expected = policy(ids[:1, :-1]).logits[0, -1, symbols]
        predicted = model.model.norm(read["predicted"])[0, -2] @ model.model.embed_tokens.weight[symbols].T
    torch.testing.assert_close(predicted, expected, rtol=0.02, atol=0.05)
    centred = expected - expected.mean()
    fetched = read["fetched"][0, -1, NARROW + count : NARROW + 2 * count]
    torch.testing.assert_close(fetched, 0.3 * centred, rtol=0.05, atol=0.05)
    likelihood = read["compared"][:, -1, NARROW + 2 * count]
    clear = centred.abs() > 0.5
    assert SYMBOLS[likelihood.argmax()] == "=" and (likelihood[clear].sign() == centred[clear].sign()).all()


@pytest.mark.parametrize("family", [FAMILIES[0], pytest.param(FAMILIES[1], marks=pytest.mark.torture)])
def test_training_lowers_the_loss_of_its_stages(family, tmp_path):
    solutions = [(parse("47,+38=?"), steps) for steps in (["47+38=85", "\\boxed{85}"], ["47+38=95", "\\boxed{95}"])]
    sequences = list(labelled_up_to_the_error(prm_sequences(solutions, LAYOUTS[family]), mark_id(family)))
    batches = corpus_batches(pack(sequences * 10 * ROWS_PER_BATCH, 256 * ROWS_PER_BATCH, "test"), seed=0)
    model = new_prm(recipe(family), POCKET_FOLDER)
    loss = comparing_loss(family, model)
    before = loss(model, batches[0]).item()
    train(model, loss, batches, Schedule(20, 4e-3, warmup=2), tmp_path, "test", "tiny", compile=False)
    assert loss(model, batches[0]).item() < 0.7 * before

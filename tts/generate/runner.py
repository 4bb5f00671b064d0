"""Fills the store with what a grid asks for: here, in processes side by side (:mod:`tts.generate.local_pool`), or on a cluster."""

import os
from collections import deque
from collections.abc import Iterator
from itertools import groupby

from tqdm.auto import tqdm

from tts.generate import local_pool
from tts.generate.chunks import Engines, inputs_of, make_together, warn
from tts.generate.grid import Grid
from tts.generate.work import Announce, Made, OnTokens, Work, goes_with
from tts.policies import DEFAULT, check_ready
from tts.reward_models import check_reads
from tts.search.registry import is_search
from tts.store import imported
from tts.store.run_spec import RunSpec
from tts.store.store import Store, StoreError


def missing(grid: Grid, store: Store) -> list[Work]:
    """The grid's chunks that the store does not hold, in the order in which they are to be made.

    Of a policy's runs the searches come first: they follow one another, and who cannot go on with them samples and scores pools.
    """
    return [
        Work(spec, chunk)
        for _, of_policy in groupby(grid.specs(), key=lambda spec: spec.policy.name)
        for spec in sorted(of_policy, key=lambda spec: not is_search(spec.method))
        for name in grid.problems
        for chunk in grid.chunks(name)
        if not store.run(spec).has(chunk)
    ]


def fill(grid: Grid, store: Store, *more: Grid) -> int:
    """Makes what is missing of one or more grids, after another process that writes to the store; returns how many chunks that were.

    Only this process writes chunks. Stopping it at any moment loses the chunks under way only.
    Raises ``ValueError`` where a PRM cannot read the problems, before anything is made.
    """
    grids = (grid, *more)
    work = list({store.run(item.spec).path(item.chunk): item for grid in grids for item in missing(grid, store)}.values())
    if not work:
        return 0
    if gone := next((item.spec for item in work if item.spec.elsewhere), None):
        raise StoreError(f"{gone} was imported and is no longer in {store.folder}; import its files again")
    for task in {one.task for one in grids}:
        task.check_ready()
    for name in dict.fromkeys(item.spec.policy.name for item in work if item.spec.method != "scores"):
        check_ready(name)
    for name in dict.fromkeys(item.spec.guide for item in work if item.spec.prm):
        problems = {problem["problem"]: problem for item in work if item.spec.guide == name for problem in item.chunk}
        check_reads(name, list(problems.values()))
    with store.lock(wait=True):  # notebooks run side by side, and what one makes another may need
        for item in work:
            if store.run(item.spec).path(item.chunk).exists():
                store.open(item.spec)  # the run's note was lost, and is all that is missing
        left = [item for item in work if not store.run(item.spec).has(item.chunk)]
        with (
            tqdm(total=len(work), initial=len(work) - len(left), desc="study", unit="chunk", smoothing=0) as bar,
            tqdm(desc="tokens", unit="token", unit_scale=True, leave=False, delay=2) as tokens,
        ):
            specs = [spec for grid in grids for spec in grid.specs()]
            for made in _made(left, specs, store, lambda item: bar.set_postfix_str(str(item.spec)), tokens.update):
                run = store.open(made.work.spec)
                run.write(made.work.chunk, made.rows, made.seconds, made.limits, made.steps, made.unread, made.clock)
                warn(made.warnings)
                bar.update()
    return len(work)


def _made(work: list[Work], specs: list[RunSpec], store: Store, announce: Announce, on_tokens: OnTokens) -> Iterator[Made]:
    """Makes chunks, in an order of its own; the caller stores each before it asks for the next."""
    if os.environ.get(local_pool.CLUSTER):
        from tts.generate import ray_pool  # which needs a package of its own

        yield from ray_pool.make_all(work, store, announce, on_tokens)
    elif (size := local_pool.side_by_side(specs))[0] > 1:
        with local_pool.Processes(min(size[0], len(work)), size[1]) as processes:
            yield from processes.make(work, store, announce, on_tokens)
    else:
        engines = Engines()
        left = deque(work)
        while left:
            items = [left.popleft()]
            while left and goes_with(items, left[0]):
                items.append(left.popleft())
            for item in items:
                announce(item)
            yield from make_together(items, [inputs_of(item, store) for item in items], engines, on_tokens)


def describe(grid: Grid, store: Store) -> str:
    """What will run, in two lines, and a line for each thing that an engine could not do for what is stored."""
    specs, left = list(grid.specs()), len(missing(grid, store))
    total = len(specs) * sum(len(grid.chunks(name)) for name in grid.problems)
    policies = f"{len(grid.policies)} {'policy' if len(grid.policies) == 1 else 'policies'}"
    prms = f"{len(grid.prms)} {'PRM' if len(grid.prms) == 1 else 'PRMs'}"
    sets = ", ".join(f"{count} of {name} ({grid.split})" for name, count in grid.problems.items())
    lines = [
        f"{policies}, {prms}, methods {', '.join(grid.methods)}, N = {', '.join(map(str, grid.budgets))}, problems: {sets}",
        f"{total - left} of {total} chunks are stored in {store.folder}; {left} will run",
        *(f"{spec.policy.name}: {limit}" for spec in specs if spec.engine.name != DEFAULT for limit in store.run(spec).limits()),
    ]
    if grid.subsets == "first":
        lines.append("accuracies are those of the first N samples, not the expectation over subsets of N")
    for policy in filter(imported.is_imported, grid.policies):
        lines += imported.of(grid.problems, policy).repeated(policy, grid.seed)
    return "\n".join(dict.fromkeys(lines))

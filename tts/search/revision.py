"""Sequential revision: the policy sees its last attempts and answers again."""

from tts.search.base import Candidate, Revise, Sample, Search
from tts.search.registry import Constant, Method, Settings

SEQUENTIAL = Constant("sequential", 4, 1, 1 << 10)


def sequential_revision(root: Candidate, n: int, sequential: float = SEQUENTIAL.default) -> Search:
    """Chains of ``sequential`` attempts, ``n / sequential`` of them side by side (Snell et al. 2024, section 6; Madaan et al. 2023).

    The first attempt of each chain is a plain sample. For each next one the policy is shown the chain's attempts, as many as fit its
    prompt, and asked to look for an error and to solve the problem again. With ``sequential = 1`` it is the pool of samples.

    Returns all attempts that ended, chain by chain, for a vote over all of them. Raises ValueError unless ``sequential`` divides ``n``, or
    ``n`` is less: then there is one chain of ``n``.
    """
    length = check(n, int(sequential))
    [attempts] = yield Sample([root], n // length, whole=True)
    chains = [[attempt] for attempt in attempts]
    for _ in range(length - 1):
        turns = yield Revise([chain[-1] for chain in chains])
        following = yield Sample(turns, 1, whole=True)
        for chain, [attempt] in zip(chains, following):
            chain.append(attempt)
    return [attempt for chain in chains for attempt in chain if attempt.status == "finished"]


def check(n: int, sequential: int) -> int:
    """The length of a chain; ValueError where chains of it do not make up ``n``."""
    length = min(n, sequential)
    if n % length:
        raise ValueError(f"the budget N must be a multiple of sequential, or less; given N = {n}, sequential = {sequential}")
    return length


def _check(n: int, settings: Settings) -> None:
    check(n, int(settings.constants.get("sequential", SEQUENTIAL.default)))


REVISION = Method(
    "revision",
    "Revision",
    "#1b7837",
    "p",
    lambda root, n, settings: sequential_revision(root, n, settings.constants["sequential"]),
    guided=False,
    select="majority",
    constants=(SEQUENTIAL,),
    check=_check,
    rereads=True,
)

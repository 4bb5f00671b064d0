"""The pocket family as data: which policies and PRMs there are, and what each is made of."""

from dataclasses import dataclass, replace

from tts.tasks.pocket_problems import Style
from tts.training.pocket.domains import DOMAINS

POLICY_TOKENS = 12_000_000
ROWS_PER_BATCH = 16


@dataclass(frozen=True)
class PolicyRecipe:
    """One policy: a Llama of this shape, trained on the family's tokens and schedule."""

    width: int  # hidden size
    layers: int
    heads: int  # of size 32, the smallest that vLLM runs (so attention may be wider than ``width``)
    inner: int  # size of the feed-forward layer
    seed: int = 0  # of the weights and of the order of the data
    long: bool = False  # whether it is trained on self-checking traces instead of plain solutions
    domain: str = "arithmetic"  # of :data:`.domains.DOMAINS`

    @property
    def peak_learning_rate(self) -> float:
        """The same rule for every size: falling with the root of the width."""
        return 8e-3 * (32 / self.width) ** 0.5


_SIZES = {
    "policy-6k": PolicyRecipe(width=16, layers=2, heads=1, inner=16),
    "policy-10k": PolicyRecipe(width=16, layers=3, heads=1, inner=24),
    "policy-20k": PolicyRecipe(width=24, layers=3, heads=1, inner=48),
    "policy-32k": PolicyRecipe(width=32, layers=3, heads=1, inner=64),
    "policy-51k": PolicyRecipe(width=40, layers=3, heads=1, inner=96),
    "policy-94k": PolicyRecipe(width=48, layers=3, heads=2, inner=128),
    "policy-216k": PolicyRecipe(width=64, layers=4, heads=2, inner=192),
    "policy-668k": PolicyRecipe(width=96, layers=6, heads=3, inner=256),
}
FAMILY = tuple(_SIZES)  # the policies that differ in size only, smallest first
FURTHER = ("puzzles", "code", "chemistry")  # domains beside arithmetic whose models come with the suite
_LETTERS = {"6k": "7k", "10k": "11k", "32k": "34k", "94k": "97k", "216k": "220k", "668k": "674k"}  # of which sizes letters make which


def _further(domain: str) -> dict[str, PolicyRecipe]:
    """A further domain's policies: six sizes, and a second seed of one."""
    found = {}
    for size, letters in _LETTERS.items():
        for seed in range(1 + (size == "10k")):
            name = f"policy-{domain}-{letters if DOMAINS[domain].letters else size}" + "-seed1" * seed
            found[name] = replace(_SIZES[f"policy-{size}"], domain=domain, seed=seed)
    return found


POLICIES: dict[str, PolicyRecipe] = (
    _SIZES
    | {f"{name}-long": replace(_SIZES[name], long=True) for name in ("policy-51k", "policy-94k")}
    | {f"{name}-seed1": replace(_SIZES[name], seed=1) for name in FAMILY[:3]}
    | {name: recipe for domain in FURTHER for name, recipe in _further(domain).items()}
)


def family(domain: str) -> tuple[str, ...]:
    """A domain's policies that differ in size only, smallest first."""
    return tuple(name for name, recipe in POLICIES.items() if recipe.domain == domain and not recipe.seed and not recipe.long)


@dataclass(frozen=True)
class PRMRecipe:
    """One discriminative PRM: a policy's lower layers, some more on top, and a label for every token."""

    family: str  # published family whose format it is stored in
    start: str  # policy that gives embeddings and lower layers
    extra_layers: int
    style: Style | None  # only step style in its synthetic training solutions; None mixes both
    tokens: int
    samples_from: tuple[str, ...]  # policies whose own solutions make up a part of the training data
    seed: int = 0  # of the new weights and of the data
    own: float = 0.25  # that part
    solutions: int = 8_000  # of each policy, two a problem

    @property
    def peak_learning_rate(self) -> float:
        """Half of what the policy that it starts from was trained with."""
        return POLICIES[self.start].peak_learning_rate / 2

    @property
    def samples(self) -> tuple[int, float, int]:
        """Of each policy: number of solutions, temperature, and seed of the problems."""
        return self.solutions, 1.0, 1

    @property
    def domain(self) -> str:
        return POLICIES[self.start].domain


@dataclass(frozen=True)
class ComparingPRMRecipe(PRMRecipe):
    """A PRM of :mod:`tts.training.pocket.comparing`, trained on policies' own solutions only; ``style`` and ``extra_layers`` are fixed."""

    own: float = 1.0
    solutions: int = 40_000

    @property
    def samples(self) -> tuple[int, float, int]:
        return self.solutions, 0.8, 11


PRMS: dict[str, PRMRecipe] = {
    "prm-qwen-28k": PRMRecipe("qwen-prm", "policy-20k", 1, None, 6_000_000, FAMILY[:3]),
    "prm-qwen-54k": PRMRecipe("qwen-prm", "policy-32k", 2, None, 12_000_000, FAMILY[:4]),
    "prm-shepherd-terse": PRMRecipe("math-shepherd", "policy-94k", 1, "terse", 8_000_000, ()),
    "prm-shepherd-verbose": PRMRecipe("math-shepherd", "policy-94k", 1, "verbose", 8_000_000, ()),
    "prm-qwen-328k": PRMRecipe("qwen-prm", "policy-216k", 2, None, 16_000_000, FAMILY[:7]),
    "prm-qwen-139k-own": ComparingPRMRecipe("qwen-prm", "policy-32k", 2, None, 10_000_000, FAMILY[:4]),
    "prm-shepherd-188k-own": ComparingPRMRecipe("math-shepherd", "policy-51k", 2, None, 10_000_000, FAMILY[1:6]),
}
# Of each domain's small PRM and its large one: tokens, and solutions of each policy that they learn from.
_LEARNT = {
    "puzzles": ((30_000_000, 200_000), (16_000_000, 60_000)),
    "code": ((16_000_000, 60_000), (16_000_000, 60_000)),
    "chemistry": ((16_000_000, 60_000), (40_000_000, 160_000)),
}
for _domain in FURTHER:  # two PRMs that learn from policies' samples, and one from corruptions alone, for contrast
    _sizes = ("11k", "34k", "97k", "46k", "128k") if DOMAINS[_domain].letters else ("10k", "32k", "94k", "42k", "125k")
    (_tokens, _solutions), (_more_tokens, _more_solutions) = _LEARNT[_domain]
    _10k, _32k, _94k = (f"policy-{_domain}-{size}" for size in _sizes[:3])
    _small, _large = (f"prm-{_domain}-{size}" for size in _sizes[3:])
    PRMS |= {
        _small: PRMRecipe("qwen-prm", _32k, 1, None, _tokens, (_10k, _32k), own=0.5, solutions=_solutions),
        f"{_small}-synthetic": PRMRecipe("qwen-prm", _32k, 1, None, 10_000_000, (), own=0.0),
        _large: PRMRecipe("math-shepherd", _94k, 1, None, _more_tokens, (_10k, _32k, _94k), own=0.5, solutions=_more_solutions),
    }

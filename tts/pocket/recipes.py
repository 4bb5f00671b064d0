"""The pocket family as data: which policies and PRMs there are, and what each is made of."""

from __future__ import annotations

from dataclasses import dataclass

POLICY_TOKENS = 12_000_000
ROWS_PER_BATCH = 32


@dataclass(frozen=True)
class PolicyRecipe:
    """One policy: a Llama of this shape (heads of 32), trained on the family's tokens and schedule.

    Attributes:
        width: hidden size.
        layers: number of layers.
        heads: attention heads of size 32 (so the attention may be wider or narrower than ``width``).
        inner: size of the feed-forward layer.
        seed: of the weights and the order of the data.
        long: trained on self-checking traces instead of plain solutions.
    """

    width: int
    layers: int
    heads: int
    inner: int
    seed: int = 0
    long: bool = False

    @property
    def peak_learning_rate(self) -> float:
        """The same rule for every size: falling with the root of the width."""
        return 4e-3 * (32 / self.width) ** 0.5


POLICIES: dict[str, PolicyRecipe] = {
    "policy-22k": PolicyRecipe(width=32, layers=2, heads=1, inner=64),
    "policy-94k": PolicyRecipe(width=48, layers=3, heads=2, inner=128),
    "policy-163k": PolicyRecipe(width=64, layers=3, heads=2, inner=192),
    "policy-446k": PolicyRecipe(width=96, layers=4, heads=3, inner=256),
    "policy-808k": PolicyRecipe(width=128, layers=4, heads=4, inner=352),
    "policy-2.4m": PolicyRecipe(width=224, layers=4, heads=7, inner=608),
    "policy-163k-long": PolicyRecipe(width=64, layers=3, heads=2, inner=192, long=True),
    "policy-446k-long": PolicyRecipe(width=96, layers=4, heads=3, inner=256, long=True),
    "policy-22k-seed1": PolicyRecipe(width=32, layers=2, heads=1, inner=64, seed=1),
    "policy-94k-seed1": PolicyRecipe(width=48, layers=3, heads=2, inner=128, seed=1),
    "policy-163k-seed1": PolicyRecipe(width=64, layers=3, heads=2, inner=192, seed=1),
}


@dataclass(frozen=True)
class PRMRecipe:
    """One discriminative PRM: a policy's lower layers, some more on top, and a label for every token.

    Attributes:
        family: the published family whose format it is stored in.
        start: the policy that gives embeddings and lower layers.
        extra_layers: new layers on top of them.
        style: the only step style in its synthetic training solutions; None mixes both.
        tokens: training tokens.
        samples_from: policies whose own solutions make up a quarter of the training data.
        seed: of the new weights and the data.
    """

    family: str
    start: str
    extra_layers: int
    style: str | None
    tokens: int
    samples_from: tuple[str, ...]
    seed: int = 0


_SMALL = ("policy-22k", "policy-94k", "policy-163k")

PRMS: dict[str, PRMRecipe] = {
    "prm-qwen-1.2m": PRMRecipe("qwen-prm", "policy-808k", 2, None, 16_000_000, (*_SMALL, "policy-446k", "policy-808k")),
    "prm-shepherd-terse": PRMRecipe("math-shepherd", "policy-446k", 1, "terse", 8_000_000, ()),
    "prm-shepherd-verbose": PRMRecipe("math-shepherd", "policy-446k", 1, "verbose", 8_000_000, ()),
    "prm-qwen-small": PRMRecipe("qwen-prm", "policy-163k", 2, None, 10_000_000, _SMALL),
}
SAMPLES_PER_POLICY = 8_000

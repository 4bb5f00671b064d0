"""Search methods, one file each, and the driver that runs many searches at once."""

from tts.search.ab_mcts import AB_MCTS, ab_mcts
from tts.search.adaptive import ADAPTIVE, EARLY_STOPPING
from tts.search.beam_search import BEAM_SEARCH, beam_search
from tts.search.best_of_n import BEST_OF_N, COT, MAJORITY, PASS, best_of_n, sample_pool
from tts.search.budget_forcing import BUDGET_FORCING, budget_forcing
from tts.search.confidence import CONFIDENCE_VOTES
from tts.search.dvts import DVTS, dvts
from tts.search.lookahead import LOOKAHEAD_SEARCH, lookahead_search
from tts.search.mcts import MCTS, mcts
from tts.search.particle_filter import PARTICLE_FILTER, particle_filter
from tts.search.rebase import REBASE, rebase
from tts.search.registry import method_of, register
from tts.search.revision import REVISION, sequential_revision

# A new method is one file beside these and one name here.
for _method in (
    COT,
    PASS,
    MAJORITY,
    BEST_OF_N,
    BEAM_SEARCH,
    DVTS,
    REBASE,
    PARTICLE_FILTER,
    MCTS,
    LOOKAHEAD_SEARCH,
    AB_MCTS,
    ADAPTIVE,
    EARLY_STOPPING,
    *CONFIDENCE_VOTES,
    REVISION,
    BUDGET_FORCING,
):
    register(_method)

__all__ = [
    "ab_mcts",
    "beam_search",
    "budget_forcing",
    "best_of_n",
    "dvts",
    "lookahead_search",
    "mcts",
    "method_of",
    "particle_filter",
    "rebase",
    "register",
    "sample_pool",
    "sequential_revision",
]

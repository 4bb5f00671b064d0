"""Search methods, one file each, and the driver that runs many searches at once."""

from tts.search.base import Candidate, Sample, Score, Search
from tts.search.beam_search import beam_search
from tts.search.best_of_n import best_of_n, sample_pool
from tts.search.dvts import dvts

# A new method is one file beside these and one line here.
METHODS = {"best_of_n": best_of_n, "beam_search": beam_search, "dvts": dvts}

__all__ = ["METHODS", "Candidate", "Sample", "Score", "Search", "beam_search", "best_of_n", "dvts", "sample_pool"]

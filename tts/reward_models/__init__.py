"""Process reward models, one file per family; what does not exist, cannot be loaded or is refused raises :class:`ModelError`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name

from tokenizers import Tokenizer

from tts import policies
from tts.common.names import listed
from tts.models.files import folder_of, guarded, load_config, named_folder, read_card, read_json
from tts.models.hub import ModelError
from tts.models.locate import locate
from tts.policies import IMPORTED, address_in, model_of
from tts.policies.openai import Address
from tts.reward_models import rules
from tts.reward_models.asked import FORMS, Asked
from tts.reward_models.dial import DialledChecker, rates
from tts.search.driver import RewardModel
from tts.tasks import task_in, task_named
from tts.tasks.base import Task
from tts.tasks.prompts import template_options, unknown_id

# A new family is one file beside these and one line here. Imported when first used, as they import torch.
FAMILIES = {
    "math-shepherd": "tts.reward_models.math_shepherd:MathShepherd",
    "qwen-prm": "tts.reward_models.qwen_prm:QwenPRM",
    "rlhflow": "tts.reward_models.rlhflow:RLHFlow",
    "skywork": "tts.reward_models.skywork:Skywork",
    "step-head": "tts.reward_models.step_head:StepHead",
    "implicit": "tts.reward_models.implicit:ImplicitPRM",
    "token-classification": "tts.reward_models.token_classification:TokenClassification",
    "orm": "tts.reward_models.outcome:OutcomeReward",
    "judge": "tts.reward_models.judge:DirectJudge",
}
JUDGE = "judge"
WHOLE = ("orm", JUDGE)  # those that give a whole solution one score, and serve no search
_BUILT_IN = frozenset(FAMILIES) - {"implicit", JUDGE}  # those that a card can contradict
DIAL, RULE = "dial", "rule"  # families of those that are no models
VLLM = "vllm:"
MOST_UNKNOWN = 0.05  # share of a PRM's tokens; a policy may write a stray sign
FEWEST = 200  # tokens of solutions before they are judged: in a single step, a stray sign is no small share


class UnreadableError(ModelError):
    """A PRM that cannot read what it is asked to score: to it all solutions look alike, and its scores mean nothing."""


def register_family(name: str, place: str) -> None:
    """Adds a family at ``place`` (``module:Class``) to :data:`FAMILIES` for this process; raises ``ValueError`` where its name is taken."""
    if FAMILIES.setdefault(name, place) != place:
        raise ValueError(f"there is a PRM family {name!r} already; choose another name")


def open_prm(name: str, batch: int = 64, share: float = 1.0, task: Task | None = None) -> RewardModel:
    """Opens a PRM by name; one whose scores do not depend on its input is refused.

    ``name`` is a pocket PRM, a folder, a Hub name; ``implicit:NAME`` takes any causal LM's likelihood; ``FAMILY:NAME`` says the family
    where it cannot be told; ``judge:POLICY?verdicts=8`` asks any policy (:class:`tts.reward_models.judge.Asked`);
    ``dial:FALSE_POSITIVE,FALSE_NEGATIVE`` is the exact step checker of the pocket problems with those error rates, ``tests:public`` or the
    like a task's rule; ``vllm:NAME`` runs a PRM by vLLM, ``FAMILY:http://HOST:PORT/v1#MODEL`` by a vLLM server.

    A forward pass has ``batch`` rows; caches are reckoned from a ``share`` of the device's memory. ``task`` is that of the problems, for
    PRMs that read what a policy would or check steps; by default mathematics, or for the checker the pocket problems.
    """
    family, location = family_of(name)
    if family == DIAL:
        return DialledChecker(name, task)
    if family == RULE:
        return rules.RuleVerifier(name, task or task_named(rules.owners(name)[0]))
    if family == IMPORTED:
        raise ModelError(f"{name} was imported: there are its stored scores, and no model that could give others")
    from tts.reward_models.base import StepScorer, check_responds

    asked = {}
    if family == JUDGE:
        from tts.reward_models.judge import SampledJudge

        if (judge := Asked.of(name)).form == "genprm":
            return resolve_name("tts.reward_models.dialogue:DialogueJudge")(name, batch, task or task_named("maths"))
        if judge.verdicts:
            return SampledJudge(name, batch, task or task_named("maths"))
        asked = template_options(judge.policy)
    elif name.startswith(VLLM) or address_in(name):
        return check_responds(_by_vllm(name, family, location, batch))
    opened = resolve_name(FAMILIES[family])(location, **asked)
    if task and hasattr(opened.render, "task"):  # it reads what a policy would
        opened.render.task = task
    context = int(getattr(opened.backbone.config, "max_position_embeddings", 1 << 30))
    scorer = resolve_name("tts.reward_models.whole:WholeScorer") if family in WHOLE else StepScorer
    return check_responds(scorer(name, opened, batch, context, share=share))


def scores_whole(name: str) -> bool:
    """Whether a verifier gives whole solutions one score, as far as its name or its folder's config tells."""
    folder = named_folder(name)
    declared = (read_json(folder / "config.json").get("architectures") or [""])[0] if folder else ""
    return name.partition(":")[0] in WHOLE or declared.endswith("ForSequenceClassification")


def only_whole(name: str, searches: Sequence[str] = ()) -> str:
    """Why a verifier of whole solutions serves no search, in words."""
    asked, many = ", ".join(searches) or "a search", len(searches) > 1
    told = f"need{'' if many else 's'} scores of steps: leave {'them' if many else 'it'} out of methods, or take another PRM"
    return f"{name} scores whole solutions only; {asked} {told}"


def can_score(name: str, task: Task) -> bool:
    """Whether a PRM has scores for a task's problems: an exact checker has none where the task cannot check steps, a rule only its own."""
    return (not name.startswith(f"{DIAL}:") or rules.can_check_steps(task)) and (not rules.owners(name) or name in task.rules)


def is_model(name: str) -> bool:
    """Whether a PRM has weights, and costs FLOPs; a dialled checker and a rule do not."""
    return not name.startswith(f"{DIAL}:") and not rules.owners(name)


def check_reads(name: str, problems: Sequence[Mapping]) -> None:
    """Raises ``ModelError`` or ``ValueError`` for a PRM that cannot read the problems of a set, or check their steps; loads no weights."""
    family, location = family_of(name)
    texts = [problem["problem"] for problem in problems]
    if family == DIAL:
        DialledChecker(name, task_in(problems)).score([("", text) for text in texts], [()] * len(texts))
    elif family == RULE:
        rules.check(name, task_in(problems))
    elif family != IMPORTED and not (family == JUDGE and address_in(name)):
        # By the tokenizer's file alone, since transformers takes seconds to import; without such a file the scorer checks as it reads.
        location = locate(model_of(location))
        path = folder_of(location) / "tokenizer.json"
        if path.exists():
            compiled = guarded(location, lambda: Tokenizer.from_file(str(path)))
            rows = [encoding.ids for encoding in compiled.encode_batch_fast(texts, add_special_tokens=False)]
            counts = [ids.count(unknown_id(compiled)) for ids in rows]
            check_share(name, sum(counts), sum(map(len, rows)), texts[counts.index(max(counts))])


def check_share(name: str, unknown: int, tokens: int, example: str) -> None:
    """Raises :class:`UnreadableError` where too many of a PRM's tokens stand for text that its tokenizer does not know."""
    if unknown > MOST_UNKNOWN * tokens:
        raise UnreadableError(
            f"the PRM {name} cannot read its input: its tokenizer does not know {unknown / tokens:.0%} of the tokens, as in "
            f"{example[:80]!r}; give one that does with -p prm=FAMILY:MODEL"
        )


def _by_vllm(name: str, family: str, location: str, batch: int) -> RewardModel:
    from tts.reward_models.vllm import GOOD, PassScorer, served, started

    if family not in GOOD:
        raise ModelError(f"vLLM does not run PRMs of the family {family} here, only {', '.join(GOOD)}; leave {VLLM!r} out of {name!r}")
    address = address_in(location)
    rendering = resolve_name(FAMILIES[family])(locate(model_of(location)), weights=False)
    read, context = served(Address.parse(address), batch) if address else started(location, family, rendering)
    return PassScorer(name, rendering, GOOD[family], read, context)


def family_of(name: str) -> tuple[str, str]:
    """A PRM's family and location, without loading it."""
    family, _, model = name.removeprefix(VLLM).partition(":")
    if family == IMPORTED:
        return IMPORTED, model
    if family == DIAL:
        rates(name)
        return DIAL, name
    if rules.owners(name):
        return RULE, name
    if family == JUDGE:
        policy = Asked.of(name).policy
        return JUDGE, address_in(policy) or locate(model_of(policy))
    if "?" in name and not address_in(name):
        raise ModelError(f"{name}: options after '?' are of policies and judges; leave them out of a PRM's name")
    if address := address_in(name):
        Address.parse(address)
        family = name.removeprefix(VLLM).removesuffix(address).rstrip(":")
    elif not model:
        family, model = "", name.removeprefix(VLLM)
    if family and family not in FAMILIES:
        raise ModelError(f"unknown PRM family {family!r} in {name!r}; known: {listed([*FAMILIES, DIAL, *rules.names()], name)}")
    location = address or locate(model)
    if family in _BUILT_IN and not address:
        _check_card(family, model, location)
    return family or _declared_family(locate(model_of(location))), location


def _check_card(family: str, model: str, location: str) -> None:
    """Raises ``ModelError`` where the card that the suite wrote of a model says another family, or that it is a policy."""
    try:
        card = read_card(location)
    except ModelError:  # a card.json of another's making
        return
    if "weights_sha256" in card and (own := card.get("family")) != family:
        told = f"a PRM of the family {own}: give {model}" if own else f"a policy: give implicit:{model} for its likelihood"
        raise ModelError(f"{model} is no PRM of the family {family}; by its card it is {told}")


def weights_of(name: str) -> str:
    """What identifies a PRM's behaviour, beside its name: a hash of its files, of a Hub model its commit; and the form of a judge."""
    if is_model(name):
        form = Asked.of(name).form if name.startswith(f"{JUDGE}:") else FORMS[0]
        return policies.weights_of(name) + (f", asked as {form}" if form != FORMS[0] else "")
    return "exact step checker" if name.startswith(f"{DIAL}:") else "rule"


def _declared_family(location: str) -> str:
    declared = read_card(location).get("family")
    if declared in FAMILIES:
        return declared
    architectures = getattr(load_config(location), "architectures", None) or []
    classes = {family: resolve_name(place) for family, place in FAMILIES.items()}
    path = Path(location).resolve()
    folder = path.parent.parent if path.parent.name == "snapshots" else path  # the Hub's cache names a model two levels up
    called = (folder.name if path.is_dir() else location).lower()
    told = [family for family, cls in classes.items() if set(cls.architectures) & set(architectures)]
    told += [family for family, cls in classes.items() if any(name in called for name in cls.names)]
    if told:
        return told[0]
    raise ModelError(
        f"cannot tell the PRM family of {location!r} from its config ({', '.join(architectures) or 'no architectures'}) or its name; "
        f"say it as FAMILY:NAME with one of {', '.join(FAMILIES)}; a model that writes its verdicts, as GenPRM, is judge:NAME?verdicts=8"
    )

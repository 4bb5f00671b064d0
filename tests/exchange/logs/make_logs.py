"""Writes the logs beside this file, by the real tools with scripted models: run once, in an environment with inspect_ai and lm_eval.

Made with inspect_ai 0.3.285 and lm_eval 0.4.13. Two epochs of three problems by inspect_ai as ``sums.eval``; the first problem,
greedily, as ``greedy.json``; and two repeats of three problems by lm-evaluation-harness, under two filters.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import answer
from inspect_ai.solver import generate
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

HERE = Path(__file__).parent
PROBLEMS = {"What is 2+2?": "4", "What is 3*5?": "15", "What is 7-9?": "-2"}
SAID = [("2+2=4\n\nANSWER: 4", "stop"), ("3*5=15\n\n\\boxed{15}", "stop"), ("7-9 is", "max_tokens")]


def inspect_log(name: str, count: int, epochs: int, temperature: float) -> None:
    outputs = [ModelOutput.from_content("mockllm/model", text, stop_reason=end) for text, end in SAID[:count] * epochs]
    for number, output in enumerate(outputs):
        output.usage = ModelUsage(input_tokens=10, input_tokens_cache_read=5, output_tokens=20 + number, total_tokens=35 + number)
    samples = [Sample(id=number, input=problem, target=gold) for number, (problem, gold) in enumerate(PROBLEMS.items())][:count]
    settings = GenerateConfig(temperature=temperature)
    data = MemoryDataset(samples)
    task = Task(dataset=data, solver=generate(), scorer=answer("line"), epochs=epochs, name="sums", config=settings)
    with TemporaryDirectory() as folder:
        suffix, model = name.rpartition(".")[2], get_model("mockllm/model", custom_outputs=outputs)
        evaluate(task, model, log_dir=folder, log_format=suffix, max_samples=1, log_realtime=False, display="none")
        [made] = Path(folder).glob(f"*.{suffix}")
        made.rename(HERE / name)


@register_model("scripted")
class Scripted(LM):
    """Says the right answer first, in another form for each problem, and then nothing of use."""

    answers = iter([" 2+2=4\n#### 4", " no idea", " It is 3*5.\n\nThe answer is 15.", " no idea", " \\boxed{-2}", " no idea"])

    def __init__(self, **given):
        super().__init__()

    @classmethod
    def create_from_arg_string(cls, *given, **named):
        return cls()

    def loglikelihood(self, requests, **named):
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood

    def generate_until(self, requests, **named):
        return [next(self.answers) for _ in requests]


def harness_log() -> None:
    first = {"function": "take_first"}
    task = {
        "task": "gsm_own",
        "dataset_path": "json",
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "regexes_to_ignore": ["(?s).*#### "]}],
        "generation_kwargs": {"until": ["Question:"], "do_sample": True, "temperature": 0.7},
        "repeats": 2,
        "num_fewshot": 0,
        "filter_list": [
            {"name": "strict-match", "filter": [{"function": "regex", "regex_pattern": "#### (\\-?[0-9]+)"}, first]},
            {"name": "flexible-extract", "filter": [{"function": "regex", "group_select": -1, "regex_pattern": "(-?[0-9]+)"}, first]},
        ],
    }
    with TemporaryDirectory() as folder:
        rows = [json.dumps({"question": problem, "answer": f"It is {gold}.\n#### {gold}"}) for problem, gold in PROBLEMS.items()]
        Path(folder, "problems.jsonl").write_text("\n".join(rows))
        task["dataset_kwargs"] = {"data_files": {"test": f"{folder}/problems.jsonl"}}
        Path(folder, "task.yaml").write_text(yaml.safe_dump(task))
        options = {"model": "scripted", "model_args": "pretrained=own/tiny-model", "tasks": f"{folder}/task.yaml", "output_path": folder}
        sys.argv = ["lm_eval", "run", *(part for name, value in options.items() for part in (f"--{name}", value)), "--log_samples"]
        cli_evaluate()
        for made in Path(folder).glob("*/*_20*"):
            kept = HERE / made.parent.name / made.name
            kept.parent.mkdir(exist_ok=True)
            if made.suffix == ".json":  # without the description of the machine, and of its folders
                told = json.loads(made.read_text())
                kept.write_text(json.dumps({name: told[name] for name in ("results", "model_name", "lm_eval_version")}, indent=2) + "\n")
            else:
                kept.write_bytes(made.read_bytes())


if __name__ == "__main__":
    inspect_log("sums.eval", 3, 2, 0.7)
    inspect_log("greedy.json", 1, 1, 0.0)
    harness_log()

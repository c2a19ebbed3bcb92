"""Shapes of well-known open models, and of any model by its configuration file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynsim._errors import InputError, check_choice
from dynsim._text_files import NotText, decoded, json_document, unpacked

# What configurations call the same thing, the most usual first.
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim", "n_embed", "model_dim", "embed_dim")
VOCABULARIES = ("vocab_size", "padded_vocab_size", "embedding_size", "n_vocab")
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth", "num_decoder_layers")
TIES = ("tie_word_embeddings", "weight_tying", "tie_embeddings", "tied_embeddings")
INSIDE = ("text_config", "llm_config", "language_config", "model", "model_args", "params", "config")
# Families whose configurations leave it out and whose readout is the embedding.
TIED_BY_DEFAULT = {
    *("gpt2", "gpt_neo", "opt", "bloom", "gemma", "gemma2", "gemma3", "gemma3_text", "bert"),
    *("roberta", "t5", "xlnet", "gpt_bigcode", "starcoder2"),
}
UNTIED_BY_DEFAULT = {
    *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "olmo", "olmo2"),
    *("phi", "phi3", "gpt_neox", "gptj", "stablelm", "deepseek_v2", "deepseek_v3"),
}


@dataclass(frozen=True)
class ModelShape:
    """Width d (embedding dimension), vocabulary size m (rows of the embedding), depth and tying.

    **Fields:**

    - `layers`: number of transformer blocks, None if unknown.
    - `tied`: whether the readout is the embedding, None if unknown.
    - `source`: where the numbers come from.
    - `tokenizer_size`: number of the tokenizer's tokens, special ones included, None if unknown.
      Rows of the embedding beyond it belong to no token and only pad the matrix.
    """

    name: str
    width: int
    vocab_size: int
    layers: int | None = None
    tied: bool | None = None
    source: str = ""
    tokenizer_size: int | None = None


def _family(
    source: str, tokenizer_size: int, tied: bool, *models: tuple[str, int, int, int]
) -> tuple[ModelShape, ...]:
    """Shapes of models with one tokenizer, each given as (name, width, rows, layers)."""
    return tuple(
        ModelShape(name, width, rows, layers, tied, source, tokenizer_size)
        for name, width, rows, layers in models
    )


# Every number below stands in the files named as its family's source; the sources of tying name
# the file with the class of the readout or with its default, which these models keep.
LITGPT = "github.com/Lightning-AI/litgpt 0.5.13, litgpt/config.py"
TORCHTUNE = "github.com/pytorch/torchtune 0.6.1, torchtune/models"
TRANSFORMERS = "github.com/huggingface/transformers 5.24.0, src/transformers/models"
QWEN = f"{TORCHTUNE}/qwen2_5/_model_builders.py; tying, tokenizer: Qwen, 2024, arXiv:2412.15115"

MODEL_SHAPES: tuple[ModelShape, ...] = (
    *_family(
        "github.com/karpathy/nanoGPT, model.py; tying: github.com/openai/gpt-2, src/model.py",
        50257,
        True,
        ("gpt2", 768, 50257, 12),
        ("gpt2-medium", 1024, 50257, 24),
        ("gpt2-large", 1280, 50257, 36),
        ("gpt2-xl", 1600, 50257, 48),
    ),
    *_family(
        "github.com/EleutherAI/pythia, models/*/pythia-*.yml; rows and tokenizer: its issue 68",
        50277,
        False,
        ("pythia-70m", 512, 50304, 6),
        ("pythia-160m", 768, 50304, 12),
        ("pythia-410m", 1024, 50304, 24),
        ("pythia-1b", 2048, 50304, 16),
        ("pythia-1.4b", 2048, 50304, 24),
        ("pythia-2.8b", 2560, 50304, 32),
        ("pythia-6.9b", 4096, 50432, 32),
        ("pythia-12b", 5120, 50688, 36),
    ),
    *_family(
        "github.com/kingoflolz/mesh-transformer-jax, configs/6B_roto_256.json and README.md; "
        f"tying: {TRANSFORMERS}/gptj/configuration_gptj.py",
        50257,
        False,
        ("gpt-j-6b", 4096, 50400, 28),
    ),
    *_family(
        f"github.com/EleutherAI/gpt-neox, configs/20B.yml; rows: {TRANSFORMERS}/gpt_neox/"
        "configuration_gpt_neox.py; tokenizer: github.com/EleutherAI/pythia, issues 68 and 115",
        50277,
        False,
        ("gpt-neox-20b", 6144, 50432, 44),
    ),
    *_family(
        "github.com/keras-team/keras-hub 0.4.1, keras_nlp/models/opt/opt_presets.py; "
        f"tying: {TRANSFORMERS}/opt/configuration_opt.py; "
        "tokenizer: github.com/facebookresearch/metaseq, issue 469",
        50265,
        True,
        ("opt-125m", 768, 50272, 12),
        ("opt-1.3b", 2048, 50272, 24),
        ("opt-6.7b", 4096, 50272, 32),
    ),
    *_family(
        "github.com/bigscience-workshop/bigscience, train/tr11-176B-ml/smaller_models/"
        "tr11e-350M-ml.slurm and tr11f-6B3-ml.slurm; "
        f"tying: {TRANSFORMERS}/bloom/configuration_bloom.py; "
        "tokenizer: model card at huggingface.co/bigscience/bloom",
        250680,
        True,
        ("bloom-560m", 1024, 250880, 24),
        ("bloom-7b1", 4096, 250880, 30),
    ),
    *_family(
        f"{TORCHTUNE}/llama2/_model_builders.py",
        32000,
        False,
        ("llama-2-7b", 4096, 32000, 32),
        ("llama-2-13b", 5120, 32000, 40),
        ("llama-2-70b", 8192, 32000, 80),
    ),
    *_family(
        f"{TORCHTUNE}/llama3_2/_model_builders.py and llama3/_tokenizer.py",
        128256,
        True,
        ("llama-3.2-1b", 2048, 128256, 16),
        ("llama-3.2-3b", 3072, 128256, 28),
    ),
    *_family(
        f"{TORCHTUNE}/llama3/_model_builders.py and _tokenizer.py",
        128256,
        False,
        ("llama-3-8b", 4096, 128256, 32),
        ("llama-3-70b", 8192, 128256, 80),
    ),
    *_family(
        f"{LITGPT}; tying: {TRANSFORMERS}/llama/configuration_llama.py",
        32000,
        False,
        ("tinyllama-1.1b", 2048, 32000, 22),
    ),
    *_family(
        f"{TRANSFORMERS}/mistral/configuration_mistral.py",
        32000,
        False,
        ("mistral-7b", 4096, 32000, 32),
    ),
    *_family(
        f"{TRANSFORMERS}/mixtral/configuration_mixtral.py",
        32000,
        False,
        ("mixtral-8x7b", 4096, 32000, 32),
    ),
    *_family(
        f"{TORCHTUNE}/gemma/_model_builders.py and _component_builders.py",
        256000,
        True,
        ("gemma-2b", 2048, 256000, 18),
        ("gemma-7b", 3072, 256000, 28),
    ),
    *_family(
        f"{TORCHTUNE}/gemma2/_model_builders.py and _component_builders.py",
        256000,
        True,
        ("gemma-2-2b", 2304, 256000, 26),
        ("gemma-2-9b", 3584, 256000, 42),
    ),
    *_family(
        QWEN,
        151665,
        True,
        ("qwen2.5-0.5b", 896, 151936, 24),
        ("qwen2.5-1.5b", 1536, 151936, 28),
        ("qwen2.5-3b", 2048, 151936, 36),
    ),
    *_family(
        QWEN,
        151665,
        False,
        ("qwen2.5-7b", 3584, 152064, 28),
        ("qwen2.5-14b", 5120, 152064, 48),
    ),
    *_family(
        "github.com/allenai/OLMo, configs/official/OLMo-1B.yaml",
        50280,
        True,
        ("olmo-1b", 2048, 50304, 16),
    ),
    *_family(
        "github.com/allenai/OLMo, configs/official/OLMo-7B.yaml",
        50280,
        False,
        ("olmo-7b", 4096, 50304, 32),
    ),
    *_family(
        "github.com/allenai/OLMo, configs/official-1124/OLMo2-7B-stage1.yaml",
        100278,
        False,
        ("olmo-2-7b", 4096, 100352, 32),
    ),
    *_family(
        f"{LITGPT}; tying: {TRANSFORMERS}/phi/configuration_phi.py; "
        "tokenizer: its added_tokens.json, copied at huggingface.co/jsacex/phi-2-qlora-lrs-5000",
        50295,
        False,
        ("phi-2", 2560, 51200, 32),
    ),
    *_family(
        "github.com/huggingface/smollm, pre-training/smollm1/config_smollm1_135M.yaml",
        49152,
        True,
        ("smollm-135m", 576, 49152, 30),
    ),
)


def model_shape(name: str) -> ModelShape:
    """The shape of a well-known open model, from its published configuration.

    Raises `InputError` with the known names.

    **Example:**

    >>> from dynsim.rules import model_shape
    >>> model_shape("gpt2").vocab_size
    50257
    """
    check_choice("preset", name, tuple(shape.name for shape in MODEL_SHAPES))
    return next(shape for shape in MODEL_SHAPES if shape.name == name)


def config_shape(path: Path) -> ModelShape:
    """The shape of the model that a config.json describes, or one in a folder.

    Width, vocabulary, depth and tying are read under the names that people give them, at the top
    or inside a text model's own part. Where tying is left out, the model's family says it if it is
    known.

    Raises `InputError` for a file that cannot be read and for one without width or vocabulary.

    **Example:**

    >>> import json
    >>> from pathlib import Path
    >>> from dynsim.rules import config_shape
    >>> _ = Path("config.json").write_text(json.dumps({"hidden_size": 512, "vocab_size": 8000}))
    >>> shape = config_shape(Path("config.json"))
    >>> shape.width, shape.vocab_size
    (512, 8000)
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        document = json_document(decoded(unpacked(file)))
    except (OSError, ValueError) as error:
        if isinstance(error, (json.JSONDecodeError, NotText)):
            reason = "is no JSON"
        else:
            reason = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError("config", str(path), reason) from None
    if not isinstance(document, dict):
        raise InputError("config", str(path), "must hold an object, as a config.json does")
    parts = [document, *(document[key] for key in INSIDE if isinstance(document.get(key), dict))]
    width = _integer(path, parts, WIDTHS, "width")
    vocab_size = _integer(path, parts, VOCABULARIES, "vocabulary")
    layers = next((part[k] for part in parts for k in DEPTHS if isinstance(part.get(k), int)), None)
    name = str(document.get("_name_or_path") or document.get("model_type") or file.name)
    return ModelShape(name, width, vocab_size, layers, _tied(parts), str(path))


def _integer(path: Path, parts: list[dict[str, Any]], names: tuple[str, ...], what: str) -> int:
    for part in parts:
        for name in names:
            value = part.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{path}, {name}", value, f"must be the {what}, a whole number")
            return value
    raise InputError("config", str(path), f"has no {what} ({', '.join(names)})")


def _tied(parts: list[dict[str, Any]]) -> bool | None:
    """Whether the readout is the embedding, None where neither file nor family say it."""
    given = [part[name] for part in parts for name in TIES if isinstance(part.get(name), bool)]
    if given:
        return given[0]
    families = {str(part.get("model_type")) for part in parts}
    if families & TIED_BY_DEFAULT:
        return True
    return False if families & UNTIED_BY_DEFAULT else None

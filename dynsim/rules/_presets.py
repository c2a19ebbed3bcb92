"""Shapes of well-known open models, and of any model by its configuration file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynsim._errors import InputError, check_choice
from dynsim._text_files import NotText, decoded, unpacked

# What configurations call the same thing, the most usual first.
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim", "n_embed", "model_dim", "embed_dim")
VOCABULARIES = ("vocab_size", "padded_vocab_size", "embedding_size", "n_vocab")
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth", "num_decoder_layers")
TIES = ("tie_word_embeddings", "weight_tying", "tie_embeddings", "tied_embeddings")
INSIDE = ("text_config", "llm_config", "language_config", "model", "model_args", "params", "config")
# Families whose configurations leave it out and whose readout is the embedding.
TIED_BY_DEFAULT = {
    *("gpt2", "gpt_neo", "opt", "bloom", "gemma", "gemma2", "gemma3", "gemma3_text", "bert"),
    *("roberta", "t5", "xlnet", "gpt_bigcode"),
}
UNTIED_BY_DEFAULT = {
    *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "olmo", "olmo2"),
    *("phi", "phi3", "gpt_neox", "gptj", "stablelm", "deepseek_v2", "deepseek_v3", "starcoder2"),
}


@dataclass(frozen=True)
class ModelShape:
    """Width d (embedding dimension), vocabulary size m (rows of the embedding), depth and tying.

    **Fields:**

    - `layers`: number of transformer blocks, None if unknown.
    - `tied`: whether the readout is the embedding, None if unknown.
    - `source`: where the numbers come from.
    """

    name: str
    width: int
    vocab_size: int
    layers: int | None = None
    tied: bool | None = None
    source: str = ""


def _published(
    repository: str, name: str, width: int, vocab_size: int, layers: int, tied: bool
) -> ModelShape:
    """The shape in the config.json of a repository of huggingface.co."""
    source = f"config.json of huggingface.co/{repository}"
    return ModelShape(name, width, vocab_size, layers, tied, source)


MODEL_SHAPES: tuple[ModelShape, ...] = (
    _published("openai-community/gpt2", "gpt2", 768, 50257, 12, True),
    _published("openai-community/gpt2-medium", "gpt2-medium", 1024, 50257, 24, True),
    _published("openai-community/gpt2-large", "gpt2-large", 1280, 50257, 36, True),
    _published("openai-community/gpt2-xl", "gpt2-xl", 1600, 50257, 48, True),
    _published("EleutherAI/pythia-70m", "pythia-70m", 512, 50304, 6, False),
    _published("EleutherAI/pythia-160m", "pythia-160m", 768, 50304, 12, False),
    _published("EleutherAI/pythia-410m", "pythia-410m", 1024, 50304, 24, False),
    _published("EleutherAI/pythia-1b", "pythia-1b", 2048, 50304, 16, False),
    _published("EleutherAI/pythia-1.4b", "pythia-1.4b", 2048, 50304, 24, False),
    _published("EleutherAI/pythia-2.8b", "pythia-2.8b", 2560, 50304, 32, False),
    _published("EleutherAI/pythia-6.9b", "pythia-6.9b", 4096, 50432, 32, False),
    _published("EleutherAI/pythia-12b", "pythia-12b", 5120, 50688, 36, False),
    _published("EleutherAI/gpt-j-6b", "gpt-j-6b", 4096, 50400, 28, False),
    _published("EleutherAI/gpt-neox-20b", "gpt-neox-20b", 6144, 50432, 44, False),
    _published("facebook/opt-125m", "opt-125m", 768, 50272, 12, True),
    _published("facebook/opt-1.3b", "opt-1.3b", 2048, 50272, 24, True),
    _published("facebook/opt-6.7b", "opt-6.7b", 4096, 50272, 32, True),
    _published("bigscience/bloom-560m", "bloom-560m", 1024, 250880, 24, True),
    _published("bigscience/bloom-7b1", "bloom-7b1", 4096, 250880, 30, True),
    _published("meta-llama/Llama-2-7b-hf", "llama-2-7b", 4096, 32000, 32, False),
    _published("meta-llama/Llama-2-13b-hf", "llama-2-13b", 5120, 32000, 40, False),
    _published("meta-llama/Llama-2-70b-hf", "llama-2-70b", 8192, 32000, 80, False),
    _published("meta-llama/Llama-3.2-1B", "llama-3.2-1b", 2048, 128256, 16, True),
    _published("meta-llama/Llama-3.2-3B", "llama-3.2-3b", 3072, 128256, 28, True),
    _published("meta-llama/Meta-Llama-3-8B", "llama-3-8b", 4096, 128256, 32, False),
    _published("meta-llama/Meta-Llama-3-70B", "llama-3-70b", 8192, 128256, 80, False),
    _published("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tinyllama-1.1b", 2048, 32000, 22, False),
    _published("mistralai/Mistral-7B-v0.1", "mistral-7b", 4096, 32000, 32, False),
    _published("mistralai/Mixtral-8x7B-v0.1", "mixtral-8x7b", 4096, 32000, 32, False),
    _published("google/gemma-2b", "gemma-2b", 2048, 256000, 18, True),
    _published("google/gemma-7b", "gemma-7b", 3072, 256000, 28, True),
    _published("google/gemma-2-2b", "gemma-2-2b", 2304, 256000, 26, True),
    _published("google/gemma-2-9b", "gemma-2-9b", 3584, 256000, 42, True),
    _published("Qwen/Qwen2.5-0.5B", "qwen2.5-0.5b", 896, 151936, 24, True),
    _published("Qwen/Qwen2.5-1.5B", "qwen2.5-1.5b", 1536, 151936, 28, True),
    _published("Qwen/Qwen2.5-3B", "qwen2.5-3b", 2048, 151936, 36, True),
    _published("Qwen/Qwen2.5-7B", "qwen2.5-7b", 3584, 152064, 28, False),
    _published("Qwen/Qwen2.5-14B", "qwen2.5-14b", 5120, 152064, 48, False),
    _published("allenai/OLMo-1B-hf", "olmo-1b", 2048, 50304, 16, True),
    _published("allenai/OLMo-7B-hf", "olmo-7b", 4096, 50304, 32, False),
    _published("allenai/OLMo-2-1124-7B", "olmo-2-7b", 4096, 100352, 32, False),
    _published("microsoft/phi-2", "phi-2", 2560, 51200, 32, False),
    _published("HuggingFaceTB/SmolLM-135M", "smollm-135m", 576, 49152, 30, True),
)


def model_shape(name: str) -> ModelShape:
    """The shape of a well-known open model, from its published configuration.

    Raises `InputError` with the known names.
    """
    check_choice("preset", name, tuple(shape.name for shape in MODEL_SHAPES))
    return next(shape for shape in MODEL_SHAPES if shape.name == name)


def config_shape(path: Path) -> ModelShape:
    """The shape of the model that a config.json describes, or one in a folder.

    Width, vocabulary, depth and tying are read under the names that people give them, at the top
    or inside a text model's own part. Where tying is left out, the model's family says it if it is
    known.

    Raises `InputError` for a file that cannot be read and for one without width or vocabulary.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        document = json.loads(decoded(unpacked(file)))
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

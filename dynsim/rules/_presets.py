"""Widths and vocabularies of well-known open models."""

from __future__ import annotations

from dataclasses import dataclass

from dynsim._errors import check_choice


@dataclass(frozen=True)
class ModelShape:
    """Width d (embedding dimension) and vocabulary size m of an open model."""

    name: str
    width: int
    vocab_size: int


MODEL_SHAPES: tuple[ModelShape, ...] = (
    ModelShape("gpt2", 768, 50257),
    ModelShape("gpt2-medium", 1024, 50257),
    ModelShape("gpt2-large", 1280, 50257),
    ModelShape("gpt2-xl", 1600, 50257),
    ModelShape("pythia-160m", 768, 50304),
    ModelShape("pythia-1b", 2048, 50304),
    ModelShape("pythia-6.9b", 4096, 50432),
    ModelShape("llama-2-7b", 4096, 32000),
    ModelShape("llama-3-8b", 4096, 128256),
    ModelShape("llama-3-70b", 8192, 128256),
    ModelShape("mistral-7b", 4096, 32000),
    ModelShape("gemma-2b", 2048, 256000),
    ModelShape("gemma-7b", 3072, 256000),
    ModelShape("qwen2.5-0.5b", 896, 151936),
    ModelShape("qwen2.5-7b", 3584, 152064),
    ModelShape("olmo-1b", 2048, 50304),
    ModelShape("olmo-2-7b", 4096, 100352),
)


def model_shape(name: str) -> ModelShape:
    """The shape of a well-known open model, from its published configuration.

    Raises `InputError` with the known names.
    """
    check_choice("preset", name, tuple(shape.name for shape in MODEL_SHAPES))
    return next(shape for shape in MODEL_SHAPES if shape.name == name)

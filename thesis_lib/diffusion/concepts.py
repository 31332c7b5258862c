"""Concepts: new words for a class, each one or more rows of the text encoder's embedding table."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from thesis_lib.diffusion.base import BaseModel
from thesis_lib.errors import ThesisError
from thesis_lib.storage import read_json, write_json
from thesis_lib.tensors import load_tensors, save_tensors


def placeholder(class_name: str) -> str:
    """The concept's word in a prompt: the class name in angle brackets, lower case, without blanks or signs."""
    return f"<{re.sub(r'[^a-z0-9]+', '-', class_name.lower()).strip('-')}>"


def expand(token: str, vectors: int) -> list[str]:
    """The placeholder tokens of a concept, named as diffusers' `load_textual_inversion` names them."""
    return [token, *(f"{token}_{i}" for i in range(1, vectors))]


def plain_words(class_name: str) -> str:
    """The class name in words, for prompts without a learned concept."""
    return re.sub(r"[^A-Za-z0-9]+", " ", class_name).strip().lower()


class ConceptEmbedding(nn.Module):
    """A frozen embedding table with trainable rows appended.

    Only the new rows are a parameter, so no optimiser can decay or move any other row.

    Args:
        table: The frozen table, (tokens, width).
        rows: First values of the new rows, (concepts * vectors, width).
    """

    table: torch.Tensor

    def __init__(self, table: torch.Tensor, rows: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table.detach())
        self.rows = nn.Parameter(rows.float())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (...) to embeddings (..., width) in the table's precision."""
        return F.embedding(ids, torch.cat([self.table, self.rows.to(self.table.dtype)]))


class Concepts:
    """Learned concepts, or plain class names, put into prompts.

    Args:
        base: The base model; its tokenizer and text encoder gain the new words.
        vectors: Vectors by class name, each (vectors, width); empty for the concept-free baseline.
        classes: The classes, in label order.
    """

    def __init__(self, base: BaseModel, vectors: Mapping[str, torch.Tensor], classes: Sequence[str]) -> None:
        self.base, self.classes = base, list(classes)
        self.tokens: dict[str, list[str]] = {}
        table = base.text_encoder.get_input_embeddings()
        if isinstance(table, ConceptEmbedding):
            raise RuntimeError("this base model already carries concepts: load it anew")
        self.embedding: ConceptEmbedding | None = None
        if vectors:
            names = [placeholder(name) for name in vectors]
            if len(set(names)) < len(names):
                raise ThesisError(
                    f"two classes have the same placeholder token: {sorted(names)}; rename a class folder"
                )
            for name, rows in vectors.items():
                self.tokens[name] = expand(placeholder(name), len(rows))
            added = [token for tokens in self.tokens.values() for token in tokens]
            first = len(base.tokenizer)
            if base.tokenizer.add_tokens(added) != len(added):
                raise ThesisError(
                    f"the tokenizer of {base.name} already has one of the placeholder tokens {added[:3]} ..."
                )
            if base.tokenizer.convert_tokens_to_ids(added) != list(range(first, first + len(added))):
                raise RuntimeError("placeholder tokens did not get consecutive ids")
            rows = torch.cat([v.float() for v in vectors.values()]).to(base.device)
            # A checkpoint's table may be padded beyond the tokenizer: rows must stand at the tokens' ids.
            self.embedding = ConceptEmbedding(table.weight[:first], rows)
            base.text_encoder.set_input_embeddings(self.embedding)
        self._cache: dict[str, torch.Tensor] = {}

    def prompt(self, template: str, class_name: str) -> str:
        """The template with all placeholder tokens of the class's concept, or with its plain name.

        Raises:
            ThesisError: The class has no learned concept although others have.
        """
        if class_name not in self.tokens and self.tokens:
            raise ThesisError(
                f"unknown concept {class_name!r}: learned are {', '.join(self.tokens)}; run notebook 02 for it"
            )
        words = " ".join(self.tokens[class_name]) if self.tokens else plain_words(class_name)
        return template.format(words)

    def ids(self, prompts: list[str]) -> torch.Tensor:
        """Token ids (n, context) in which every vector of every concept named is asserted to stand."""
        ids = self.base.tokenize(prompts)
        for prompt, row in zip(prompts, ids.tolist(), strict=True):
            wanted = [t for tokens in self.tokens.values() if f"{tokens[0]}" in prompt.split() for t in tokens]
            missing = set(self.base.tokenizer.convert_tokens_to_ids(wanted)) - set(row) if wanted else set()
            if missing:
                raise ThesisError(
                    f"the prompt {prompt!r} holds {len(wanted) - len(missing)} of {len(wanted)} concept vectors"
                )
        return ids

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text embeddings (n, context, width); each distinct prompt is encoded once."""
        new = list(dict.fromkeys(p for p in prompts if p not in self._cache))
        for prompt in new:  # one at a time: a prompt's embedding must not depend on its neighbours
            ids = self.ids([prompt]).to(self.base.device)
            self._cache[prompt] = self.base.text_encoder(ids).last_hidden_state[0]
        return torch.stack([self._cache[p] for p in prompts])

    def digest(self, class_name: str) -> str:
        """The concept's name and a digest of its vectors, for the manifest."""
        if not self.tokens:
            return plain_words(class_name)
        if self.embedding is None:
            raise RuntimeError("concepts without an embedding")
        rows = self.vectors()[class_name]
        return f"{self.tokens[class_name][0]} {hashlib.sha256(rows.numpy().tobytes()).hexdigest()[:10]}"

    def vectors(self) -> dict[str, torch.Tensor]:
        """The vectors of each concept, (vectors, width) in float32 on the CPU."""
        if self.embedding is None:
            return {}
        counts = [len(tokens) for tokens in self.tokens.values()]
        return dict(zip(self.tokens, self.embedding.rows.detach().float().cpu().split(counts), strict=True))


def save_concepts(folder: Path, concepts: Concepts, recipe: dict[str, Any]) -> None:
    """Write one safetensors file a concept, readable by `pipe.load_textual_inversion`, and the recipe."""
    for name, vectors in concepts.vectors().items():
        save_tensors(folder / f"{placeholder(name)[1:-1]}.safetensors", {placeholder(name): vectors})
    write_json(folder / "recipe.json", {"classes": concepts.classes, "learned": list(concepts.tokens), **recipe})


def load_concepts(folder: Path, base: BaseModel) -> Concepts:
    """Read what `save_concepts` wrote and teach it to `base`.

    Raises:
        ThesisError: There are no concepts, or they were learned with another base model.
    """
    recipe = read_json(
        folder / "recipe.json", "there are no concepts: run notebook 02 first (thesis run ... --until inversion)"
    )
    if recipe["model_digest"] != base.digest:
        raise ThesisError(
            f"{folder}: the concepts were learned with {recipe['model']}, not with this {base.name}: run notebook 02"
        )
    vectors = {}
    for name in recipe["learned"]:
        tensors, _ = load_tensors(folder / f"{placeholder(name)[1:-1]}.safetensors")
        vectors[name] = tensors[placeholder(name)]
        if vectors[name].shape[1] != base.text_encoder.config.hidden_size:
            raise ThesisError(f"{folder}: the concept of {name} has width {vectors[name].shape[1]}, {base.name} needs "
                              f"{base.text_encoder.config.hidden_size}: run notebook 02 again")  # fmt: skip
    return Concepts(base, vectors, recipe["classes"])

"""Tasks whose searches XLA may compile, and what a compiled search needs."""

import abc
import dataclasses
import functools
from typing import Any, Self

import tensorflow as tf

from ktransformer.config import CompilationConfig
from ktransformer.decoding import Hypotheses
from ktransformer.errors import InputError
from ktransformer.tasks.compiled_search import (
    Search,
    compile_search,
    search_in_shapes,
    why_not_compiled,
)
from ktransformer.tasks.decoding_steps import SOURCE_IDS
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.search_task import SearchTask


class CompilableSearch(SearchTask):
    """A task that searches targets of source ids, plainly or compiled by XLA in a few shapes.

    Attributes:
        max_source_length: The longest source, in tokens.
        compilation: The shapes; None where the searches are not compiled.
        output_columns: The model's whole output projection, in variables, for compiled searches;
            None for the model's own.
    """

    max_source_length: int
    compilation: CompilationConfig | None = None
    output_columns: Any = None

    @abc.abstractmethod
    def search(self, source: tf.Tensor, n_best: int = 1, *, staged: bool = False) -> Hypotheses:
        """Finds the `n_best` target sequences of source ids `[B, S]`; XLA needs it `staged`."""

    @abc.abstractmethod
    def find_limits(self, source: tf.Tensor) -> tf.Tensor:
        """Returns the most tokens of each target: `[B, S] -> [B]`."""

    @graph_method(input_signature=[SOURCE_IDS])
    def find_best(self, source: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds one hypothesis of each source: a graph that several signatures share."""
        return self._search_in_shapes(source, 1)._asdict()

    def run_search(self, source: tf.Tensor, n_best: int) -> Hypotheses:
        """Runs `search`, compiled by XLA where there is a `compilation`."""
        if n_best == 1:
            return Hypotheses(**self.find_best(source))
        return self._search_in_shapes(source, n_best)

    def _search_in_shapes(self, source: tf.Tensor, n_best: int) -> Hypotheses:
        if self.compilation is None:
            return self.search(source, n_best)
        return search_in_shapes(
            source,
            self.compilation,
            compiled=self._staged_search(n_best),
            plain=functools.partial(self.search, n_best=n_best),
            limits=self.find_limits(source),
            pad_id=self.model.pad_id,
        )

    def _staged_search(self, n_best: int) -> Search:
        return functools.partial(self.search, n_best=n_best, staged=True)

    def check_before_export(self) -> None:
        super().check_before_export()
        if self.compilation is not None:
            special = self.tokenizer.special_ids
            source = tf.constant([[special.unknown, special.end]])
            try:
                compile_search(self._staged_search(1))(source)
            except tf.errors.ResourceExhaustedError:
                raise
            except tf.errors.OpError as error:
                raise InputError(why_not_compiled(error)) from error

    def with_compilation(self, compilation: CompilationConfig) -> Self:
        if self.shortlist is not None:
            raise InputError("XLA does not compile a search with a shortlist.")
        task = self.with_parts()
        lengths = (min(length, self.max_source_length) for length in compilation.lengths)
        resolved = compilation.resolved_for(self.model.count_params())
        task.compilation = dataclasses.replace(resolved, lengths=tuple(lengths))
        if self.model.has_plain_logits():
            # A copy, because XLA would pack the embeddings, the other way round, at every step.
            columns = self._whole_projection()
            task.output_columns = tf.nest.map_structure(
                lambda tensor: tf.Variable(tensor, trainable=False), columns
            )
        return task

    @property
    def reads_columns(self) -> bool:
        return self.shortlist is not None or self.output_columns is not None

    @property
    def search_variables(self) -> tuple[tf.Variable, ...]:
        return () if self.output_columns is None else tuple(tf.nest.flatten(self.output_columns))

    def search_values(self) -> tuple[tf.Tensor, ...]:
        if self.output_columns is None:
            return ()
        return tuple(tf.nest.flatten(self._whole_projection()))

    def _whole_projection(self) -> Any:
        return self.model.output_columns(tf.range(self.model.vocabulary_size))

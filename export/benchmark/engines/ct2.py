"""CTranslate2, on our weights in its format."""

import json

import ctranslate2

from export.benchmark.workload import Ids, Workload


class Engine:
    """Decodes with `ct2.WEIGHTS`.

    Args:
        work: What is decoded.
        beam: K.
        weights: `float32` or `int8`.
        threads: Threads of each replica.
        replicas: Batches in flight.
    """

    def __init__(
        self,
        work: Workload,
        beam: int,
        *,
        weights: str = "float32",
        threads: int = 2,
        replicas: int = 1,
    ) -> None:
        self._work, self._beam, self._replicas = work, beam, replicas
        self._translator = ctranslate2.Translator(
            str(work.folder / f"ct2.{weights}"),
            device="cpu",
            compute_type=weights,
            inter_threads=replicas,
            intra_threads=threads,
        )
        vocabulary = work.folder / f"ct2.{weights}" / "shared_vocabulary.json"
        self._pieces: list[str] = json.loads(vocabulary.read_text(encoding="utf-8"))
        self._ids = {piece: i for i, piece in enumerate(self._pieces)}

    def versions(self) -> dict[str, str]:
        """Returns the versions of what runs the model."""
        return {"ctranslate2": ctranslate2.__version__}

    def decode(self, batch: list[Ids]) -> list[Ids]:
        """Decodes one batch."""
        return self._decode(batch, 0)

    def decode_all(self, batches: list[list[Ids]]) -> list[Ids]:
        """Decodes several batches at a time; a single one is shared out among the replicas."""
        sentences = [ids for batch in batches for ids in batch]
        share = -(-len(sentences) // self._replicas)
        return self._decode(sentences, min(len(batches[0]), share))

    def _decode(self, sentences: list[Ids], max_batch_size: int) -> list[Ids]:
        results = self._translator.translate_batch(
            [[self._pieces[i] for i in ids[:-1]] for ids in sentences],  # It adds the end.
            beam_size=self._beam,
            length_penalty=self._work.decoding["length_penalty"],
            max_decoding_length=self._work.limit(sentences),
            max_batch_size=max_batch_size,
            return_end_token=True,
        )
        return [[self._ids[piece] for piece in result.hypotheses[0]] for result in results]

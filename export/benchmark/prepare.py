"""Makes what the benchmark decodes: exports, the same weights for the peers, sentences."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sentencepiece import sentencepiece_model_pb2

from export.benchmark.names import Translator, export_lite, export_saved_model, load_run
from export.benchmark.needs import find_text
from export.benchmark.workload import Ids, Workload
from ktransformer.config import DecodingConfig
from ktransformer.files import FolderKind, new_folder
from ktransformer.models import Transformer
from ktransformer.text import Tokenizer, read_lines

SIZES = {"T": ("tiny", 10_000), "B": ("base", 32_000)}  # Preset and vocabulary.
FORCED_TOKENS = 32
FORCED_DECODING = DecodingConfig(max_length_ratio=0, max_length_offset=FORCED_TOKENS)
PIECES = 10_000
TRAINED = "trained"
PAD_ID, UNKNOWN_ID, START_ID, END_ID = range(4)
SPECIAL = {"pad": PAD_ID, "unknown": UNKNOWN_ID, "start": START_ID, "end": END_ID}
QUANTIZATIONS = {"float32": "none", "int8": "dynamic_int8"}
KIND = FolderKind(
    "a workload's folder",
    (
        r"workload\.json",
        r"tokenizer\.model",
        r"beam\d+\.(float32|int8)\.tflite(\.tokenizer\.model)?",
        r"beam\d+(\.compiled)?/1/(saved_model|fingerprint)\.pb",
        r"beam\d+(\.compiled)?/1/ktransformer\.json",
        r"beam\d+(\.compiled)?/1/(variables|assets|assets\.extra)/.+",
        r"(hf|ct2\.(float32|int8))/.+",
    ),
)


def prepare_random(
    name: str, data: Path, beams: Sequence[int], folder: Path, *, peers: bool
) -> None:
    """Makes size T or B with random weights, of which every sentence gets `FORCED_TOKENS`.

    Args:
        name: `T` or `B`.
        data: Multi30k's folder: the tokenizer comes from its training text, the sentences are
            its English test set.
        beams: Which beam sizes to export.
        folder: Where to; a workload that is there is replaced.
        peers: Whether to write the model in the formats of the peers, too.
    """
    preset, vocabulary_size = SIZES[name]
    model = random_model(preset, vocabulary_size)
    tokenizer = tokenizer_of(data, folder.parent)
    sentences = sentences_of(data, tokenizer)
    write_workload(name, model, tokenizer, FORCED_DECODING, sentences, beams, folder, compiled=True)
    if peers:
        write_peers(Translator(model, filled(tokenizer, vocabulary_size), FORCED_DECODING), folder)


def prepare_trained(
    run: Path, data: Path, beams: Sequence[int], folder: Path, *, peers: bool
) -> None:
    """Makes the same of a trained run, whose sentences end by themselves.

    Without its rule against loops, which no peer has: all engines do the same search.
    """
    trained = load_run(run)
    model = trained.model
    sentences = sentences_of(data, trained.tokenizer)
    decoding = dataclasses.replace(trained.config.decoding, max_repeats=0)
    write_workload(
        TRAINED, model, trained.tokenizer, decoding, sentences, beams, folder, compiled=True
    )
    if peers:
        write_peers(Translator(model, trained.tokenizer, decoding), folder)


def write_peers(translator: Translator, folder: Path) -> None:
    """Adds `hf`, `ct2.float32` and `ct2.int8` to a workload's folder.

    Raises:
        InputError: The model has no counterpart among the peers.
    """
    # Not above: `compare_checkouts.py` runs this file on checkouts that lack them.
    from ktransformer.conversion.ctranslate2 import export_ctranslate2
    from ktransformer.conversion.huggingface import export_huggingface

    export_huggingface(translator, folder / "hf")
    export_ctranslate2(translator, folder / "ct2.float32")
    export_ctranslate2(translator, folder / "ct2.int8", quantization="int8")


def filled(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """Returns a tokenizer with `size` pieces: those that it lacks are control pieces, in no text.

    The peers' formats name every id.
    """
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model)
    for i in range(len(model.pieces), size):
        model.pieces.add(piece=f"<unused {i}>", type=model.SentencePiece.CONTROL)
    return Tokenizer(model.SerializeToString())


class IdsOnly(Translator):
    """A translator of a model that may have more ids than the tokenizer has pieces."""

    def check_tokenizer(self) -> None:
        """Takes any: only `ids` is run."""


def random_model(preset: str, vocabulary_size: int) -> Transformer:
    """Makes a model of a preset whose sentences never end."""
    model = Transformer.from_preset(preset, vocabulary_size, max_length=128)
    model.build()
    draw_endless_weights(model)
    return model


def draw_endless_weights(model: Transformer) -> None:
    """Draws weights with which no special id is ever chosen.

    The decoder's last norm adds a vector to every hidden state, and the embeddings of padding,
    unknown and end, which are also rows of the output projection, point against it. That of the
    start, which the decoder sees, is zero: its logit is, too, and the best of thousands is far
    above. No engine has to be told to forbid the end, so none pays for it.
    """
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 2:
            weight.assign(generator.normal(0, 0.05, weight.shape).astype(np.float32))
    direction = 0.3 * np.sign(generator.normal(size=model.d_model)).astype(np.float32)
    model.decoder.blocks[-1].feed_forward_norm.beta.assign(direction)
    table = np.array(model.source_embedding.embeddings)
    table[[PAD_ID, UNKNOWN_ID, END_ID]] = -5 * direction
    table[START_ID] = 0
    model.source_embedding.embeddings.assign(table)


def tokenizer_of(data: Path, cache: Path) -> Tokenizer:
    """Trains the tokenizer of the sizes T and B, or takes the one that is in `cache`."""
    path = cache / "tokenizer.model"
    if not path.is_file():
        texts = [find_text(data, f"train.{language}") for language in ("en", "de")]
        tokenizer = Tokenizer.train(read_lines(texts), PIECES)
        path.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(path)
    return Tokenizer.load(path)


def sentences_of(data: Path, tokenizer: Tokenizer) -> list[Ids]:
    """Returns the ids of Multi30k's English test set."""
    lines = list(read_lines(find_text(data, "test_2016_flickr.en")))
    return [ids.tolist() for ids in tokenizer.encode_lines(lines)]


def write_workload(
    name: str,
    model: Transformer,
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    sentences: Sequence[Ids],
    beams: Sequence[int],
    folder: Path,
    *,
    saved_model: bool = True,
    compiled: bool = False,
    quantizations: Mapping[str, str] = QUANTIZATIONS,
) -> None:
    """Writes the exports of each beam size, and the workload.

    Args:
        name: `T`, `B` or `trained`.
        model: What is exported.
        tokenizer: Its tokenizer.
        decoding: How it is decoded; the beam size is set for each export.
        sentences: Source ids of what the engines decode.
        beams: Which beam sizes to export.
        folder: Where to; a workload that is there is replaced.
        saved_model: Whether to write SavedModels.
        compiled: Whether to write those that XLA compiles, which older checkouts cannot.
        quantizations: The `quantization` of each .tflite, by the name of its weights.
    """
    with new_folder(folder, overwrite=True, kind=KIND) as new:
        for beam in beams:
            searching = dataclasses.replace(decoding, beam_size=beam)
            translator = IdsOnly(model, tokenizer, searching)
            if saved_model:
                export_saved_model(translator, new / f"beam{beam}")
            if compiled:
                export_compiled(translator, new / f"beam{beam}.compiled")
            for weights, quantization in quantizations.items():
                path = new / f"beam{beam}.{weights}.tflite"
                export_lite(translator, path, signatures=["ids"], quantization=quantization)
        (new / "tokenizer.model").write_bytes(tokenizer.model)
        Workload(
            new,
            name=name,
            sizes=sizes_of(model),
            decoding={
                "max_length_ratio": decoding.max_length_ratio,
                "max_length_offset": decoding.max_length_offset,
                "max_target_length": decoding.max_target_length or model.max_length,
                "length_penalty": decoding.length_penalty,
            },
            special=SPECIAL,
            forced_tokens=None if name == TRAINED else FORCED_TOKENS,
            sentences=list(sentences),
        ).save()


def export_compiled(translator: Translator, path: Path) -> None:
    """Writes a SavedModel whose searches XLA compiles."""
    from ktransformer.config import CompilationConfig

    export_saved_model(translator, path, compilation=CompilationConfig())


def sizes_of(model: Transformer) -> dict[str, int]:
    """Returns the sizes that the peers need to know."""
    names = ("vocabulary_size", "num_layers", "num_decoder_layers", "d_model", "num_heads")
    return {name: getattr(model, name) for name in (*names, "hidden_dim", "max_length")}

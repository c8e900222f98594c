import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.engines import LiteEngine, ModelEngine, load_engine, translate_blocks
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, tokenizer_beside
from ktransformer.exporting.lite.model import _Replica
from ktransformer.exporting.lite.model_file import pack, read_metadata, set_metadata, unpack
from ktransformer.text import Tokenizer
from tests.small_run import number_pairs
from tests.small_translator import TEXTS


def test_it_translates_on_any_number_of_threads(lite_file):
    for threads in (1, 2, 4):
        engine = LiteEngine(lite_file, threads=threads)
        assert engine.translate(["four zero two", "nine"]) == ["402", "9"]


@pytest.mark.parametrize("threads", [0, -3])
def test_a_number_of_threads_below_one_is_refused(lite_file, threads):
    with pytest.raises(ValueError, match=f"threads .*1.*threads={threads}"):
        LiteEngine(lite_file, threads=threads)
    with pytest.raises(ValueError, match=f"replicas .*1.*replicas={threads}"):
        LiteEngine(lite_file, replicas=threads)


def test_the_number_of_replicas_changes_no_translation(lite_file):
    lines = [*TEXTS, *(source for source, _ in number_pairs(200, seed=8))]
    expected, *others = (
        list(translate_blocks(LiteEngine(lite_file, replicas=n), [lines], batch_size=8))
        for n in (1, 2, 3)
    )
    assert others == [expected, expected]


@pytest.mark.parametrize("name", ["lite_file", "ids_file"])
def test_what_the_engine_chooses_changes_no_translation(request, monkeypatch, name):
    monkeypatch.setattr("ktransformer.exporting.lite.plan.available_cores", lambda: 2)
    file = request.getfixturevalue(name)
    lines = [*TEXTS, *(source for source, _ in number_pairs(40, seed=9))]
    chosen, single = LiteEngine(file), LiteEngine(file, threads=1)
    assert (chosen.plan.threads, chosen.concurrency) == ((1, 1), 2)
    expected = [single.translate_n_best([line])[0] for line in lines]
    for engine in chosen, single:
        found = engine.translate_n_best(lines)
        assert [each.texts for each in found] == [each.texts for each in expected]
        assert [each.truncated for each in found] == [each.truncated for each in expected]
        scores = [[each.scores[0] for each in one] for one in (found, expected)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_a_large_model_shares_large_batches_between_other_interpreters(monkeypatch, lite_file):
    monkeypatch.setattr("ktransformer.exporting.lite.plan.available_cores", lambda: 2)
    monkeypatch.setattr("ktransformer.exporting.lite.plan.LARGE", 1)
    engine = LiteEngine(lite_file)
    assert (engine.plan.threads, engine.plan.sharers, engine.concurrency) == ((2, 1, 1), 2, 2)
    runs = Counter()
    run = _Replica.run

    def counted(replica, *arguments):
        runs[engine._model._replicas.index(replica)] += 1
        return run(replica, *arguments)

    monkeypatch.setattr(_Replica, "run", counted)
    assert engine.translate(["nine"]) == ["9"]
    assert runs == {0: 1}
    assert engine.translate(["four zero two"] * 40) == ["402"] * 40
    assert runs[0] == 1
    assert runs[1] + runs[2] > 1  # The parts.


@pytest.mark.skipif(sys.platform != "linux", reason="a file is reopened through /proc")
def test_an_engine_keeps_to_its_file(monkeypatch, lite_file, tmp_path):
    monkeypatch.setattr("ktransformer.exporting.lite.plan.available_cores", lambda: 2)
    monkeypatch.chdir(tmp_path)
    Path("model.tflite").write_bytes(Path(lite_file).read_bytes())
    engine = LiteEngine("model.tflite")
    assert engine.translate(["nine"]) == ["9"]
    monkeypatch.chdir("/")
    (tmp_path / "other").write_bytes(b"another export")
    (tmp_path / "other").replace(tmp_path / "model.tflite")
    # The second interpreter is opened now.
    assert engine.translate(["four zero two"] * 40) == ["402"] * 40


def test_ids_are_translated_as_texts_are(ids_file):
    engine = LiteEngine(ids_file)
    tokenizer = Tokenizer.load(tokenizer_beside(ids_file))
    found = engine.translate_ids(tokenizer.encode_lines(TEXTS))
    ids = tf.ragged.constant(found, dtype=tf.int32)
    assert [text.decode() for text in tokenizer.decode(ids).numpy()] == engine.translate(TEXTS)


def test_a_file_of_ids_runs_its_signature_of_texts_by_its_name(ids_file):
    engine = LiteEngine(ids_file)
    assert engine.inputs("serving_default") == ["texts"]
    texts = np.array([text.encode() for text in TEXTS], dtype=object)
    found = engine.run_inputs("serving_default", texts=texts)
    assert [text.decode() for text in found["text"]] == engine.translate(TEXTS)
    with pytest.raises(InputError, match=r"serving_default .*texts.*wrong"):
        engine.run_inputs("serving_default", wrong=texts)


def test_ids_may_be_whole_floats_and_no_fractions(ids_file):
    engine = LiteEngine(ids_file)
    ids = Tokenizer.load(tokenizer_beside(ids_file)).encode_lines(TEXTS[:1])[0]
    whole = [float(number) for number in ids]
    assert engine.translate_ids([whole]) == engine.translate_ids([ids])
    for wrong in ([1.5, 2], [float("nan")], ["1"], [True], [[1], [2]], [1, [2]], [1 << 40], 3):
        with pytest.raises(InputError, match="ids of a text must be a list of whole numbers; got"):
            engine.translate_ids([ids, wrong])


def test_a_file_of_ids_translates_lines_without_tensorflow(ids_file):
    program = (
        "import sys\n"
        "from ktransformer.cli import main\n"
        "status = main(['translate', sys.argv[1]])\n"
        "heavy = {'tensorflow', 'tensorflow_text', 'keras'} & set(sys.modules)\n"
        "print(f'{status} {sorted(heavy)}', file=sys.stderr)\n"
    )
    lines = "four zero two\nnine. It is one.\n"
    result = subprocess.run(
        [sys.executable, "-c", program, str(ids_file)], input=lines, capture_output=True, text=True
    )
    assert result.stderr.splitlines()[-1] == "0 []", result.stderr
    assert result.stdout.splitlines() == LiteEngine(ids_file).translate(lines.splitlines())


def test_memory_does_not_grow_with_the_length_of_the_stream(lite_file):
    engine = LiteEngine(lite_file, replicas=2)
    padding = " " * 60_000  # It is no token, but what a stream must not hold on to.
    blocks = ([f"{text}{padding}" for text, _ in number_pairs(20, seed)] for seed in range(120))
    resident = []
    for translations in translate_blocks(engine, blocks):
        assert len(translations) == 20
        resident.append(_resident_bytes())
    assert len(resident) == 120
    # The whole is 144 MB of text; what the allocators keep varies by some.
    assert max(resident[20:]) - max(resident[:20]) < 40e6


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_file_of_a_fixed_batch_takes_any_number_of_texts(translator, tmp_path):
    file = export_lite(translator, tmp_path / "two.tflite", signatures=["beam"], batch_size=2)
    expected = ModelEngine(translator).translate_n_best(TEXTS, n_best=2)
    for line, other in zip(
        expected, LiteEngine(file).translate_n_best(TEXTS, n_best=2), strict=True
    ):
        assert (other.texts, other.truncated) == (line.texts, line.truncated)


def test_a_file_of_a_fixed_batch_takes_ids_of_any_number_and_length(fixed_ids_file, ids_file):
    ids = Tokenizer.load(tokenizer_beside(ids_file)).encode_lines([*TEXTS, "seven " * 99])
    assert max(map(len, ids)) > LiteEngine(fixed_ids_file).description.max_source_length
    for count in (1, 3, len(ids)):
        expected, found = (
            [[*filter(None, row)] for row in LiteEngine(file).translate_ids(ids[-count:])]
            for file in (ids_file, fixed_ids_file)
        )
        assert found == expected


@pytest.fixture
def fixed_ids_file(translator, tmp_path):
    return export_lite(translator, tmp_path / "ids.tflite", signatures=["ids"], batch_size=3)


@pytest.mark.parametrize(
    "file", ["ids_file", pytest.param("fixed_ids_file", marks=pytest.mark.long)]
)
def test_a_file_of_ids_translates_with_the_tokenizer_beside_it(translator, request, file):
    engine = LiteEngine(request.getfixturevalue(file))
    expected = ModelEngine(translator).translate_n_best(TEXTS)
    for line, other in zip(expected, engine.translate_n_best(TEXTS), strict=True):
        assert (other.texts, other.truncated) == (line.texts, line.truncated)
    documents = ["one two.\n four", "nine"]
    expected, found = (
        [each.text for each in one.translate_document(documents)]
        for one in (ModelEngine(translator), engine)
    )
    assert found == expected
    with pytest.raises(InputError, match=r"signature.*beam"):
        engine.translate_n_best(TEXTS, n_best=2)


def test_a_file_of_ids_without_its_tokenizer_says_what_it_lacks(ids_copy):
    tokenizer_beside(ids_copy).unlink()
    with pytest.raises(InputError, match=r"ids\.tflite\.tokenizer\.model"):
        LiteEngine(ids_copy).translate(["one"])


@pytest.mark.long
def test_another_tokenizer_beside_a_file_of_ids_is_found_out(ids_copy):
    Tokenizer.train(["one two three", "1 2 3"], 30).save(tokenizer_beside(ids_copy))
    with pytest.raises(InputError, match="tokenizer"):
        LiteEngine(ids_copy)


def test_a_file_with_changed_bytes_is_refused_or_runs(lite_file, tmp_path):
    content = lite_file.read_bytes()
    generator = random.Random(5)
    program = (
        "import sys\n"
        "from ktransformer.cli import main\n"
        "for file in sys.argv[1:]:\n"
        "    sys.stdin = open('/dev/null')\n"
        "    print(main(['translate', file]))\n"
    )
    files = []
    for i in range(20):
        damaged = bytearray(content)
        for _ in range(3):  # Towards the end, where the graph is; the start is weights.
            damaged[generator.randrange(len(content) // 2, len(content))] ^= 0xFF
        files.append(tmp_path / f"{i}.tflite")
        files[-1].write_bytes(damaged)
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, files)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) <= {"0", "2"}


def flipped(content, count, seed):
    """Yields copies of a file with one flipped bit each."""
    generator = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        yield damaged


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.long)])
def test_every_flipped_bit_is_refused(lite_file, tmp_path, count):
    content, path = lite_file.read_bytes(), tmp_path / "model.tflite"
    start = content.index(b'{\n  "kind"')
    structure = content[-100_000:]  # Weights come first.
    for damaged in itertools.chain(
        flipped(content, count, 1),
        (content[:-100_000] + part for part in flipped(structure, count, 2)),
        (content[:start] + part for part in flipped(content[start:], count // 10, 3)),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError) as caught:
            LiteEngine(path)
        assert "\n" not in str(caught.value)


def test_a_file_says_the_sha256_of_itself(lite_file):
    content = lite_file.read_bytes()
    digest = json.loads(read_metadata(lite_file))["sha256"]
    blank = content.replace(digest.encode(), b"0" * 64)
    assert digest == hashlib.sha256(blank).hexdigest()


def test_a_file_without_a_checksum_still_opens(lite_file, tmp_path):
    fields = json.loads(read_metadata(lite_file))
    del fields["files"], fields["sha256"]
    text = json.dumps({**fields, "format_version": 1})
    path = with_description(lite_file, text, tmp_path / "model.tflite")
    assert LiteEngine(path).translate(["four zero two"]) == ["402"]


def test_the_checksum_can_be_left_out(lite_file, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(lite_file.read_bytes() + b"\0")
    with pytest.raises(InputError, match="damaged"):
        load_engine(path)
    assert load_engine(path, check=False).translate(["nine"]) == ["9"]


def test_a_description_of_other_signatures_is_damage(lite_file, tmp_path):
    text = json.dumps({**json.loads(read_metadata(lite_file)), "signatures": ["ids", "other"]})
    path = with_description(lite_file, text, tmp_path / "model.tflite")
    with pytest.raises(InputError, match="damaged"):
        LiteEngine(path)


def test_the_file_says_what_it_is(lite_file, translator):
    about = LiteEngine(lite_file).description
    assert (about.source_label, about.target_label) == ("number words", "digits")
    assert about.decoding == translator.decoding
    assert about.vocabulary_size == translator.tokenizer.vocabulary_size
    assert about.quantization == "none"
    names = ("serving_default", "beam", "ids", "encode", "decode_step", "document", "sentences")
    assert about.signatures == names


@pytest.mark.parametrize("content", [b"", b"text", b"\x1c\0\0\0TFL3", b"TFL3" * 100, bytes(4096)])
def test_what_is_no_tflite_is_refused(tmp_path, content):
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(InputError, match=r"not a \.tflite file|damaged|not one that ktransformer"):
        LiteEngine(tmp_path / "model.tflite")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(lite_file, tmp_path, share):
    content = lite_file.read_bytes()
    (tmp_path / "model.tflite").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"model\.tflite is a \.tflite file, but a damaged one"):
        LiteEngine(tmp_path / "model.tflite")


def with_description(file, text, path):
    """Writes the file with another text, or none, in the place of its description."""
    model = unpack(file.read_bytes())
    set_metadata(model, text)
    path.write_bytes(pack(model))
    return path


def test_another_kind_of_tflite_is_refused(lite_file, tmp_path):
    text = json.dumps({**json.loads(read_metadata(lite_file)), "kind": "classifier"})
    path = with_description(lite_file, text, tmp_path / "model.tflite")
    with pytest.raises(InputError, match=r"classifier.*translator"):
        LiteEngine(path)


def test_a_tflite_without_our_metadata_is_refused(lite_file, tmp_path):
    model = unpack(lite_file.read_bytes())
    model.metadata = []
    (tmp_path / "model.tflite").write_bytes(pack(model))
    with pytest.raises(InputError, match="ktransformer"):
        LiteEngine(tmp_path / "model.tflite")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent\.tflite.*No such file"):
        LiteEngine(tmp_path / "absent.tflite")


def test_a_process_that_imports_no_ktransformer_runs_the_text_signatures(lite_file):
    code = (
        "import sys\n"
        "import numpy as np, tensorflow_text\n"
        "from ai_edge_litert.interpreter import InterpreterWithCustomOps\n"
        "interpreter = InterpreterWithCustomOps(\n"
        "    model_path=sys.argv[1],\n"
        "    custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,\n"
        ")\n"
        "translate = interpreter.get_signature_runner('serving_default')\n"
        "print(translate(texts=np.array(['four zero two', 'nine'], object))['text'].tolist())\n"
        "assert not any(name.split('.')[0] == 'ktransformer' for name in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(lite_file)], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[b'402', b'9']"

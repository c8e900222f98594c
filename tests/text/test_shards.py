import gzip
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ktransformer
from ktransformer.errors import InputError
from ktransformer.text import (
    PairFiles,
    ParallelFiles,
    ShardedBatches,
    Shards,
    Tokenizer,
    open_parallel,
    survey_files,
    write_shards,
)
from ktransformer.text.buckets import JoinedIds
from tests.small_run import number_pairs, write_pairs
from tests.text.batch_checks import assert_same_batches, pairs_of

PAIRS = number_pairs(1000, seed=3)
MAX_LENGTH = 6  # Some of the pairs have more tokens.
OPTIONS = {"batch_tokens": 64, "bucket_step": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return ParallelFiles(*write_pairs(tmp_path_factory.mktemp("text"), "text", PAIRS))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([text for pair in PAIRS for text in pair], 60)


def write(folder, tokenizer, files, **options) -> Shards:
    folder.mkdir()
    options = {"pairs": len(PAIRS), "shard_pairs": 150, "max_length": MAX_LENGTH, **options}
    write_shards(folder, tokenizer, files, **options)
    return Shards.open(folder)


@pytest.fixture(scope="module")
def shards(tmp_path_factory, tokenizer, files):
    return write(tmp_path_factory.mktemp("encoded") / "shards", tokenizer, files)


@pytest.fixture(scope="module")
def batches(shards):
    return ShardedBatches(shards, **OPTIONS, seed=5)


def rows(ids: JoinedIds) -> list[list[int]]:
    return [row.tolist() for row in np.split(ids.flat, ids.starts[1:-1])]


def shard_pairs(shards: Shards) -> list[list[tuple[list[int], list[int]]]]:
    """The pairs of each shard, in their order."""
    sides = [shards.read(number) for number in range(len(shards.pairs_by_length))]
    return [list(zip(rows(source), rows(target), strict=True)) for source, target in sides]


def encoded(tokenizer, pairs=PAIRS) -> list[tuple[list[int], list[int]]]:
    sources, targets = (tokenizer.encode_lines(side) for side in zip(*pairs, strict=True))
    every = [(s.tolist(), t.tolist()) for s, t in zip(sources, targets, strict=True)]
    return [pair for pair in every if max(map(len, pair)) <= MAX_LENGTH]


def test_every_pair_that_is_short_enough_is_in_one_shard(shards, tokenizer):
    kept = encoded(tokenizer)
    assert sorted(pair for shard in shard_pairs(shards) for pair in shard) == sorted(kept)
    assert shards.pairs == len(kept)
    assert shards.too_long == len(PAIRS) - len(kept) > 0


def test_blocks_that_another_process_could_encode_give_the_same_shards(tmp_path, tokenizer, files):
    def in_another(encode, blocks):
        return map(pickle.loads(pickle.dumps(encode)), blocks)

    write(tmp_path / "here", tokenizer, files)
    write(tmp_path / "there", tokenizer, files, map_blocks=in_another)
    found = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("here", "there")
    ]
    assert found[0] == found[1]


def test_no_shard_has_more_pairs_than_allowed_and_all_are_about_as_large(shards):
    sizes = [len(shard) for shard in shard_pairs(shards)]
    assert len(sizes) == 7
    assert 100 < min(sizes) <= max(sizes) <= 150


def test_a_shard_is_a_sample_of_the_whole_text(tmp_path, tokenizer):
    # In order: a text of which neighbours are alike, as one that is several corpora in a row.
    ordered = sorted(PAIRS)
    files = ParallelFiles(*write_pairs(tmp_path, "ordered", ordered))
    shards = write(tmp_path / "shards", tokenizer, files)
    places = {
        pair: i for i, pair in enumerate(dict.fromkeys(map(str, encoded(tokenizer, ordered))))
    }
    for shard in shard_pairs(shards):
        found = [places[str(pair)] / len(places) for pair in shard]
        np.testing.assert_allclose(
            np.quantile(found, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.1
        )


def test_every_epoch_has_every_pair_once_and_an_order_of_its_own(batches, tokenizer):
    epochs = [pairs_of(batches.epoch(epoch)) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(encoded(tokenizer))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def shard_order(batches, shards, epoch: int) -> list[int]:
    """Which shards an epoch reads, in order; a pair that several have tells nothing."""
    owners: dict[str, set[int]] = {}
    for number, shard in enumerate(shard_pairs(shards)):
        for pair in shard:
            owners.setdefault(str(pair), set()).add(number)
    order: list[int] = []
    for pair in map(str, pairs_of(batches.epoch(epoch))):
        (owner, *others) = owners[pair]
        if not others and owner not in order[-1:]:
            order.append(owner)
    return order


def test_an_epoch_reads_one_shard_after_another_each_epoch_in_another_order(batches, shards):
    orders = [shard_order(batches, shards, epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(7))
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_same_text_and_seed_give_the_same_batches(tmp_path, tokenizer, files, batches):
    again = ShardedBatches(write(tmp_path / "again", tokenizer, files), **OPTIONS, seed=5)
    list(again.epoch(0))  # What was read before does not matter.
    assert_same_batches(again.epoch(3), batches.epoch(3))


def test_another_seed_has_another_order(shards, batches):
    other = ShardedBatches(shards, **OPTIONS, seed=6)
    assert pairs_of(other.epoch(0)) != pairs_of(batches.epoch(0))


def test_an_epoch_begins_at_any_step(batches):
    whole = list(batches.epoch(2))
    assert len(whole) == batches.steps_per_epoch
    for step in range(batches.steps_per_epoch + 1):
        assert_same_batches(batches.epoch(2, first_step=step), whole[step:])


def test_the_dataset_begins_at_any_update(batches):
    steps = batches.steps_per_epoch
    every = [*batches.epoch(0), *batches.epoch(1), *batches.epoch(2)]
    for first in (0, 3, steps, 2 * steps - 1):
        found = batches.dataset(first).take(steps + 1).as_numpy_iterator()
        assert_same_batches(found, every[first : first + steps + 1])


def test_the_shards_before_a_step_are_not_read(tmp_path, tokenizer, files):
    shards = write(tmp_path / "shards", tokenizer, files)
    batches = ShardedBatches(shards, **OPTIONS, seed=5)
    whole = list(batches.epoch(0))
    first = shard_order(batches, shards, 0)[0]
    for path in shards.folder.glob(f"{first:05d}.*"):
        path.unlink()
    with pytest.raises(InputError, match=rf"Cannot read .*/{first:05d}\.source\.ids: No such file"):
        next(batches.epoch(0))
    later = batches.steps_per_epoch // 2  # Beyond the first of seven shards.
    assert_same_batches(batches.epoch(0, later), whole[later:])


def test_ids_that_need_more_than_two_bytes_come_back(tmp_path, tokenizer, files, shards):
    wide = write(tmp_path / "wide", tokenizer, files, max_length=70_000)
    sizes = [(s.folder / "00000.source.ids").stat().st_size for s in (shards, wide)]
    assert sizes[1] > 1.9 * sizes[0]
    found = [
        pair for shard in shard_pairs(wide) for pair in shard if max(map(len, pair)) <= MAX_LENGTH
    ]
    assert sorted(found) == sorted(encoded(tokenizer))


def test_a_shard_whose_pairs_are_all_too_long_has_no_batch(tmp_path, tokenizer):
    pairs = [("one", "1"), ("one two three four five", "12345"), ("two", "2")]
    files = ParallelFiles(*write_pairs(tmp_path, "text", pairs))
    limits = {"pairs": 3, "shard_pairs": 1, "max_length": 6}
    shards = write(tmp_path / "shards", tokenizer, files, **limits)
    assert (len(shards.pairs_by_length), shards.pairs, shards.too_long) == (3, 2, 1)
    batches = ShardedBatches(shards, batch_tokens=8)
    assert len(list(batches.epoch(0))) == batches.steps_per_epoch == 2


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, "No pair has at most max_length=1 tokens"),
        ({"pairs": 900}, "The text has changed: it had 900 pairs and now has 1000"),
    ],
)
def test_text_that_does_not_fit_is_an_input_error(options, message, tmp_path, tokenizer, files):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "shards", tokenizer, files, **options)


def test_batches_too_small_for_the_longest_pair_are_an_input_error(shards):
    with pytest.raises(InputError, match="batch_tokens=5, max_length=6"):
        ShardedBatches(shards, batch_tokens=5)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
@pytest.mark.parametrize("name", ["00002.target.lengths", "tokenizer.model", "index.json"])
def test_damaged_shards_are_named(name, damage, tmp_path, tokenizer, files):
    path = write(tmp_path / "shards", tokenizer, files).folder / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-2] if damage == "cut" else b"\xff" + content[1:])
    with pytest.raises(InputError, match=rf"{path}|{path.parent} does not hold encoded text"):
        Shards.open(path.parent).check()


def test_shards_of_a_newer_version_are_refused(tmp_path, tokenizer, files):
    path = write(tmp_path / "shards", tokenizer, files).folder / "index.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(InputError, match="of a newer ktransformer"):
        Shards.open(path.parent)


# The files that a long text is read from.


def test_a_text_is_left_in_its_files_where_it_has_more_pairs_than_asked(tmp_path):
    pairs = [*PAIRS[:5], ("", "1"), PAIRS[5], ("one", " ")]
    paths = write_pairs(tmp_path, "text", pairs)
    held = open_parallel(*paths, max_pairs=6)
    assert (held.sources, held.empty) == ([source for source, _ in PAIRS[:6]], 2)
    files = open_parallel(*paths, max_pairs=5)
    blocks = list(files.blocks(4))
    assert [(len(block), block.empty) for block in blocks] == [(4, 0), (2, 2)]
    assert [text for block in blocks for text in block.targets] == [t for _, t in PAIRS[:6]]


def test_a_long_text_cannot_come_through_a_pipe(tmp_path):
    source, target = write_pairs(tmp_path, "text", PAIRS)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cp", source, pipe]) as process:
        with pytest.raises(InputError, match=rf"{pipe} .* 10 "):
            open_parallel(pipe, target, max_pairs=10)
        process.kill()


def test_different_numbers_of_lines_are_named_file_by_file(tmp_path):
    for name, count in {"a.en": 30, "b.en": 7, "a.de": 30, "b.de": 16}.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"text\n" * count))
    sides = [[tmp_path / f"{name}.{side}.gz" for name in "ab"] for side in ("en", "de")]
    with pytest.raises(InputError, match=r"got 7 in .*b\.en\.gz and 16 in .*b\.de\.gz"):
        survey_files(ParallelFiles(*sides), sample_pairs=5)


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    source, target = write_pairs(tmp_path, "text", PAIRS)
    target.write_bytes(target.read_bytes() + b"\xff\n")
    source.write_bytes(source.read_bytes() + b"one\n")
    with pytest.raises(InputError, match=rf"{target}, line 1001, is not valid UTF-8"):
        survey_files(open_parallel(source, target, max_pairs=5), sample_pairs=5)


# The survey.


def test_a_survey_counts_and_tells_texts_apart(tmp_path, files):
    survey = survey_files(files, sample_pairs=2000)
    assert (survey.pairs, survey.empty) == (1000, 0)
    assert survey.sample.sources == [source for source, _ in PAIRS]
    swapped = [PAIRS[1], PAIRS[0], *PAIRS[2:]]
    other = survey_files(ParallelFiles(*write_pairs(tmp_path, "b", swapped)), sample_pairs=5)
    assert other.digest != survey.digest == survey_files(files, sample_pairs=5).digest


def test_a_sample_is_drawn_evenly_and_again_the_same(tmp_path):
    pairs = [(f"a{i}", f"b{i}") for i in range(30_000)]
    files = ParallelFiles(*write_pairs(tmp_path, "text", pairs))
    first, second = (survey_files(files, sample_pairs=1000).sample for _ in range(2))
    assert first == second
    assert len(set(zip(first.sources, first.targets, strict=True)) & set(pairs)) == 1000
    places = np.array([int(source[1:]) for source in first.sources])
    np.testing.assert_allclose(np.histogram(places, 10, (0, 30_000))[0], 100, atol=30)


# Memory, in a process of its own.

_PEAK = """
import sys
from pathlib import Path
from ktransformer.text import *
folder, count = sys.argv[1], int(sys.argv[2])
files = ParallelFiles(f"{folder}/{count}.source", f"{folder}/{count}.target")
survey = survey_files(files, sample_pairs=10_000)
tokenizer = Tokenizer.train(survey.sample.sources, 60)
limits = {"shard_pairs": 10_000, "max_length": 30}
write_shards(f"{folder}/{count}", tokenizer, files, pairs=survey.pairs, **limits)
batches = ShardedBatches(Shards.open(f"{folder}/{count}"), batch_tokens=4096)
rows = sum((labels[:, 0] > 0).sum() for _, labels in batches.epoch(0))
status = Path("/proc/self/status").read_text().split()
print(rows, status[status.index("VmHWM:") + 1])
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_text(tmp_path):
    few, many = 50_000, 200_000
    some = number_pairs(few, seed=1)
    environment = {**os.environ, "PYTHONPATH": str(Path(ktransformer.__file__).parents[1])}
    peaks = []
    for count in (few, many):
        write_pairs(tmp_path, str(count), some * (count // few))
        (tmp_path / str(count)).mkdir()
        line = [sys.executable, "-c", _PEAK, tmp_path, str(count)]
        result = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
        rows, peak = map(int, result.stdout.split())
        assert rows == count
        peaks.append(peak / 1024)
    # With all pairs of either text in the sample they differ by 90.
    assert peaks[1] - peaks[0] < 6


@pytest.mark.parametrize(
    "change",
    [
        {"type": "|O"},
        {"type": "<f8"},
        {"about": []},
        {"max_length": "6"},
        {"format_version": "1"},
        {"shards": {}},
        {"shards": [{}]},
    ],
    ids=str,
)
def test_a_crafted_index_is_refused(change, shards, tmp_path):
    index = json.loads((shards.folder / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(InputError, match="does not hold encoded text"):
        Shards.open(tmp_path)


def test_an_index_of_more_pairs_than_its_files_hold_is_refused(shards, tmp_path):
    index = json.loads((shards.folder / "index.json").read_text())
    index["shards"][0]["pairs_by_length"][0] = 10**13
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="does not hold encoded text"):
        Shards.open(tmp_path)


def test_an_index_that_is_nested_is_refused(tmp_path):
    (tmp_path / "index.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="does not hold encoded text"):
        Shards.open(tmp_path)


def test_text_is_not_encoded_into_a_folder_that_holds_something(tmp_path, tokenizer, files):
    (tmp_path / "00000.source.ids").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match=f"^{tmp_path} "):
        write_shards(
            tmp_path, tokenizer, files, pairs=len(PAIRS), shard_pairs=150, max_length=MAX_LENGTH
        )
    assert not (tmp_path / "victim").exists()


def test_the_weights_of_pairs_go_with_them_into_the_shards(tmp_path, tokenizer):
    path = tmp_path / "text.tsv"
    # The weight tells the pair: its number, 1 to 1000.
    lines = [f"{source}\t{target}\t{i}\n" for i, (source, target) in enumerate(PAIRS, start=1)]
    path.write_text("".join(lines))
    survey = survey_files(PairFiles(path), sample_pairs=10)
    assert survey.weighted
    shards = write(tmp_path / "shards", tokenizer, PairFiles(path), weighted=True)
    shards.check()
    batches = ShardedBatches(shards, **OPTIONS)
    seen = []
    for _, labels, weights in batches.epoch(0):
        texts = tokenizer.decode(labels).numpy()
        for text, weight in zip(texts, weights.tolist(), strict=True):
            if weight:
                seen.append(weight)
                assert PAIRS[int(weight) - 1][1].encode() == text
    assert len(seen) == len(set(seen)) == shards.pairs


def test_surveys_tell_weights_apart(tmp_path):
    digests = set()
    for i, weight in enumerate((1, 2, 3)):
        (tmp_path / f"{i}.tsv").write_text(f"a\tA\t{weight}\n")
        digests.add(survey_files(PairFiles(tmp_path / f"{i}.tsv"), sample_pairs=1).digest)
    assert len(digests) == 3

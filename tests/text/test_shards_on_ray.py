"""Encoding on a Ray cluster of two nodes."""

import os

import pytest

from ktransformer.errors import InputError
from ktransformer.runtime.ray_cluster import joined_cluster, map_on_cluster
from ktransformer.saving.run import load_run
from ktransformer.text import ParallelFiles, Shards, Tokenizer, shard_writing, write_shards
from ktransformer.text.line_limits import LengthBound
from tests.run_command import command
from tests.small_run import number_pairs, train_arguments, write_pairs

pytestmark = pytest.mark.long
PAIRS = number_pairs(1000, seed=3)
_STORE = {"object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def cluster():
    """A head without a CPU and two nodes with one each."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    head = {"num_cpus": 0, "include_dashboard": False, **_STORE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1, **_STORE)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes shards of a text with empty and long lines, with two tokenizers; gives their files."""
    monkeypatch.setattr(shard_writing, "_BLOCK_PAIRS", 50)  # Twenty blocks.
    pairs = [pair if i % 9 else ("", pair[1]) for i, pair in enumerate(PAIRS)]
    files = ParallelFiles(*write_pairs(tmp_path, "text", pairs))
    tokenizers = [Tokenizer.train(list(side), 40) for side in zip(*PAIRS, strict=True)]

    def write(name, **options):
        folder = tmp_path / name
        folder.mkdir()
        write_shards(
            folder,
            tokenizers[0],
            files,
            pairs=sum(source != "" for source, _ in pairs),
            shard_pairs=150,
            max_length=6,
            bound=LengthBound(6),
            target_tokenizer=tokenizers[1],
            weighted=True,
            **options,
        )
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    return write


def test_a_cluster_writes_the_shards_of_one_process(cluster, write, tmp_path):
    with joined_cluster(cluster.address):
        for workers in (None, 1, 3):
            found = write(
                f"ray-{workers}",
                map_blocks=lambda encode, blocks, n=workers: map_on_cluster(
                    encode, blocks, workers=n
                ),
            )
            if workers is None:
                single = write("single")
            assert found == single
    assert Shards.open(tmp_path / "ray-1").too_long > 0


def _length(text):
    if text == "broken":
        raise InputError("Line 5 is broken.")
    return len(text)


@pytest.mark.longest
def test_items_are_taken_only_a_few_ahead_of_the_results(cluster):
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield "a" * number

    with joined_cluster(cluster.address):
        for done, result in enumerate(map_on_cluster(_length, items(), workers=2)):
            assert result == done
            assert len(taken) - done <= 4


@pytest.mark.longest
def test_an_error_of_the_input_is_told_as_it_was(cluster):
    with joined_cluster(cluster.address), pytest.raises(InputError, match=r"^Line 5 is broken\.$"):
        list(map_on_cluster(_length, ["a", "broken"]))


def test_the_loss_of_a_node_changes_no_byte(cluster, write):
    lost = []

    def lose_a_node(done):
        if not lost:
            lost.append(done)
            cluster.remove_node(sorted(cluster.worker_nodes, key=str)[0], allow_graceful=False)

    with joined_cluster(cluster.address):
        found = write("ray", map_blocks=map_on_cluster, on_block=lose_a_node)
    assert lost
    assert found == write("single")


def test_the_command_trains_the_same_model_where_a_cluster_encodes(tmp_path):
    files = write_pairs(tmp_path, "text", PAIRS)
    small = ("epochs=1", "shard_pairs=300", "average_checkpoints=1", "bleu_sentences=0")
    settings = [word for setting in small for word in ("--set", setting)]
    for name, options in (("alone", ()), ("cluster", ("--encode-ray",))):
        result = command(*train_arguments(*files, tmp_path / name, *settings, *options))
        assert result.returncode == 0, result.stderr
    alone, cluster = (load_run(tmp_path / name).model for name in ("alone", "cluster"))
    for first, second in zip(alone.weights, cluster.weights, strict=True):
        assert first.numpy().tobytes() == second.numpy().tobytes()

"""Corpora on a Ray cluster of several nodes, whose processes and nodes die."""

import gzip
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ktransformer.corpora import translate_corpus
from ktransformer.errors import InputError
from tests.corpora.small_corpus import (
    corpus_command,
    files_of,
    kill,
    number_lines,
    parts_of,
    wait_for,
    write_lines,
)

_STORE = {"object_store_memory": 80 << 20}


class Nodes:
    """A cluster of a head without a CPU and nodes with one each."""

    def __init__(self, count):
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, **_STORE}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add() for _ in range(count)]

    def add(self):
        return self.cluster.add_node(num_cpus=1, **_STORE)

    def replace_one(self):
        """Kills a node and adds another."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        self.nodes.append(self.add())

    def translating(self):
        """The processes that translate for this cluster."""
        raylets = {node.all_processes["raylet"][0].process.pid for node in self.nodes}
        return [pid for pid, parent in _translating() if parent in raylets]


def _translating():
    """The processes of this machine that translate a shard, with their parents."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cmdline").read_bytes().startswith(b"ray::run_shard"):
                yield int(path.name), int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # It has just ended.


@pytest.fixture(scope="module")
def nodes():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    nodes = Nodes(2)
    yield nodes
    nodes.cluster.shutdown()


@pytest.fixture
def inputs(tmp_path):
    lines = number_lines(3000)
    plain = write_lines(tmp_path / "plain.txt", lines[:2000])
    (tmp_path / "packed.gz").write_bytes(gzip.compress("\n".join(lines[2000:]).encode()))
    return [plain, tmp_path / "packed.gz"]


def translate(model, inputs, output, **options):
    return translate_corpus(model, inputs, output, shard_bytes=2000, **options)


@pytest.mark.parametrize("suffix", ["parquet", pytest.param("jsonl", marks=pytest.mark.long)])
def test_a_cluster_gives_the_bytes_of_a_single_process(suffix, nodes, lite_file, tmp_path):
    lines, source = number_lines(300), tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"text": lines}), source, row_group_size=80)
    else:
        write_lines(source, [f'{{"text": "{line}"}}' for line in lines])
    outputs = [tmp_path / "ray", tmp_path / "single"]
    reports = [
        translate(lite_file, [source], output, n_best=2, ray=address)
        for output, address in zip(outputs, (nodes.cluster.address, None), strict=True)
    ]
    assert files_of(outputs[0]) == files_of(outputs[1])
    assert reports[0] == reports[1]


def test_killed_processes_and_nodes_change_no_byte(nodes, lite_file, inputs, tmp_path):
    texts_at_kills, killed = [], []

    def kill_one():
        """Waits until a process translates, and kills it."""
        while not (found := nodes.translating()):
            time.sleep(0.005)
        os.kill(found[0], signal.SIGKILL)
        killed.append(found[0])

    killer = threading.Thread(target=kill_one, daemon=True)

    def on_progress(progress):
        """Kills a process after a quarter of the texts, a node after a half and three quarters."""
        if progress.texts < (len(texts_at_kills) + 1) * progress.total / 4:
            return
        if len(texts_at_kills) == 3:
            return
        texts_at_kills.append(progress.texts)
        if len(texts_at_kills) == 1:
            killer.start()
        else:
            nodes.replace_one()

    report = translate(
        lite_file, inputs, tmp_path / "ray", ray=nodes.cluster.address, on_progress=on_progress
    )
    killer.join(1)
    assert len(killed) == 1
    assert len(texts_at_kills) == 3
    assert report == translate(lite_file, inputs, tmp_path / "single")
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "single")


def test_what_is_wrong_in_a_worker_is_one_sentence(nodes, lite_file, inputs, tmp_path):
    address = nodes.cluster.address
    with pytest.raises(InputError, match="at most the beam size, 3; got 7") as error:
        translate(lite_file, inputs, tmp_path / "a", ray=address, n_best=7)
    assert "\n" not in str(error.value)

    def change_input(progress):
        write_lines(inputs[0], ["one"] * 3000)

    with pytest.raises(InputError, match="changed while the corpus was translated") as error:
        translate(lite_file, inputs, tmp_path / "b", ray=address, on_progress=change_input)
    assert "\n" not in str(error.value)


@pytest.mark.long
def test_a_killed_driver_goes_on(nodes, lite_file, tmp_path):
    source = write_lines(tmp_path / "a.txt", number_lines(40_000))
    output = tmp_path / "out"
    more = ["--shard-bytes", 2000, "--ray", nodes.cluster.address]
    process = subprocess.Popen(
        corpus_command(lite_file, [source], output, *more), stderr=subprocess.DEVNULL
    )
    wait_for(lambda: len(parts_of(output)) > 3, process)
    kill(process)
    before = parts_of(output)
    write_lines(source, number_lines(40_000)[:1000])
    seen = []
    translate(lite_file, [source], output, ray=nodes.cluster.address, on_progress=seen.append)
    assert 0 < seen[0].earlier < 1000
    assert before
    translate(lite_file, [source], tmp_path / "whole")
    assert files_of(output) == files_of(tmp_path / "whole")


@pytest.mark.long
def test_a_cluster_of_ones_own_ends_with_the_command(lite_file, inputs, tmp_path):
    line = corpus_command(lite_file, inputs, tmp_path / "ray", "--ray", "--workers", 2)
    result = subprocess.run(
        [*line, "--shard-bytes", "2000"], capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert re.search(r"^3000 lines translated, [\d.]+ a second\.$", result.stderr, re.MULTILINE)
    translate(lite_file, inputs, tmp_path / "single")
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "single")


@pytest.mark.parametrize("address", ["somewhere", "127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_named(address, lite_file, inputs, tmp_path):
    with pytest.raises(InputError, match=f"Cannot join Ray at {address}: "):
        translate(lite_file, inputs, tmp_path / "out", ray=address)


def test_a_missing_ray_is_said_in_a_sentence(lite_file, inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ImportError, match=r'Ray is not installed: pip install "ktransformer\[ray\]'
    ):
        translate(lite_file, inputs, tmp_path / "out", ray="local")


@pytest.mark.long
def test_the_command_needs_no_ray_without_the_option(lite_file, inputs, tmp_path):
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from ktransformer.corpora import translate_corpus\n"
        "translate_corpus(*sys.argv[1:4])\n"
    )
    arguments = [lite_file, inputs[0], tmp_path / "out"]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    assert len(files_of(tmp_path / "out")["plain.txt"].splitlines()) == 2000

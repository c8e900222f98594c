"""The command `serve`, on Ray, with callers that keep asking while things are killed."""

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ktransformer.engines import load_engine
from ktransformer.exporting import export_lite
from tests.export.requirements import need, need_program
from tests.run_command import refusal
from tests.serving.running_app import ask
from tests.serving.served import Callers, children, free_port, kill, served

pytestmark = pytest.mark.long
MODULES = Path(__file__).parents[2] / "export" / "web" / "node_modules"
TEXT = "four zero two"


@pytest.fixture(scope="module")
def model(translator, tmp_path_factory):
    """A .tflite that aligns as well."""
    signatures = ["serving_default", "beam", "document", "annotate"]
    path = tmp_path_factory.mktemp("served") / "model.tflite"
    return export_lite(translator, path, signatures=signatures)


@pytest.fixture(scope="module")
def expected(model):
    return load_engine(model).translate([TEXT])[0]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_page_translates_and_aligns_by_keyboard_on_two_screens(model, tmp_path):
    node, browser = need_program("node"), need_program("chromium", "chromium-browser")
    need((MODULES / "playwright-core").is_dir(), "npm install in export/web")
    with served(f"en-de={model}") as (_, address):
        result = subprocess.run(
            [node, Path(__file__).with_name("check_page.mjs"), address, TEXT, tmp_path],
            env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "CHROMIUM": browser},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        assert found["translation"] == load_engine(model).translate_document([TEXT])[0].text
        assert found["alternatives"] == 2
        assert len(found["lit"]) >= 2
        files = re.findall(r'(?:src|href)="(.+?)"', ask(f"{address}/docs").body.decode())
        assert len(files) > 2  # Nothing of the page of the API is loaded from elsewhere.
        assert [ask(address + file).status for file in files] == [200] * len(files)
        problems = ("tooWide", "elsewhere", "errors", "unnamed")
        assert not [found[each] for each in problems if found[each]]

        wait_for(lambda: b"ray_ktransformer_texts_total" in ask(f"{address}/metrics").body)
        metrics = ask(f"{address}/metrics").body.decode()
        names = {line.split("{")[0] for line in metrics.splitlines() if line[0] != "#"}
        stages = {f"ray_ktransformer_{each}_seconds_count" for each in ("request", "wait", "run")}
        assert stages <= names
        assert str(model.parent) not in metrics


def test_all_goes_on_when_a_replica_is_killed_and_what_was_taken_is_answered(model, expected):
    with served(f"en-de={model}", "--replicas", 2, "--threads", 1) as (process, address):
        with Callers(address, 8, TEXT, expected) as callers:
            wait_for(lambda: callers.counts[200] > 100)
            killed, _ = children(process, "ServeReplica")
            kill(killed)
            before = callers.counts[200]
            wait_for(lambda: callers.counts[200] > before + 200)
            # Of the requests in flight, HAProxy asks the other replica, or tells to try again.
            assert set(callers.counts) <= {200, 503, "broken"}
            assert callers.counts["broken"] + callers.counts[503] <= 8
            wait_for(lambda: len(children(process, "ServeReplica")) == 2)

            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0
        # Later callers find no server, or one that ends.
        assert set(callers.counts) <= {200, 503, "refused", "broken"}
        assert callers.counts["broken"] <= 16
        assert children(process, "ServeReplica") == []


@pytest.mark.longest
def test_replicas_come_under_load_and_go_after_it(model, expected):
    arguments = (f"en-de={model}", "--max-replicas", 2, "--threads", 1, "--idle-seconds", 5)
    with served(*arguments) as (process, address):
        assert len(children(process, "ServeReplica")) == 1
        with Callers(address, 40, TEXT, expected) as callers:
            wait_for(lambda: len(children(process, "ServeReplica")) == 2, 300)
            before = callers.counts[200]
            wait_for(lambda: callers.counts[200] > before + 100)
        with Callers(address, 1, TEXT, expected) as caller:
            wait_for(lambda: len(children(process, "ServeReplica")) == 1, 300)
        assert set(callers.counts + caller.counts) == {200}


def test_the_server_comes_back_when_all_replicas_and_the_proxy_are_killed(model, expected):
    fields = {"q": TEXT, "source": "en", "target": "de"}
    with served(f"en-de={model}") as (process, address):

        def answers():
            try:
                return ask(f"{address}/translate", fields).status == 200
            except OSError:
                return False

        (replica,) = children(process, "ServeReplica")
        kill(replica)
        found = ask(f"{address}/translate", fields)
        assert found.status in (200, 503)  # It waits for the next replica, or tells to try again.
        assert found.status == 200 or found.headers["Retry-After"]
        wait_for(answers)
        proxies = children(process, "bin/haproxy")
        assert proxies
        for proxy in proxies:
            kill(proxy)
        wait_for(answers)


def test_a_new_number_is_served_by_every_replica_with_no_failed_request(model, expected, tmp_path):
    shutil.copy(model, tmp_path / "1.tflite")
    arguments = (f"en-de={tmp_path}", "--replicas", 2, "--threads", 1)
    with served(*arguments) as (_, address), Callers(address, 4, TEXT, expected) as callers:
        shutil.copy(model, tmp_path / "part")
        (tmp_path / "part").rename(tmp_path / "2.tflite")
        versions = f"{address}/v1/models/en-de/versions/2"
        wait_for(lambda: all(ask(versions).status == 200 for _ in range(20)))
        assert set(callers.counts) == {200}


def test_on_a_cluster_it_tells_where_ray_serve_listens_already(model):
    from ray.cluster_utils import Cluster

    cluster, port = Cluster(initialize_head=True, head_node_args={"num_cpus": 1}), free_port()
    arguments = (f"en-de={model}", "--ray", cluster.address)
    try:
        with served(*arguments, port=port):  # Ray Serve goes on when it ends.
            pass
        with served(*arguments, announced=port) as (_, address):
            assert ask(f"{address}/health").status == 200
    finally:
        cluster.shutdown()


def test_what_cannot_be_served_is_told_in_a_sentence(capsys, lite_file, tmp_path):
    assert "no such file" in refusal(capsys, "serve", tmp_path / "nothing")
    idle = refusal(capsys, "serve", lite_file, "--idle-seconds", 5)
    assert idle == "ktransformer: --idle-seconds goes with --max-replicas."
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(lite_file.read_bytes()[:1000])
    assert "broken.tflite" in refusal(capsys, "serve", f"en-de={broken}")
    twice = [f"en-de={lite_file}"] * 2
    assert "Two models translate en into de" in refusal(capsys, "serve", *twice)
    port = free_port()
    with served(f"en-de={lite_file}", port=port):
        sentence = refusal(capsys, "serve", f"en-de={lite_file}", "--port", port)
        assert f"cannot listen on 127.0.0.1:{port}" in sentence

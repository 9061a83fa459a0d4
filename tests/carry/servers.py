"""Real servers for the tests: SFTP in this process (asyncssh), S3 as a process (moto)."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import s3fs

__all__ = ["s3_server", "sftp_server"]


@contextmanager
def sftp_server(root: Path, home: Path) -> Iterator[int]:
    """An SFTP server below `root` that takes one key. `home` gets that key and the host's: a user's ~/.ssh."""
    host, user = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

    def files(channel: Any) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(root).encode())

    async def begin() -> asyncssh.SSHAcceptor:
        allowed = asyncssh.import_authorized_keys(user.export_public_key().decode())
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Server,
            server_host_keys=[host],
            authorized_client_keys=allowed,
            sftp_factory=files,
        )

    server = asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
    port = server.get_port()
    ssh = home / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    user.write_private_key(str(ssh / "id_ed25519"))
    (ssh / "id_ed25519").chmod(0o600)
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
    try:
        yield port
    finally:

        async def end() -> None:
            server.close()
            await server.wait_closed()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


@contextmanager
def s3_server(bucket: str) -> Iterator[Mapping[str, str]]:
    """Moto's S3 server with one bucket; gives the environment in which AWS tools find it."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    keys = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "not-a-real-secret"}
    where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        tempfile.TemporaryDirectory() as home,  # its recording lies where it runs
        subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **keys}, cwd=home
        ) as p,
    ):
        try:
            _wait(port, p)
            files = s3fs.S3FileSystem(
                key=keys["AWS_ACCESS_KEY_ID"],
                secret=keys["AWS_SECRET_ACCESS_KEY"],
                endpoint_url=where["AWS_ENDPOINT_URL"],
                skip_instance_cache=True,
            )
            files.mkdir(bucket)
            yield {**keys, **where}
        finally:
            p.terminate()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, "moto's server ended"
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("moto's server does not answer")

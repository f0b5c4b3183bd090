"""The server that sessions fork off."""

from __future__ import annotations

import subprocess
import sys

from tests.forked import ENVIRONMENT


def test_server_whose_starter_is_gone_removes_its_folder(tmp_path):
    folder = tmp_path / "forked"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.forked", str(folder / "socket"), str(folder / "python")]
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"ready\n"
        assert (folder / "socket").exists()
        server.communicate()  # closes its standard input, as the end of the process that started it does
    assert server.returncode == 0
    assert not folder.exists()

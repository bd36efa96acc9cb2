"""What the log never has."""

from __future__ import annotations

from pathlib import Path

from tests.resource_api.storage.test_s3_client import responding, serving
from tests.support.loader_server import run_python

DAMAGED = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nno header\r\n\r\n'
PROGRAM = """
import logging.config, sys
from resource_api import logs
from tests.resource_api.storage.test_s3_client import bucket_at

logging.config.dictConfig(logs.config(""))
logging.getLogger("resource_api").warning("asks the store")
bucket_at(sys.argv[1]).head("x")
"""


def test_a_damaged_response_of_the_store_puts_no_signed_url_into_the_log(tmp_path: Path) -> None:
    with serving(responding(DAMAGED)) as url:
        ended = run_python(tmp_path, "-c", PROGRAM, url)
    assert ended.returncode == 0, ended.stderr
    assert "asks the store" in ended.stderr
    assert "Signature" not in ended.stderr

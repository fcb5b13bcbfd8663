"""Buckets on loopback: moto's S3 server, in an environment that uv makes and keeps."""

import contextlib
import subprocess
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import registry as registries

# Not among the test's own packages: what it needs would hold back the image's lock.
PACKAGES = ("moto[s3]>=5", "flask", "flask-cors")
# It lets in whoever has a name, and checks no signature.
LOGIN = "AWS4-HMAC-SHA256 Credential=someone/20260101/us-east-1/s3/aws4_request"


@dataclass(frozen=True)
class Buckets:
    """Where the service listens on the host."""

    port: int

    def make(self, bucket):
        self._ask("PUT", bucket)

    def put(self, bucket, key, content):
        self._ask("PUT", f"{bucket}/{key}", content)

    def get(self, bucket, key):
        return self._ask("GET", f"{bucket}/{key}")

    def keys(self, bucket, prefix=""):
        """Return the names of what is in *bucket* below *prefix*."""
        query = urllib.parse.urlencode({"list-type": 2, "prefix": prefix})
        tree = ET.fromstring(self._ask("GET", bucket, query=f"?{query}"))
        return [found.text for found in tree.iterfind(".//{*}Key")]

    def _ask(self, method, path, content=None, query=""):
        url = f"http://127.0.0.1:{self.port}/{urllib.parse.quote(path)}{query}"
        asked = urllib.request.Request(url, data=content, method=method)
        asked.add_header("Authorization", LOGIN)
        asked.add_header("Content-Type", "application/octet-stream")
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.read()


@contextlib.contextmanager
def running(folder):
    """Run the service; its log is in *folder*."""
    port = registries.free_port("127.0.0.1")
    packages = [word for name in PACKAGES for word in ("--with", name)]
    environment = ["uv", "run", "--no-project", "--isolated", "--quiet", *packages]
    command = [sys.executable, "-m", *environment, "moto_server", "-H", "127.0.0.1"]
    with (folder / "buckets.txt").open("w") as log:
        process = subprocess.Popen([*command, "-p", str(port)], stdout=log, stderr=log)
        try:
            registries.wait_for("127.0.0.1", port, patience_s=120)
            yield Buckets(port)
        finally:
            process.terminate()
            process.wait()

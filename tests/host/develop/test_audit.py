import dataclasses
import datetime as dt
import http.server
import json
import threading

import pytest

from samerun.core.errors import LicenseUnknown, NotAudited, UsageError, Vulnerable
from samerun.host.checkout.project import Project
from samerun.host.develop import audit
from samerun.host.image.inspect import Package

ID = "GHSA-test-0001"
KNOWN = {
    "id": ID,
    "modified": "2026-01-01T00:00:00Z",
    "summary": "bad",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "pillow"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
        }
    ],
}


class Service(http.server.BaseHTTPRequestHandler):
    """What api.osv.dev answers, with one thing known about pillow."""

    def do_POST(self):
        queries = json.loads(self.rfile.read(int(self.headers["content-length"])))["queries"]
        known = {"vulns": [{"id": ID, "modified": KNOWN["modified"]}]}
        names = [query["package"]["name"] for query in queries]
        self.answer({"results": [known if name == "pillow" else {} for name in names]})

    def do_GET(self):
        self.answer(KNOWN)

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture(scope="module")
def service():
    """A vulnerability service on loopback; its address."""
    with http.server.HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture
def checkout(project, tmp_path):
    """A folder with this checkout's lock, and an audit.toml of the test's own."""
    for name in ("pyproject.toml", "uv.lock", "README.md"):
        (tmp_path / name).write_bytes((project.root / name).read_bytes())
    (tmp_path / audit.FILE).write_text("")
    return Project(root=tmp_path)


def let_pass(checkout, days):
    until = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days)
    entry = f'[[vulnerability]]\nid = "{ID}"\nwhy = "a test"\nuntil = {until}\n'
    (checkout.root / audit.FILE).write_text(entry)


def test_known_vulnerability_is_an_error(checkout, service):
    """With package, version, number and summary."""
    with pytest.raises(Vulnerable) as caught:
        audit.vulnerabilities(checkout, print, service)

    assert {"pillow", ID, "bad"} <= set(caught.value.what.replace(":", "").split())


def test_what_is_let_pass_is_no_error(checkout, service):
    """Until its day."""
    let_pass(checkout, days=0)
    said = []

    audit.vulnerabilities(checkout, said.append, service)

    assert "no known vulnerabilities" in said[-1]


def test_exemption_ends_at_its_day(checkout, service):
    """Then it counts again, and the old reason is shown."""
    let_pass(checkout, days=-1)
    said = []

    with pytest.raises(Vulnerable):
        audit.vulnerabilities(checkout, said.append, service)

    assert "a test" in said[0]


def test_silence_is_not_taken_for_health(checkout):
    """No service: "not audited", with an exit code of its own."""
    with pytest.raises(NotAudited, match="Not audited"):
        audit.vulnerabilities(checkout, print, "http://127.0.0.1:9/")


@pytest.mark.parametrize(
    "entry",
    [
        f'[[vulnerability]]\nid = "{ID}"\nuntil = 2030-01-01',
        f'[[vulnerability]]\nid = "{ID}"\nwhy = " "\nuntil = 2030-01-01',
        f'[[vulnerability]]\nid = "{ID}"\nwhy = "x"',
        f'[[vulnerability]]\nid = "{ID}"\nwhy = "x"\nuntil = "for ever"',
        '[[license]]\npackage = "x"\nlicense = "MIT"',
        "[[license",
    ],
)
def test_nothing_is_let_pass_without_reason_and_day(tmp_path, entry):
    """A line that lacks either is an error, not an exemption."""
    (tmp_path / audit.FILE).write_text(entry)

    with pytest.raises(UsageError, match=audit.FILE):
        audit.read(tmp_path / audit.FILE)


def test_unknown_license_is_an_error_until_it_is_named():
    """The packages are listed; audit.toml may name what their metadata does not."""
    known = Package(kind="python", name="a", version="1", license="MIT", bytes=1)
    unknown = dataclasses.replace(known, name="b", license="unknown")
    allowed = audit.Allowed(exemptions=(), licenses={"b": "BSD-3-Clause"})

    with pytest.raises(LicenseUnknown, match="b 1"):
        audit.licenses([known, unknown], dataclasses.replace(allowed, licenses={}))
    assert audit.licenses([known, unknown], allowed) == [
        ("a", "1", "MIT"),
        ("b", "1", "BSD-3-Clause"),
    ]


def test_audit_file_of_this_checkout_can_be_read(project):
    """Every entry has its fields."""
    assert audit.read(project.root / audit.FILE).licenses

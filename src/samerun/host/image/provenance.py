"""
Provenance and SBOM of an image, attached to it in the registry.

Both are artifacts with the image as their subject (OCI 1.1), so registries list them as its
referrers; older registries find them by tag, ``sha256-HEX.att`` and ``sha256-HEX.sbom``.
The statement is SLSA provenance v1 (https://slsa.dev/spec/v1.0/provenance). It is stored
next to the image, because in an index it would change the digest with every build.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract
from samerun.core.record import Image
from samerun.host.image import identity
from samerun.host.image.registry import ASK_TIMEOUT_S, split
from samerun.host.machine import engine

if TYPE_CHECKING:
    from docker import DockerClient

BUILD_TYPE = "urn:samerun:build:v1"
IN_TOTO = "application/vnd.in-toto+json"
# The engine looks here for the certificates of private registries.
CERTIFICATES = Path("/etc/docker/certs.d")
CYCLONEDX = "application/vnd.cyclonedx+json"


def attach(client: "DockerClient", image: Image) -> Iterator[str]:
    """Attach provenance and SBOM to the pushed *image*; yield a line for each failure."""
    reference = image.pull_reference or image.reference
    raw = identity.look_up(client, image.reference)
    version = engine.inspect(client).version
    provenance = statement(image, identity.facts(client, raw), version)
    content = {(IN_TOTO, "att"): json.dumps(provenance, indent=1).encode()}
    sbom = identity.read_file(client, raw["Id"], contract.IMAGE_SBOM)
    if sbom is not None:
        content[CYCLONEDX, "sbom"] = sbom
    for (media_type, suffix), body in content.items():
        problem = _attach(client, reference, media_type, suffix, body)
        if problem:
            yield f"The image is pushed, but its {suffix} could not be attached: {problem}"


def statement(image: Image, facts: dict[str, Any], builder: str) -> dict[str, Any]:
    """Return the in-toto statement about *image*; *facts* are recorded by its build."""
    name, digest = split(image.pull_reference or image.reference)
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": _sha256(digest)}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"cuda": image.cuda, "base": image.base.origin},
                "internalParameters": {"epoch": contract.EPOCH, "inputs": image.inputs},
                "resolvedDependencies": list(_dependencies(image, facts)),
            },
            "runDetails": {
                "builder": {"id": "urn:samerun:host", "version": {"docker": builder}},
                "byproducts": [
                    {"name": "config", "digest": _sha256(image.config_digest)},
                    {"name": "layers", "digest": _sha256(image.layers_digest)},
                ],
            },
        },
    }


def _dependencies(image: Image, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    reference = image.base.reference
    if "@" in reference:
        yield {"name": "base", "uri": f"pkg:oci/{reference}", "digest": _sha256(reference)}
    if image.lock:
        yield {"name": "uv.lock", "digest": {"sha256": image.lock}}
    if facts.get("commit"):
        yield {"name": "source", "digest": {"gitCommit": facts["commit"]}}


def _sha256(digest: str | None) -> dict[str, str]:
    return {"sha256": digest.rsplit(":", 1)[-1]} if digest else {}


def _attach(
    client: "DockerClient", reference: str, media_type: str, suffix: str, body: bytes
) -> str | None:
    """Push one artifact whose subject is the image; return the problem, if any."""
    from oras.oci import Subject

    name, digest = split(reference)
    target = f"{name}:{digest.replace(':', '-')}.{suffix}"
    try:
        descriptor = client.api.inspect_distribution(reference)["Descriptor"]
        subject = Subject(descriptor["mediaType"], descriptor["digest"], descriptor["size"])
        oras = _client(client, name.split("/")[0])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{suffix}.json"
            path.write_bytes(body)
            file = f"{path}:{media_type}"
            oras.push(target, files=[file], subject=subject, disable_path_validation=True)
    except Exception as error:  # noqa: BLE001 - the image itself is pushed in any case
        return " ".join(str(error).split())[:300]
    return None


def _client(client: "DockerClient", host: str) -> Any:
    """Return a client for the registry *host*, with the engine's login."""
    import docker.auth
    from oras.client import OrasClient

    oras = OrasClient(**_connection_options(client, host))
    entry = docker.auth.load_config().resolve_authconfig(host) or {}
    # Credential helpers capitalize the names, the configuration file does not.
    login = {name.lower(): value for name, value in entry.items()}
    if login.get("password"):
        oras.auth.set_basic_auth(login["username"], login["password"])
    return oras


def _connection_options(client: "DockerClient", host: str) -> dict[str, Any]:
    """Return how the engine connects to *host*: its CA, or plain HTTP if allowed."""
    import requests

    ca = CERTIFICATES / host / "ca.crt"
    verify: bool | str = str(ca) if ca.is_file() else True
    index = client.info()["RegistryConfig"]["IndexConfigs"].get(host, {})
    is_loopback = host.partition(":")[0] in ("localhost", "127.0.0.1")
    may_be_plain = is_loopback or index.get("Secure") is False
    options: dict[str, Any] = {"tls_verify": verify}
    try:
        answer = requests.get(f"https://{host}/v2/", timeout=ASK_TIMEOUT_S, verify=verify)
    except requests.exceptions.ConnectionError:
        if not may_be_plain:
            raise
        options = {"insecure": True}
        answer = requests.get(f"http://{host}/v2/", timeout=ASK_TIMEOUT_S)
    if answer.headers.get("WWW-Authenticate", "").lower().startswith("basic"):
        options["auth_backend"] = "basic"
    return options

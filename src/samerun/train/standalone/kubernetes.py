"""Ask Kubernetes for the image and the machine of this container."""

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samerun.core import contract, references

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONTAINERS = ("training", "node")
"""Names of our container in a Job's pod, and in the pods of Kubeflow Trainer."""

TIMEOUT_S = 5.0
# The container may start before the status of its pod is updated.
ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The running digest (64 digits), or why it is unknown; and the machine's name."""

    digest: str = ""
    why_not: str = ""
    node: str = ""


def running(
    variables: Mapping[str, str] = os.environ, account: Path = ACCOUNT, *, pause_s: float = 2.0
) -> Answer:
    """Return the cluster's answer about this container."""
    pod, node = variables.get(contract.ENV_POD), ""
    if not pod:
        return Answer(why_not="no cluster was asked")
    for attempt in range(ATTEMPTS):
        time.sleep(pause_s if attempt else 0)
        try:
            status = _ask(variables, account, pod)
        except urllib.error.HTTPError as error:
            return Answer(why_not=f"the cluster refused to show the pod {pod} ({error.code})")
        except KeyError as error:
            return Answer(why_not=f"no cluster could be asked: {error.args[0]} is not set")
        except (OSError, ValueError) as error:
            problem = f"the cluster could not be asked ({type(error).__name__}: {error})"
            continue
        digest, node = _digest(status), str(status.get("spec", {}).get("nodeName") or "")
        if digest:
            return Answer(digest=digest, node=node)
        problem = f"the cluster reports no digest for the pod {pod}"
    return Answer(why_not=problem, node=node)


def _ask(variables: Mapping[str, str], account: Path, pod: str) -> dict[str, Any]:
    """Return the pod from the API, with the token and CA certificate in every pod."""
    host, port = (variables[f"KUBERNETES_SERVICE_{name}"] for name in ("HOST", "PORT"))
    token = (account / "token").read_text(encoding="utf-8").strip()
    namespace = (account / "namespace").read_text(encoding="utf-8").strip()
    # An IPv6 address needs brackets.
    host = f"[{host}]" if ":" in host else host
    url = f"https://{host}:{port}/api/v1/namespaces/{namespace}/pods/{pod}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    context = ssl.create_default_context(cafile=str(account / "ca.crt"))
    with _opener(context)(request, timeout=TIMEOUT_S) as response:
        content: dict[str, Any] = json.load(response)
    return content


def _opener(context: ssl.SSLContext) -> Callable[..., Any]:
    """Return a function that opens a URL without a proxy, because the address is internal."""
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers).open


def _digest(pod: dict[str, Any]) -> str:
    """Return the digest in ``status.containerStatuses[].imageID``, empty if there is none yet."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        digest = references.digest_of(status.get("imageID") or "")
        if status.get("name") in CONTAINERS and digest:
            return digest
    return ""

"""Ask Kubernetes which image this container runs, and on which machine."""

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
"""Names of our container in a Job's pod, and where Kubeflow's trainer wants its own name."""

TIMEOUT_S = 5.0
# A container may be faster than the status of its pod.
ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The 64 digits of the running image, or why there are none; and the machine's name."""

    digest: str = ""
    why_not: str = ""
    node: str = ""


def running(
    variables: Mapping[str, str] = os.environ, account: Path = ACCOUNT, *, pause_s: float = 2.0
) -> Answer:
    """Return what the cluster says of this container."""
    pod, node = variables.get(contract.ENV_POD), ""
    if not pod:
        return Answer(why_not="no cluster was asked")
    for attempt in range(ATTEMPTS):
        time.sleep(pause_s if attempt else 0)
        try:
            found = _ask(variables, account, pod)
        except urllib.error.HTTPError as error:
            return Answer(why_not=f"the cluster refused to show the pod {pod} ({error.code})")
        except KeyError as error:
            return Answer(why_not=f"no cluster could be asked: {error.args[0]} is not set")
        except (OSError, ValueError) as error:
            problem = f"the cluster could not be asked ({type(error).__name__}: {error})"
            continue
        digest, node = _digest(found), str(found.get("spec", {}).get("nodeName") or "")
        if digest:
            return Answer(digest=digest, node=node)
        problem = f"the cluster names no digest for the pod {pod}"
    return Answer(why_not=problem, node=node)


def _ask(variables: Mapping[str, str], account: Path, pod: str) -> dict[str, Any]:
    """Return the pod as the API serves it; token and authority lie in every pod."""
    host, port = (variables[f"KUBERNETES_SERVICE_{name}"] for name in ("HOST", "PORT"))
    token = (account / "token").read_text(encoding="utf-8").strip()
    namespace = (account / "namespace").read_text(encoding="utf-8").strip()
    # An IPv6 address needs its brackets.
    host = f"[{host}]" if ":" in host else host
    url = f"https://{host}:{port}/api/v1/namespaces/{namespace}/pods/{pod}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    context = ssl.create_default_context(cafile=str(account / "ca.crt"))
    with _opener(context)(request, timeout=TIMEOUT_S) as answer:
        pod_found: dict[str, Any] = json.load(answer)
    return pod_found


def _opener(context: ssl.SSLContext) -> Callable[..., Any]:
    """Return what opens a URL past any proxy: the cluster's address is its own."""
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers).open


def _digest(pod: dict[str, Any]) -> str:
    """Return the digest in ``status.containerStatuses[].imageID``, empty while there is none."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        found = references.digest_of(status.get("imageID") or "")
        if status.get("name") in CONTAINERS and found:
            return found
    return ""

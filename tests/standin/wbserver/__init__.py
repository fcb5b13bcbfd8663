"""
A stand-in for W&B's server, for tests: on loopback, with its state in a folder.

    with wbserver.make_server(folder, entity="ent", api_keys=[KEY]) as server:
        ...  # WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY
    server.store.runs["ent/project/id"].history()

As a process: ``python tests/standin/serve.py --port 8765 --data DIR``, which prints its address.
What tests ask there, without a key:

    GET  /_admin/state    projects, runs, collections, artifacts: see `view`
    GET  /_admin/log      the requests seen, with the names of GraphQL operations
    GET  /_admin/unknown  GraphQL that the stand-in does not know, with the documents
    POST /_admin/faults   a list of faults, from now on: see `faults.Fault`
    POST /_admin/reset    forget everything

It proves what the client does. What the server does is observed, or a guess.
"""

# Imported for their resolvers.
from . import accounts, artifacts, files, history, projects, runs, versions  # noqa: F401
from .faults import Fault
from .server import Server, main, make_server
from .store import Store

__all__ = ["Fault", "Server", "Store", "main", "make_server"]

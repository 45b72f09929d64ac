"""A cluster without a launcher: a store behind the router, and one worker that serves every endpoint."""
import os
from unittest import mock

from cluster import Cluster
from one_url import OneUrl, own_environment


class Pool(OneUrl, Cluster):
    """A context manager. `router` are more flags for the router."""

    def __init__(self, url="s3://tests/models/", router=()):
        super().__init__(url=url, router=router)

    def start_all(self):
        store = "http://" + self.start("manifold", "store", "--listen", "127.0.0.1:0", "--data", self.folder / "store")
        self.flags["manifold-router"] += ["--local-store", store, "--s3-endpoint", store, "--s3-region", "us-east-1"]
        self.flags["manifold-worker"] += ["--s3-endpoint", store, "--s3-region", "us-east-1"]
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        with mock.patch.dict(os.environ, own_environment(**keys), clear=True):
            super().start_all()

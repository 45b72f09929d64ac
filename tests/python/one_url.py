"""What a client has to know of a cluster, and what it must not know."""
import http.client
import json
import os
import re
from unittest import mock
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

# Settings of whoever runs the tests, which would lead a client elsewhere.
FOREIGN = re.compile(r"^(AWS_|BOTO_|(all|http|https|no)_proxy$)", re.IGNORECASE)


def own_environment(**settings):
    """The environment of a program that shall know only `settings` of AWS."""
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    # No file, and no machine of Amazon's, shall have a say either.
    files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {**kept, **files, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1", **settings}


class OneUrl:
    """Clients of a cluster that has a `url`."""

    def variables(self, **more):
        """What a client has to know: one URL, a region, any credentials."""
        known = {"AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1"}
        return {**known, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "credentials", **more}

    def as_environment(self, **more):
        """What is made within knows this cluster alone."""
        return mock.patch.dict(os.environ, own_environment(**self.variables(**more)), clear=True)

    def client(self, service, variables=None, **config):
        """A stock client that knows nothing but `variables`."""
        with self.as_environment(**(variables or {})):
            return boto3.session.Session().client(service, config=Config(**config) if config else None)

    def instances(self):
        """What the router says of its instances."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=5)
        try:
            connection.request("GET", "/manifold/v1/instances")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

"""What stock boto3 does with each answer that it may get: how often it asks in all, in every retry mode.

A model that loads from a store that says nothing never gets ready, so every answer is the one at the deadline. That is
58 s after the invocation came, 2 s before boto3's own patience is over; here it is less than a second. The real 58 s are
waited for by no test.
"""
import os
import socket
import unittest
from unittest import mock

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError

from cluster import Cluster
from one_url import own_environment

MODES = ("legacy", "standard", "adaptive")
# The newest change of the rules that matters here: what is tried again after 429, how long it waits, and the default.
IS_NEW = tuple(map(int, botocore.__version__.split(".")[:2])) >= (1, 44)
DEFAULT_MODE = "standard" if IS_NEW else "legacy"
DEADLINE_MS = 700
RETRY_AFTER_S = 3


class Retries:
    """An endpoint whose models never get ready."""

    router_flags = ()

    @classmethod
    def setUpClass(cls):
        # Connections are made by the kernel, and nobody ever takes them.
        silent_store = socket.create_server(("127.0.0.1", 0))
        cls.addClassCleanup(silent_store.close)
        store = f"http://127.0.0.1:{silent_store.getsockname()[1]}"
        flags = ("--deadline-ms", str(DEADLINE_MS), "--deadline-margin-ms", "100")
        flags += ("--retry-after-ms", str(RETRY_AFTER_S * 1000), *cls.router_flags)
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        with mock.patch.dict(os.environ, own_environment(**keys), clear=True):
            cls.cluster = Cluster(
                url="s3://bucket/models/", worker=("--s3-endpoint", store), router=flags).__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)

    def ask(self, mode, target_model="slow.tar.gz", **arguments):
        """Returns the error, how often it was asked for, and the pauses between, which are not waited for."""
        settings = {"retries": {"mode": mode}} if mode else {}
        client = boto3.client(
            "sagemaker-runtime", endpoint_url=self.cluster.url, region_name="us-east-1",
            aws_access_key_id="any", aws_secret_access_key="credentials",
            config=Config(proxies={}, **settings))
        attempts = []
        client.meta.events.register(
            "before-send.sagemaker-runtime.InvokeEndpoint", lambda request, **_: attempts.append(request))
        with mock.patch("botocore.endpoint.time") as time, self.assertRaises(ClientError) as caught:
            client.invoke_endpoint(EndpointName="demo", TargetModel=target_model, Body=b"hello", **arguments)
        response = caught.exception.response
        self.assertEqual(response["ResponseMetadata"]["RetryAttempts"], len(attempts) - 1)
        # All attempts of a call have one id, by which they can be told to be one.
        self.assertEqual(len({it.headers["amz-sdk-invocation-id"] for it in attempts}), 1)
        return caught.exception, len(attempts), [call.args[0] for call in time.sleep.call_args_list]


class AtTheDeadline(Retries, unittest.TestCase):
    def test_a_model_that_still_loads_is_asked_for_again(self):
        for mode, n_expected in (("legacy", 5), ("standard", 3), ("adaptive", 3), (None, 3 if IS_NEW else 5)):
            error, n_attempts, pauses = self.ask(mode)
            self.assertEqual(type(error).__name__, "ServiceUnavailable", mode)
            self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], 503)
            self.assertEqual(n_attempts, n_expected, mode)
            if IS_NEW and (mode or DEFAULT_MODE) != "legacy":
                self.assertEqual([round(it) for it in pauses], [RETRY_AFTER_S] * 2, "it waits as long as it is told to")

    def test_wrong_requests_are_sent_once(self):
        for mode in MODES:
            error, n_attempts, _ = self.ask(mode, TargetVariant="nobody")
            self.assertEqual(type(error).__name__, "ValidationError", mode)
            self.assertEqual(n_attempts, 1, mode)


class AsAmazonAnswers(Retries, unittest.TestCase):
    router_flags = ("--answer-model-not-ready",)

    def test_model_not_ready_is_asked_for_again_in_legacy_mode_alone(self):
        for mode, n_expected in (("legacy", 5), ("standard", 1), ("adaptive", 1), (None, 1 if IS_NEW else 5)):
            error, n_attempts, _ = self.ask(mode)
            self.assertEqual(type(error).__name__, "ModelNotReadyException", mode)
            self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], 429)
            self.assertEqual(n_attempts, n_expected, mode)


if __name__ == "__main__":
    unittest.main()

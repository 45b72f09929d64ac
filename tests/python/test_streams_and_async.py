"""Streamed and asynchronous invocations through stock boto3.

Neither API has a target model, so stock boto3 sends none: a hook adds the header, as a program would.
"""
import json
import os
import unittest
import uuid

from botocore.exceptions import ClientError

from on_local_cluster import BUCKET, OnLocalCluster

TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
# boto3 asks where the input lies until 1.44, which takes it inline, too.
MAX_INLINE = 128_000


class StreamsAndAsync(OnLocalCluster):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.takes_inline = "Body" in cls.runtime.meta.service_model.operation_model("InvokeEndpointAsync").input_shape.members

    def setUp(self):
        self.target_model = "echo.tar.gz"
        client = self.runtime = self.cluster.client("sagemaker-runtime")
        for operation in ("InvokeEndpointWithResponseStream", "InvokeEndpointAsync"):
            client.meta.events.register(f"before-call.sagemaker-runtime.{operation}", self.add_target_model)

    def add_target_model(self, params, **_):
        if self.target_model:
            params["headers"][TARGET_MODEL] = self.target_model


class Streams(StreamsAndAsync):
    def setUp(self):
        super().setUp()
        self.endpoint = self.new_endpoint()

    def stream(self, body, **arguments):
        return self.runtime.invoke_endpoint_with_response_stream(EndpointName=self.endpoint, Body=body, **arguments)

    def test_an_answer_comes_in_parts_of_bounded_size(self):
        body = os.urandom(5_000_000)
        answer = self.stream(body, ContentType="application/octet-stream")
        self.assertEqual(answer["ContentType"], "application/octet-stream")
        self.assertEqual(answer["InvokedProductionVariant"], "AllTraffic")
        parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
        self.assertGreater(len(parts), 1)
        self.assertLessEqual(max(map(len, parts)), 65_536)
        self.assertEqual(b"".join(parts), body)

    def test_an_empty_answer_is_a_stream_that_ends(self):
        self.assertEqual(b"".join(event["PayloadPart"]["Bytes"] for event in self.stream(b"")["Body"]), b"")

    def test_errors_before_the_stream_have_their_classes(self):
        self.target_model = "absent.tar.gz"
        with self.assertRaises(self.runtime.exceptions.ValidationError):
            self.stream(b"hello")
        self.target_model = "broken.tar.gz"
        with self.assertRaises(self.runtime.exceptions.ModelError) as caught:
            self.stream(b"hello")
        self.assertEqual(caught.exception.response["OriginalStatusCode"], 400)
        self.target_model = None
        with self.assertRaisesRegex(self.runtime.exceptions.ValidationError, "target model header"):
            self.stream(b"hello")


class Async(StreamsAndAsync):
    def setUp(self):
        super().setUp()
        self.prefix = f"async-{uuid.uuid4()}"
        self.endpoint = self.new_endpoint(self.new_config(AsyncInferenceConfig={"OutputConfig": {
            "S3OutputPath": f"s3://{BUCKET}/{self.prefix}/out/", "S3FailurePath": f"s3://{BUCKET}/{self.prefix}/failed/"}}))

    def ask(self, body=b"hello", **arguments):
        key = f"{self.prefix}/input"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        return self.runtime.invoke_endpoint_async(
            EndpointName=self.endpoint, InputLocation=f"s3://{BUCKET}/{key}", **arguments)

    def object_at(self, location):
        """Waits for an object and returns what it holds."""
        bucket, key = location[len("s3://"):].split("/", 1)

        def is_there():
            try:
                self.s3.head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], 404)
                return False
            return True

        self.eventually(is_there, location)
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def test_the_answer_of_an_input_in_s3_appears_in_s3(self):
        answer = self.ask(b"x" * 1_000_000, InferenceId="mine", ContentType="text/plain")
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 202)
        self.assertEqual(answer["InferenceId"], "mine")
        self.assertTrue(answer["OutputLocation"].startswith(f"s3://{BUCKET}/{self.prefix}/out/"))
        self.assertTrue(answer["FailureLocation"].startswith(f"s3://{BUCKET}/{self.prefix}/failed/"))
        self.assertEqual(self.object_at(answer["OutputLocation"]), b"x" * 1_000_000)

    def test_an_inference_without_a_name_is_given_one(self):
        first, second = self.ask(), self.ask()
        self.assertTrue(first["InferenceId"])
        self.assertNotEqual(first["OutputLocation"], second["OutputLocation"])
        self.assertEqual(self.object_at(second["OutputLocation"]), b"hello")

    def test_an_input_can_come_with_the_request(self):
        if not self.takes_inline:
            return  # boto3 before 1.44 has no such parameter
        answer = self.runtime.invoke_endpoint_async(EndpointName=self.endpoint, Body=b"inline")
        self.assertEqual(self.object_at(answer["OutputLocation"]), b"inline")
        with self.assertRaises(self.runtime.exceptions.ValidationError):
            self.runtime.invoke_endpoint_async(EndpointName=self.endpoint, Body=b"x" * (MAX_INLINE + 1))

    def test_a_failure_is_written_where_failures_go(self):
        self.target_model = "broken.tar.gz"
        answer = self.ask()
        failure = self.object_at(answer["FailureLocation"])
        self.assertTrue(failure)
        self.assertNotIn(b"hello", failure)

    def test_an_input_that_is_not_there_is_a_failure(self):
        answer = self.runtime.invoke_endpoint_async(
            EndpointName=self.endpoint, InputLocation=f"s3://{BUCKET}/{self.prefix}/nothing")
        self.assertTrue(self.object_at(answer["FailureLocation"]))

    def test_many_are_answered_each_with_its_own(self):
        bodies = [json.dumps(n).encode() for n in range(30)]
        locations = []
        for n, body in enumerate(bodies):
            key = f"{self.prefix}/input-{n}"
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
            locations.append(self.runtime.invoke_endpoint_async(
                EndpointName=self.endpoint, InputLocation=f"s3://{BUCKET}/{key}")["OutputLocation"])
        self.assertEqual([self.object_at(it) for it in locations], bodies)

    def test_an_endpoint_without_a_place_for_answers_refuses(self):
        plain = self.new_endpoint()
        with self.assertRaises(self.runtime.exceptions.ValidationError):
            self.runtime.invoke_endpoint_async(EndpointName=plain, InputLocation=f"s3://{BUCKET}/models/echo.tar.gz")


if __name__ == "__main__":
    unittest.main()

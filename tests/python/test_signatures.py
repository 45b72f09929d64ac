"""Signed requests of stock boto3 to a router that knows its callers: who is let in, and what each refusal is called."""
import http.client
import re
import unittest
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

import archives
from pool import Pool

BUCKET, ENDPOINT = "tests", "demo"
CREDENTIALS = """
[[credential]]
access_key_id = "AKALL"
secret_access_key = "all-secret"

[[credential]]
access_key_id = "AKSESSION"
secret_access_key = "session-secret"
session_token = "the-token"
expires = 2100-01-01T00:00:00Z

[[credential]]
access_key_id = "AKEXPIRED"
secret_access_key = "expired-secret"
session_token = "the-token"
expires = 2020-01-01T00:00:00Z

[[credential]]
access_key_id = "AKTEAM"
secret_access_key = "team-secret"
user = "team-a"
actions = ["sagemaker:InvokeEndpoint"]
target_models = ["team-a/*"]
"""
ALL = ("AKALL", "all-secret")
TEAM = ("AKTEAM", "team-secret")


class GuardedPool(Pool):
    """A router with a credentials file."""

    def start_all(self):
        credentials = self.folder / "credentials.toml"
        credentials.touch(mode=0o600)
        credentials.write_text(CREDENTIALS)
        self.flags["manifold-router"] += ["--credentials", credentials]
        super().start_all()


class Guarded(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = GuardedPool(url=f"s3://{BUCKET}/models/").__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)
        s3 = cls.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        for key in ("models/echo.tar.gz", "models/team-a/echo.tar.gz"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=archives.echo())

    @classmethod
    def client(cls, service, key=ALL, token=None, **config):
        """A client that tries once, so that a refusal is told at once."""
        return boto3.client(
            service, endpoint_url=cls.cluster.url, region_name="us-east-1", aws_access_key_id=key[0],
            aws_secret_access_key=key[1], aws_session_token=token,
            config=Config(proxies={}, retries={"total_max_attempts": 1}, **config))

    def invoke(self, key=ALL, token=None, target_model="echo.tar.gz"):
        return self.client("sagemaker-runtime", key, token).invoke_endpoint(
            EndpointName=ENDPOINT, TargetModel=target_model, Body=b"hello")["Body"].read()

    def refused(self, status, code, ask):
        with self.assertRaises(ClientError) as caught:
            ask()
        response = caught.exception.response
        self.assertEqual((response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]), (status, code))
        return response["Error"]["Message"]


class Callers(Guarded):
    def asks(self, key, token=None):
        """One request to each service."""
        return {
            "runtime": lambda: self.invoke(key, token),
            "control": lambda: self.client("sagemaker", key, token).list_endpoints(),
            "s3": lambda: self.client("s3", key, token).list_objects_v2(Bucket=BUCKET),
            "sts": lambda: self.client("sts", key, token).get_caller_identity(),
            "iam": lambda: self.client("iam", key, token).get_role(RoleName="manifold"),
        }

    def check(self, expected, key, token=None):
        for service, ask in self.asks(key, token).items():
            with self.subTest(service):
                self.refused(*expected[service], ask)

    def test_known_keys_are_let_in_everywhere(self):
        for key, token in ((ALL, None), (("AKSESSION", "session-secret"), "the-token")):
            for service, ask in self.asks(key, token).items():
                with self.subTest(service):
                    ask()
        self.assertEqual(self.invoke(), b"hello")

    def test_the_caller_learns_who_it_is(self):
        self.assertEqual(
            self.client("sts", TEAM).get_caller_identity()["Arn"], "arn:aws:iam::123456789012:user/team-a")

    def test_a_wrong_secret_is_a_wrong_signature(self):
        json, query, s3 = (403, "InvalidSignatureException"), (403, "SignatureDoesNotMatch"), (403, "SignatureDoesNotMatch")
        self.check({"runtime": json, "control": json, "s3": s3, "sts": query, "iam": query}, (ALL[0], "guessed"))

    def test_an_unknown_key_is_said_to_be_one(self):
        json, query, s3 = (403, "UnrecognizedClientException"), (403, "InvalidClientTokenId"), (403, "InvalidAccessKeyId")
        self.check({"runtime": json, "control": json, "s3": s3, "sts": query, "iam": query}, ("AKNOBODY", "secret"))

    def test_a_session_needs_its_token(self):
        json, query, s3 = (403, "UnrecognizedClientException"), (403, "InvalidClientTokenId"), (400, "InvalidToken")
        for token in (None, "another"):
            expected = {"runtime": json, "control": json, "s3": s3, "sts": query, "iam": query}
            self.check(expected, ("AKSESSION", "session-secret"), token)

    def test_an_expired_token_is_said_to_be_one(self):
        json, query, s3 = (403, "ExpiredTokenException"), (403, "ExpiredToken"), (400, "ExpiredToken")
        expected = {"runtime": json, "control": json, "s3": s3, "sts": query, "iam": query}
        self.check(expected, ("AKEXPIRED", "expired-secret"), "the-token")

    def test_a_key_may_do_only_what_it_is_allowed(self):
        self.assertEqual(self.invoke(TEAM, target_model="team-a/echo.tar.gz"), b"hello")
        message = self.refused(403, "AccessDeniedException", lambda: self.invoke(TEAM))
        self.assertIn("arn:aws:iam::123456789012:user/team-a is not authorized to perform: sagemaker:InvokeEndpoint", message)
        message = self.refused(400, "AccessDeniedException", self.client("sagemaker", TEAM).list_endpoints)
        self.assertIn("sagemaker:ListEndpoints", message)
        self.refused(403, "AccessDenied", lambda: self.client("s3", TEAM).list_objects_v2(Bucket=BUCKET))

    def test_nobody_is_let_in_without_a_signature(self):
        connection = http.client.HTTPConnection(self.cluster.router, timeout=10)
        self.addCleanup(connection.close)
        connection.request(
            "POST", f"/endpoints/{ENDPOINT}/invocations", b"hello", {"X-Amzn-SageMaker-Target-Model": "echo.tar.gz"})
        answer = connection.getresponse()
        self.assertIn(b"Token", answer.read())
        self.assertEqual(answer.status, 403)
        self.assertIn("MissingAuthenticationTokenException", answer.getheader("x-amzn-ErrorType", ""))

    def test_presigned_addresses_are_refused(self):
        url = self.client("s3").generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "models/echo.tar.gz"})
        connection = http.client.HTTPConnection(self.cluster.router, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", f"{urlsplit(url).path}?{urlsplit(url).query}")
        answer = connection.getresponse()
        self.assertIn(b"<Code>AccessDenied</Code>", answer.read())
        self.assertEqual(answer.status, 403)


class Request:
    """What boto3 sent, to be sent again as it was or with something changed."""

    def __init__(self, prepared):
        url = urlsplit(prepared.url)
        self.method, self.path = prepared.method, url.path + (f"?{url.query}" if url.query else "")
        self.headers = {str(name): text(value) for name, value in prepared.headers.items()}
        body = prepared.body or b""
        if not isinstance(body, (bytes, str)):
            stream, body = body, body.read()
            stream.seek(0)
        self.body = body.encode() if isinstance(body, str) else body
        # The other side may take it or leave it; here the body is sent in any case.
        self.headers.pop("Expect", None)

    def changed(self, **changes):
        other = object.__new__(Request)
        other.__dict__.update({**self.__dict__, **changes})
        return other

    def with_header(self, name, value):
        kept = {key: it for key, it in self.headers.items() if key.lower() != name.lower()}
        return self.changed(headers={**kept, name: value})

    def send(self, netloc):
        connection = http.client.HTTPConnection(netloc, timeout=10)
        try:
            connection.request(self.method, self.path, self.body, self.headers)
            answer = connection.getresponse()
            found = re.search(rb'<Code>(\w+)</Code>|"__type": ?"(\w+)"', answer.read())
            code = (found.group(1) or found.group(2)).decode() if found else answer.getheader("x-amzn-ErrorType")
            return answer.status, code
        finally:
            connection.close()


class Replays(Guarded):
    """A request that was let in, sent once more: as it was, and with one thing changed at a time."""

    def captured(self, service, operation, **arguments):
        client = self.client(service)
        requests = []
        client.meta.events.register("before-send.*", lambda request, **_: requests.append(Request(request)))
        getattr(client, operation)(**arguments)
        self.assertEqual(len(requests), 1)
        return requests[0]

    def captured_ones(self):
        yield "runtime", self.captured(
            "sagemaker-runtime", "invoke_endpoint", EndpointName=ENDPOINT, TargetModel="echo.tar.gz", Body=b"hello",
            ContentType="text/plain")
        yield "control", self.captured("sagemaker", "list_models", NameContains="a")
        yield "sts", self.captured("sts", "get_caller_identity")
        yield "s3 get", self.captured("s3", "get_object", Bucket=BUCKET, Key="models/echo.tar.gz")
        yield "s3 put", self.captured("s3", "put_object", Bucket=BUCKET, Key="replayed", Body=b"hello")

    def test_a_request_is_let_in_again_as_it_was(self):
        for name, request in self.captured_ones():
            with self.subTest(name):
                self.assertEqual(request.send(self.cluster.router), (200, None))

    def test_whatever_is_changed_it_is_refused(self):
        for name, request in self.captured_ones():
            for what, changed in self.changes(request):
                with self.subTest(f"{name}: {what}"):
                    self.assertIn(changed.send(self.cluster.router), self.refusals(name, what))
        stored = self.client("s3").get_object(Bucket=BUCKET, Key="replayed")["Body"].read()
        self.assertEqual(stored, b"hello")

    def refusals(self, name, what):
        if name in ("runtime", "control"):
            return [(403, "InvalidSignatureException")]
        if name == "sts":
            return [(403, "SignatureDoesNotMatch")]
        return {
            "the year": [(403, "RequestTimeTooSkewed"), (400, "AuthorizationHeaderMalformed")],
            "body": [(400, "XAmzContentSHA256Mismatch")],
            "header X-Amz-Content-SHA256": [(400, "AuthorizationHeaderMalformed"), (403, "SignatureDoesNotMatch")],
        }.get("body" if "body" in what else what, [(403, "SignatureDoesNotMatch")])

    def changes(self, request):
        signature = request.headers["Authorization"].rpartition("=")[2]
        date = request.headers["X-Amz-Date"]

        def other_digit(text, at):
            return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1:]

        if request.body:
            for at in (0, len(request.body) // 2, len(request.body) - 1):
                flipped = bytearray(request.body)
                flipped[at] ^= 1
                yield f"byte {at} of the body", request.changed(body=bytes(flipped))
            longer = request.with_header("Content-Length", str(len(request.body) + 1))
            yield "a longer body", longer.changed(body=request.body + b"!")
        for at in (0, 31, 63):
            authorization = request.headers["Authorization"].replace(signature, other_digit(signature, at))
            yield f"digit {at} of the signature", request.with_header("Authorization", authorization)
        yield "the second", request.with_header("X-Amz-Date", other_digit(date, len(date) - 2))
        yield "the year", request.with_header("X-Amz-Date", "2020" + date[4:])
        yield "the path", request.changed(path=other_path(request.path))
        yield "the query", request.changed(path=request.path + ("&" if "?" in request.path else "?") + "x=1")
        yield "the host", request.with_header("Host", "example.com")
        for header in self.signed(request):
            yield f"header {header}", request.with_header(header, request.headers[header] + "x")

    def signed(self, request):
        names = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        own = {"host", "x-amz-date", "content-length", "transfer-encoding"}
        return [it for it in request.headers if it.lower() in set(names) - own]


def other_path(path):
    """The same path to another object or endpoint."""
    path, mark, query = path.partition("?")
    if path.startswith("/endpoints/"):
        return path.replace(f"/{ENDPOINT}/", "/demp/")
    return (path[:-1] + ("b" if path[-1] != "b" else "c") if len(path) > 1 else "/x") + mark + query


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    unittest.main()

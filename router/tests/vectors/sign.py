"""Makes botocore.json: requests as botocore signs and sends them, at one fixed moment.

    python3 -m venv V && V/bin/pip install botocore==1.44.5 && V/bin/python sign.py > botocore.json
"""
import base64
import datetime
import io
import json
from unittest import mock
from urllib.parse import urlsplit

import botocore.auth
import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.parsers import ResponseParserError

NOW = datetime.datetime(2026, 11, 23, 4, 5, 6)
KEY = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
TOKEN = "FwoGZXIvYXdzEXAMPLE//token+with/signs=="


def capture(service, operation, url="http://127.0.0.1:8080", token=None, config=None, region="us-east-1", **parameters):
    """Returns the request that a client would send."""
    sent = []

    def send(request, **_):
        sent.append(request)
        return AWSResponse(request.url, 200, {}, mock.Mock(**{"stream.return_value": [], "read.return_value": b""}))

    client = botocore.session.get_session().create_client(
        service, region_name=region, endpoint_url=url, aws_session_token=token,
        config=Config(user_agent="botocore", retries={"total_max_attempts": 1}, **(config or {})), **KEY,
    )
    client.meta.events.register("before-send", send)
    try:
        getattr(client, operation)(**parameters)
    except ResponseParserError:
        pass  # An empty answer says nothing; the request is what counts.
    return sent[0]


def vector(name, api, request):
    url = urlsplit(request.url)
    default_port = {"http": ":80", "https": ":443"}[url.scheme]
    headers = [f"host: {url.netloc.removesuffix(default_port)}"]
    for header, value in request.headers.items():
        value = value.decode() if isinstance(value, bytes) else value
        if header.lower() != "host":
            headers.append(f"{header}: {value}")
    body = request.body or b""
    body = body.read() if hasattr(body, "read") else body
    body = body.encode() if isinstance(body, str) else body
    return {
        "name": name, "api": api, "method": request.method, "path": url.path, "query": url.query,
        "headers": headers, "body": base64.b64encode(bytes(body)).decode(),
    }


def invoke(**parameters):
    parameters = {"EndpointName": "demo", "TargetModel": "resnet_18.tar.gz", "Body": b"{}", **parameters}
    return {key: value for key, value in parameters.items() if value is not None}


def vectors():
    runtime, s3 = "sagemaker-runtime", {"s3": {"addressing_style": "path"}}
    yield "bare", "runtime", capture(runtime, "invoke_endpoint", **invoke(TargetModel=None))
    yield "every-header", "runtime", capture(runtime, "invoke_endpoint", **invoke(
        ContentType="application/json", Accept="application/json;verbose=true", CustomAttributes="a=1,  b=2; c",
        TargetVariant="blue", TargetContainerHostname="container", InferenceId="id 1", SessionId="NEW_SESSION",
        EnableExplanations="`true`", InferenceComponentName="component", Body=bytes(range(256))))
    yield "utf-8", "runtime", capture(runtime, "invoke_endpoint", **invoke(TargetModel="köttbullar/模型.tar.gz"))
    yield "blanks", "runtime", capture(runtime, "invoke_endpoint", **invoke(TargetModel="two  blanks.tar.gz"))
    yield "encoded-name", "runtime", capture(runtime, "invoke_endpoint", **invoke(EndpointName="a/b c_?é~"))
    yield "empty-body", "runtime", capture(runtime, "invoke_endpoint", **invoke(Body=b""))
    yield "token", "runtime", capture(runtime, "invoke_endpoint", token=TOKEN, **invoke())
    yield "prefix", "runtime", capture(runtime, "invoke_endpoint", url="http://router.example:8443/runtime/", **invoke())
    yield "default-port", "runtime", capture(runtime, "invoke_endpoint", url="http://router.example:80", **invoke())
    yield "stream", "runtime", capture(
        runtime, "invoke_endpoint_with_response_stream", EndpointName="demo", Body=b"{}", Accept="text/csv")
    yield "async", "runtime", capture(
        runtime, "invoke_endpoint_async", EndpointName="demo", InputLocation="s3://b/k", region="eu-west-1")
    yield "create-model", "control", capture(
        "sagemaker", "create_model", ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/manifold",
        PrimaryContainer={"Image": "i", "Mode": "MultiModel", "ModelDataUrl": "s3://b/models/"})
    yield "list-endpoints", "control", capture("sagemaker", "list_endpoints", token=TOKEN)
    yield "caller-identity", "sts", capture("sts", "get_caller_identity")
    yield "get-role", "iam", capture("iam", "get_role", RoleName="manifold")
    put = {"Bucket": "bucket", "Key": "models/a b+c/é~.tar.gz"}
    yield "put-hash", "s3", capture("s3", "put_object", config=s3, Body=b"archive", **put)
    yield "put-unsigned", "s3", capture(
        "s3", "put_object", url="https://127.0.0.1:8443", Body=b"archive", **put,
        config={"s3": {"addressing_style": "path", "payload_signing_enabled": False},
                "request_checksum_calculation": "when_required"})
    yield "put-streaming", "s3", capture(
        "s3", "put_object", url="https://127.0.0.1:8443", config=s3, Body=io.BytesIO(b"archive"), **put)
    yield "get-token", "s3", capture("s3", "get_object", config=s3, token=TOKEN, Range="bytes=0-1", **put)
    yield "list", "s3", capture(
        "s3", "list_objects_v2", config=s3, Bucket="bucket", Prefix="models/a b", Delimiter="/", MaxKeys=2)
    yield "create-bucket", "s3", capture(
        "s3", "create_bucket", config=s3, Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})


def main():
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda *_: NOW):
        made = [vector(*it) for it in vectors()]
    whole = {"now": "20261123T040506Z", "secret_access_key": KEY["aws_secret_access_key"], "session_token": TOKEN,
             "botocore": botocore.__version__, "vectors": made}
    print(json.dumps(whole, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()

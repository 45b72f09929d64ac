"""S3, STS and IAM behind the one URL that a client knows, through stock boto3."""
import hashlib
import http.client
import io
import os
import unittest
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from on_local_cluster import ACCOUNT, BUCKET, ROLE, OnLocalCluster

# The least that S3 takes for a part, and so three of them.
PART = 5 * 1024 * 1024
IN_PARTS = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)


class Identity(OnLocalCluster):
    def test_the_caller_has_assumed_a_role_that_exists(self):
        # As sagemaker.get_execution_role() goes about it.
        identity = self.cluster.client("sts").get_caller_identity()
        self.assertEqual(identity["Account"], ACCOUNT)
        self.assertRegex(identity["Arn"], rf"^arn:aws:sts::{ACCOUNT}:assumed-role/[^/]+/[^/]+$")
        name = identity["Arn"].split("/")[1]
        role = self.cluster.client("iam").get_role(RoleName=name)["Role"]
        self.assertEqual((role["RoleName"], role["Arn"]), (name, f"arn:aws:iam::{ACCOUNT}:role/{name}"))
        self.assertEqual(role["Arn"], ROLE)

    def test_other_operations_of_sts_and_iam_say_that_they_are_not_there(self):
        for operation in (self.cluster.client("sts").get_session_token, self.cluster.client("iam").list_roles):
            with self.assertRaises(ClientError) as caught:
                operation()
            self.assertEqual(caught.exception.response["Error"]["Code"], "InvalidAction")


class Buckets(OnLocalCluster):
    def test_a_bucket_is_created_wherever_its_client_is(self):
        for region in ("us-east-1", "eu-west-1", "ap-southeast-2"):
            s3 = self.cluster.client("s3", {"AWS_DEFAULT_REGION": region})
            where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            bucket = f"in-{region}"
            s3.create_bucket(Bucket=bucket, **where)
            self.assertEqual(s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"], 200)
            self.assertIn(bucket, [it["Name"] for it in s3.list_buckets()["Buckets"]])
            s3.put_object(Bucket=bucket, Key="x", Body=b"x")
            self.assertEqual(s3.get_object(Bucket=bucket, Key="x")["Body"].read(), b"x")

    def test_a_bucket_that_is_there_can_be_asked_for_again(self):
        # us-east-1 says yes, every other region that it is yours already: both are what programs expect.
        try:
            self.s3.create_bucket(Bucket=BUCKET)
        except (self.s3.exceptions.BucketAlreadyOwnedByYou, self.s3.exceptions.BucketAlreadyExists):
            pass
        self.assertGreater(self.s3.head_object(Bucket=BUCKET, Key="models/echo.tar.gz")["ContentLength"], 0)

    def test_a_bucket_that_is_not_there_is_404(self):
        with self.assertRaises(ClientError) as caught:
            self.s3.head_bucket(Bucket="no-such-bucket")
        self.assertEqual(caught.exception.response["Error"]["Code"], "404")
        with self.assertRaises(self.s3.exceptions.NoSuchBucket):
            self.s3.list_objects_v2(Bucket="no-such-bucket")


class Objects(OnLocalCluster):
    def setUp(self):
        self.key = f"{self.id()}/object"

    def uploaded(self, body, **arguments):
        self.s3.upload_fileobj(io.BytesIO(body), BUCKET, self.key, **arguments)
        answer = self.s3.get_object(Bucket=BUCKET, Key=self.key)
        self.assertEqual(hashlib.sha256(answer["Body"].read()).digest(), hashlib.sha256(body).digest())
        return answer

    def test_an_object_goes_up_in_one_piece(self):
        body = os.urandom(100_000)
        answer = self.uploaded(body)
        self.assertEqual(answer["ETag"], f'"{hashlib.md5(body).hexdigest()}"')

    def test_an_object_goes_up_in_parts(self):
        answer = self.uploaded(os.urandom(3 * PART + 1), Config=IN_PARTS)
        self.assertTrue(answer["ETag"].strip('"').endswith("-4"), answer["ETag"])

    def test_a_file_comes_back_as_it_went(self):
        path = self.cluster.folder / "file"
        path.write_bytes(os.urandom(2 * PART))
        self.s3.upload_file(str(path), BUCKET, self.key, Config=IN_PARTS)
        back = self.cluster.folder / "back"
        self.s3.download_file(BUCKET, self.key, str(back), Config=IN_PARTS)
        self.assertEqual(path.read_bytes(), back.read_bytes())

    def test_checksums_that_are_asked_for_are_checked_and_returned(self):
        for algorithm in ("CRC32", "SHA1", "SHA256"):
            put = self.s3.put_object(Bucket=BUCKET, Key=self.key, Body=b"hello", ChecksumAlgorithm=algorithm)
            self.assertIn(f"Checksum{algorithm}", put)
            got = self.s3.get_object(Bucket=BUCKET, Key=self.key, ChecksumMode="ENABLED")
            self.assertEqual(got[f"Checksum{algorithm}"], put[f"Checksum{algorithm}"])
            self.assertEqual(got["Body"].read(), b"hello")
        once = self.cluster.client("s3", retries={"total_max_attempts": 1})
        with self.assertRaises(ClientError) as caught:
            once.put_object(Bucket=BUCKET, Key=self.key, Body=b"hello", ChecksumSHA256="A" * 43 + "=")
        self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], 400)

    def test_an_object_is_copied_and_deleted(self):
        self.s3.put_object(Bucket=BUCKET, Key=self.key, Body=b"hello")
        copy = f"{self.key}-copy"
        self.s3.copy({"Bucket": BUCKET, "Key": self.key}, BUCKET, copy)
        self.assertEqual(self.s3.get_object(Bucket=BUCKET, Key=copy)["Body"].read(), b"hello")
        self.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": self.key}, {"Key": copy}]})
        for key in (self.key, copy):
            with self.assertRaises(self.s3.exceptions.NoSuchKey):
                self.s3.get_object(Bucket=BUCKET, Key=key)

    def test_the_paginators_find_every_object(self):
        keys = [f"{self.key}/{n:02}/ä +.tar.gz" for n in range(25)]
        for key in keys:
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
        for operation in ("list_objects_v2", "list_objects"):
            pages = list(self.s3.get_paginator(operation).paginate(
                Bucket=BUCKET, Prefix=f"{self.key}/", PaginationConfig={"PageSize": 10}))
            self.assertEqual([it["Key"] for page in pages for it in page["Contents"]], keys, operation)
        folders = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.key}/", Delimiter="/")["CommonPrefixes"]
        self.assertEqual(len(folders), 25)

    def test_a_presigned_address_is_served_while_nobody_signs(self):
        self.s3.put_object(Bucket=BUCKET, Key=self.key, Body=b"hello")
        url = urlsplit(self.s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": self.key}))
        connection = http.client.HTTPConnection(url.netloc, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", f"{url.path}?{url.query}")
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.read()), (200, b"hello"))

    def test_the_store_of_a_resource_is_the_same(self):
        # boto3's older interface, which the SageMaker SDK uses for its bucket.
        self.s3.put_object(Bucket=BUCKET, Key=self.key, Body=b"hello")
        with self.cluster.as_environment():
            bucket = boto3.session.Session().resource("s3").Bucket(BUCKET)
        self.assertIsNotNone(bucket.creation_date)
        bucket.objects.filter(Prefix=self.key).delete()
        self.assertEqual(list(bucket.objects.filter(Prefix=self.key)), [])


if __name__ == "__main__":
    unittest.main()

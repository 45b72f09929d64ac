"""The life of an endpoint through stock boto3: its states, its instances, its variants, and its end."""
import collections
import datetime
import threading
import unittest

from botocore.exceptions import ClientError, WaiterError

from on_local_cluster import BUCKET, PATIENCE, OnLocalCluster, arn
from pool import Pool


class Endpoints(OnLocalCluster):
    def status(self, endpoint):
        return self.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"]

    def settled(self, endpoint):
        self.eventually(lambda: self.status(endpoint) not in ("Creating", "Updating"), endpoint)
        return self.sagemaker.describe_endpoint(EndpointName=endpoint)

    def test_an_endpoint_is_created_described_used_and_deleted(self):
        config = self.new_config(variants=[{"ModelName": self.new_model(), "InitialInstanceCount": 2}])
        n_before = self.n_instances()
        name = self.new_endpoint(config, name="Whole-Life", wait=False)
        # Right after the answer, without a pause: what was written is read.
        creating = self.sagemaker.describe_endpoint(EndpointName=name)
        self.assertEqual(creating["EndpointStatus"], "Creating")
        self.assertEqual(creating["EndpointArn"], arn("endpoint", name))
        self.assertEqual(creating["EndpointName"], name)

        described = self.in_service(name)
        variant = described["ProductionVariants"][0]
        self.assertEqual(variant["VariantName"], "AllTraffic")
        self.assertEqual((variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]), (2, 2))
        self.assertEqual((variant["CurrentWeight"], variant["DesiredWeight"]), (1.0, 1.0))
        self.assertEqual(described["EndpointConfigName"], config)
        self.assertNotIn("FailureReason", described)
        for time in (described["CreationTime"], described["LastModifiedTime"]):
            self.assertIsInstance(time, datetime.datetime)
        self.assertEqual(self.n_instances(), n_before + 2)

        answer = self.invoke(name)
        self.assertEqual(answer["Body"].read(), b"hello")
        self.assertEqual(answer["InvokedProductionVariant"], "AllTraffic")

        self.sagemaker.delete_endpoint(EndpointName=name)
        with self.assertRaises(self.runtime.exceptions.ValidationError):
            self.invoke(name)
        self.gone(name)
        self.eventually(lambda: self.n_instances() == n_before, "its instances stop")
        self.invalid(
            f'Could not find endpoint "{arn("endpoint", name)}".', self.sagemaker.describe_endpoint, EndpointName=name)
        # The name is free again.
        self.new_endpoint(config, name=name)

    def test_an_image_is_shown_and_said_not_to_run(self):
        described = self.in_service(self.new_endpoint())
        variant = described["ProductionVariants"][0]
        image = variant["DeployedImages"][0]
        self.assertTrue(image["SpecifiedImage"].endswith("/many-models:latest"))
        self.assertRegex(image["ResolvedImage"], r"/many-models@sha256:[0-9a-f]{64}$")
        self.assertIsInstance(image["ResolutionTime"], datetime.datetime)
        self.assertTrue(variant["VariantStatus"][0]["StatusMessage"])

    def test_an_endpoint_is_deleted_while_it_is_created(self):
        n_before = self.n_instances()
        name = self.new_endpoint(wait=False)
        self.assertEqual(self.status(name), "Creating")
        self.sagemaker.delete_endpoint(EndpointName=name)
        self.gone(name)
        self.eventually(lambda: self.n_instances() == n_before, "no instance stays")

    def test_the_waiter_gives_up_on_an_endpoint_that_is_not_there(self):
        with self.assertRaises(WaiterError) as caught:
            self.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="nobody", WaiterConfig=PATIENCE)
        self.assertIn("Could not find endpoint", caught.exception.last_response["Error"]["Message"])

    def test_instances_come_and_go(self):
        n_before = self.n_instances()
        name = self.new_endpoint()
        self.assertEqual(self.n_instances(), n_before + 1)
        for n_wanted in (3, 1):
            self.sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=name,
                DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": n_wanted}])
            described = self.settled(name)
            self.assertEqual(described["EndpointStatus"], "InService")
            self.assertEqual(described["ProductionVariants"][0]["CurrentInstanceCount"], n_wanted)
            self.eventually(lambda: self.n_instances() == n_before + n_wanted, f"{n_wanted} instances")
            self.assertEqual(self.invoke(name)["Body"].read(), b"hello")

    def test_an_update_moves_to_another_prefix_and_loses_no_invocation(self):
        self.upload("before/both.tar.gz", "before/old.tar.gz", "after/both.tar.gz", "after/new.tar.gz")
        before, after = (
            self.new_config(variants=[{"ModelName": self.new_model(url=f"s3://{BUCKET}/{prefix}/")}])
            for prefix in ("before", "after"))
        name = self.new_endpoint(before)
        self.invoke(name, "old.tar.gz")
        stop, failures = threading.Event(), []
        invoking = threading.Thread(target=self.keep_invoking, args=(name, stop, failures))
        invoking.start()
        try:
            self.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=after)
            self.assertEqual(self.status(name), "Updating")
            described = self.settled(name)
        finally:
            stop.set()
            invoking.join()
        self.assertEqual(failures, [])
        self.assertEqual((described["EndpointStatus"], described["EndpointConfigName"]), ("InService", after))
        self.invoke(name, "new.tar.gz")
        with self.assertRaises(self.runtime.exceptions.ValidationError):
            self.invoke(name, "old.tar.gz")

    def keep_invoking(self, name, stop, failures):
        while not stop.is_set():
            try:
                self.invoke(name, "both.tar.gz")
            except Exception as error:  # whatever it is, it is a lost invocation
                failures.append(repr(error))

    def test_traffic_is_shared_by_weight_and_can_be_aimed(self):
        model = self.new_model()
        name = self.new_endpoint(self.new_config(variants=[
            {"VariantName": "most", "ModelName": model, "InitialVariantWeight": 3},
            {"VariantName": "least", "ModelName": model, "InitialVariantWeight": 1},
        ]))
        shares = collections.Counter(self.invoke(name)["InvokedProductionVariant"] for _ in range(200))
        self.assertEqual(set(shares), {"most", "least"})
        # Three standard deviations around a quarter of 200.
        self.assertTrue(50 - 19 <= shares["least"] <= 50 + 19, shares)
        aimed = {self.invoke(name, TargetVariant="least")["InvokedProductionVariant"] for _ in range(20)}
        self.assertEqual(aimed, {"least"})
        with self.assertRaises(self.runtime.exceptions.ValidationError):
            self.invoke(name, TargetVariant="nobody")

        self.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "most", "DesiredWeight": 0}])
        self.assertEqual(self.settled(name)["ProductionVariants"][0]["CurrentWeight"], 0)
        after = {self.invoke(name)["InvokedProductionVariant"] for _ in range(20)}
        self.assertEqual(after, {"least"})

    def test_a_model_without_cache_leaves_after_each_invocation(self):
        model = self.new_model(multi_model={"ModelCacheSetting": "Disabled"})
        name = self.new_endpoint(self.new_config(variants=[{"ModelName": model}]))
        for _ in range(3):
            headers = self.invoke(name)["ResponseMetadata"]["HTTPHeaders"]
            self.assertEqual(headers["x-manifold-cache"], "miss")
            self.eventually(
                lambda: all(it["n_resident"] == 0 for it in self.cluster.instances()), "the model is let go")


class Invocations(OnLocalCluster):
    """What the runtime's tests do with a configured endpoint, on one that was created."""

    def test_what_an_invocation_brings_along_comes_back(self):
        name = self.new_endpoint()
        answer = self.invoke(name, CustomAttributes="trace=1", InferenceId="abc", ContentType="text/plain")
        self.assertEqual(answer["Body"].read(), b"hello")
        self.assertEqual(len(answer["ResponseMetadata"]["RequestId"]), 36)
        self.assertEqual(answer["ResponseMetadata"]["RetryAttempts"], 0)

    def test_errors_name_the_endpoint_that_was_created(self):
        name = self.new_endpoint()
        with self.assertRaises(self.runtime.exceptions.ValidationError) as caught:
            self.invoke(name, "absent.tar.gz")
        self.assertIn(f"(bucket: {BUCKET}, key: models/absent.tar.gz)", caught.exception.response["Error"]["Message"])
        with self.assertRaises(self.runtime.exceptions.ModelError) as caught:
            self.invoke(name, "broken.tar.gz")
        response = caught.exception.response
        self.assertEqual(response["OriginalStatusCode"], 400)
        self.assertIn(f"/aws/sagemaker/Endpoints/{name}", response["LogStreamArn"])
        with self.assertRaisesRegex(self.runtime.exceptions.ValidationError, "is missing a target model header"):
            self.runtime.invoke_endpoint(EndpointName=name, Body=b"hello")


class Failures(OnLocalCluster):
    """In a pool, which has the one worker that it has: a variant that wants more fails."""

    @classmethod
    def new_cluster(cls):
        return Pool(router=("--deployment-patience-ms", "500"))

    def too_large(self):
        return self.new_config(variants=[{"ModelName": self.new_model(), "InitialInstanceCount": 2}])

    def failed(self, name):
        with self.assertRaises(WaiterError) as caught:
            self.in_service(name)
        self.assertEqual(caught.exception.last_response["EndpointStatus"], "Failed")
        return caught.exception.last_response

    def test_an_endpoint_that_cannot_be_fails_fast_and_says_why(self):
        name = self.new_endpoint(self.too_large(), wait=False)
        # What the SDK looks for.
        self.assertIn("CapacityError", self.failed(name)["FailureReason"])
        with self.assertRaisesRegex(ClientError, "ValidationException"):
            self.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=self.new_config())
        with self.assertRaises(self.runtime.exceptions.ValidationError):
            self.invoke(name)
        # Deleting is all that is left to it, and the other waiter ends well.
        self.sagemaker.delete_endpoint(EndpointName=name)
        self.gone(name)

    def test_an_update_that_cannot_be_leaves_what_served(self):
        config = self.new_config()
        name = self.new_endpoint(config)
        self.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=self.too_large())
        described = self.in_service(name)
        self.assertEqual(described["EndpointConfigName"], config)
        self.assertIn("CapacityError", described["FailureReason"])
        self.assertEqual(self.invoke(name)["Body"].read(), b"hello")

    def test_endpoints_are_listed_in_pages_by_state_and_time(self):
        failing = self.too_large()
        serving = self.new_endpoint(name="listed-0")
        failed = [self.new_endpoint(failing, name=f"listed-{n}", wait=False) for n in range(1, 6)]
        for name in failed:
            self.failed(name)

        def listed(**arguments):
            pages = self.sagemaker.get_paginator("list_endpoints").paginate(
                NameContains="listed-", PaginationConfig={"PageSize": 2}, **arguments)
            return [it["EndpointName"] for page in pages for it in page["Endpoints"]]

        self.assertEqual(listed(), [*failed[::-1], serving])
        self.assertEqual(listed(SortBy="Name", SortOrder="Ascending"), [serving, *failed])
        self.assertEqual(listed(StatusEquals="Failed"), failed[::-1])
        self.assertEqual(listed(StatusEquals="InService"), [serving])
        self.assertEqual(set(listed(SortBy="Status", SortOrder="Ascending")[:5]), set(failed))
        newest_first = [*failed[::-1], serving]
        described = {it: self.sagemaker.describe_endpoint(EndpointName=it) for it in newest_first}
        created, modified = (described[failed[2]][it] for it in ("CreationTime", "LastModifiedTime"))
        after = [it for it in newest_first if described[it]["CreationTime"] >= self.as_sent(created)]
        self.assertEqual(listed(CreationTimeAfter=created), after)
        self.assertNotIn(failed[2], listed(LastModifiedTimeBefore=modified))


if __name__ == "__main__":
    unittest.main()

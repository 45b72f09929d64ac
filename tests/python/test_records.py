"""Models and endpoint configurations through stock boto3: what is created is described, listed, tagged and deleted."""
import datetime
import unittest

from on_local_cluster import BUCKET, IMAGE, ROLE, OnLocalCluster, arn


class Records(OnLocalCluster):
    def test_a_model_is_described_as_it_was_created(self):
        container = {
            "Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": f"https://s3-us-east-1.amazonaws.com/{BUCKET}/models/",
            "MultiModelConfig": {"ModelCacheSetting": "Disabled"}, "Environment": {"SAGEMAKER_PROGRAM": "inference.py"},
        }
        more = {
            "ExecutionRoleArn": ROLE, "EnableNetworkIsolation": True,
            "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]},
        }
        name = self.new_name("Model")
        created = self.sagemaker.create_model(
            ModelName=name, PrimaryContainer=container, Tags=[{"Key": "team", "Value": "cats"}], **more)
        self.addCleanup(self.sagemaker.delete_model, ModelName=name)
        self.assertEqual(created["ModelArn"], arn("model", name))
        described = self.sagemaker.describe_model(ModelName=name)
        self.check_time(described["CreationTime"])
        self.assertEqual(described["ModelArn"], created["ModelArn"])
        expected = {"ModelName": name, "PrimaryContainer": container, **more}
        self.assertEqual({key: described[key] for key in expected}, expected)
        # What nobody said is not there: the SDK's version 3 takes an empty structure for an incomplete one.
        self.assertEqual(set(described) - set(expected), {"ModelArn", "CreationTime", "ResponseMetadata"})

    def test_containers_take_the_place_of_a_primary_one(self):
        name = self.new_name("model")
        containers = [{
            "ContainerHostname": "first", "Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/models/"}]
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=containers)
        self.addCleanup(self.sagemaker.delete_model, ModelName=name)
        described = self.sagemaker.describe_model(ModelName=name)
        self.assertEqual(described["Containers"], containers)
        self.assertNotIn("PrimaryContainer", described)

    def test_an_endpoint_configuration_is_described_as_it_was_created(self):
        model = self.new_model()
        variants = [
            {"VariantName": "old", "ModelName": model, "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1,
             "InitialVariantWeight": 3.0},
            {"VariantName": "new", "ModelName": model, "InstanceType": "ml.c5.large", "InitialInstanceCount": 2,
             "InitialVariantWeight": 0.5, "VolumeSizeInGB": 30, "ModelDataDownloadTimeoutInSeconds": 120},
        ]
        name = self.new_name("Config")
        created = self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
        self.addCleanup(self.sagemaker.delete_endpoint_config, EndpointConfigName=name)
        self.assertEqual(created["EndpointConfigArn"], arn("endpoint-config", name))
        described = self.sagemaker.describe_endpoint_config(EndpointConfigName=name)
        self.check_time(described["CreationTime"])
        self.assertEqual(described["ProductionVariants"], variants)
        self.assertEqual(described["EndpointConfigName"], name)
        self.assertEqual(described["EndpointConfigArn"], created["EndpointConfigArn"])
        self.assertNotIn("Tags", described)

    def test_an_arn_is_in_the_region_of_its_client(self):
        region = "eu-central-1"
        client = self.cluster.client("sagemaker", {"AWS_DEFAULT_REGION": region})
        name = self.new_name("model")
        container = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/models/"}
        created = client.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        self.addCleanup(client.delete_model, ModelName=name)
        self.assertEqual(created["ModelArn"], arn("model", name, region))
        self.assertEqual(client.describe_model(ModelName=name)["ModelArn"], created["ModelArn"])

    def test_what_is_deleted_is_gone_at_once(self):
        name = self.new_name("model")
        self.new_model(name)
        self.sagemaker.delete_model(ModelName=name)
        self.invalid(f'Could not find model "{arn("model", name)}".', self.sagemaker.describe_model, ModelName=name)
        listed = self.sagemaker.list_models(NameContains=name)["Models"]
        self.assertNotIn(name, [it["ModelName"] for it in listed])

    def check_time(self, time):
        self.assertIsInstance(time, datetime.datetime)
        age = datetime.datetime.now(datetime.timezone.utc) - time
        self.assertLess(abs(age), datetime.timedelta(minutes=1))


class Tags(OnLocalCluster):
    def tags(self, resource):
        return {it["Key"]: it["Value"] for it in self.sagemaker.list_tags(ResourceArn=resource)["Tags"]}

    def test_tags_are_added_overwritten_and_deleted(self):
        config = self.new_config(Tags=[{"Key": "stage", "Value": "test"}])
        resource = arn("endpoint-config", config)
        added = self.sagemaker.add_tags(
            ResourceArn=resource, Tags=[{"Key": "stage", "Value": "live"}, {"Key": "team", "Value": "Käse=1 /x"}])
        expected = {"stage": "live", "team": "Käse=1 /x"}
        self.assertEqual({it["Key"]: it["Value"] for it in added["Tags"]}, expected)
        self.assertEqual(self.tags(resource), expected)
        self.sagemaker.delete_tags(ResourceArn=resource, TagKeys=["stage", "never-there"])
        self.assertEqual(self.tags(resource), {"team": "Käse=1 /x"})

    def test_tags_go_with_their_resource(self):
        name = self.new_name("model")
        for tags in ([{"Key": "a", "Value": ""}], []):
            self.new_model(name, Tags=tags)
            self.assertEqual(self.tags(arn("model", name)), {it["Key"]: it["Value"] for it in tags})
            self.sagemaker.delete_model(ModelName=name)

    def test_the_paginator_finds_every_tag(self):
        model = self.new_model()
        tags = [{"Key": f"key-{n}", "Value": str(n)} for n in range(50)]
        self.sagemaker.add_tags(ResourceArn=arn("model", model), Tags=tags)
        pages = self.sagemaker.get_paginator("list_tags").paginate(
            ResourceArn=arn("model", model), PaginationConfig={"PageSize": 50})
        self.assertCountEqual([tag for page in pages for tag in page["Tags"]], tags)

    def test_tags_of_what_is_not_there_are_an_error(self):
        for operation, arguments in (
            (self.sagemaker.list_tags, {}),
            (self.sagemaker.add_tags, {"Tags": [{"Key": "a", "Value": "b"}]}),
            (self.sagemaker.delete_tags, {"TagKeys": ["a"]}),
        ):
            resource = arn("model", "nobody")
            self.invalid(f'Could not find model "{resource}".', operation, ResourceArn=resource, **arguments)


class Lists(OnLocalCluster):
    """Seven of each kind, three to a page."""

    n_records, page_size = 7, 3

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.names = [f"{'even' if n % 2 == 0 else 'odd'}-{n}" for n in range(cls.n_records)]
        container = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/models/"}
        for name in cls.names:
            cls.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
            variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            cls.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])

    def listed(self, kind, **arguments):
        """Returns the names on each page."""
        operation, member, name = {
            "model": ("list_models", "Models", "ModelName"),
            "config": ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
        }[kind]
        pages = self.sagemaker.get_paginator(operation).paginate(
            PaginationConfig={"PageSize": self.page_size}, **arguments)
        return [[it[name] for it in page[member]] for page in pages]

    def check(self, expected, **arguments):
        for kind in ("model", "config"):
            pages = self.listed(kind, **arguments)
            self.assertTrue(all(len(page) == self.page_size for page in pages[:-1]), pages)
            names = [name for page in pages for name in page]
            self.assertEqual([name for name in names if name in self.names], expected, (kind, arguments))

    def test_pages_follow_each_other_in_every_order(self):
        self.check(self.names[::-1])
        self.check(self.names, SortBy="CreationTime", SortOrder="Ascending")
        self.check(self.names[::-1], SortBy="CreationTime", SortOrder="Descending")
        self.check(sorted(self.names), SortBy="Name", SortOrder="Ascending")
        self.check(sorted(self.names)[::-1], SortBy="Name", SortOrder="Descending")

    def test_names_are_filtered(self):
        self.check([it for it in self.names[::-1] if it.startswith("odd")], NameContains="odd")
        self.check([], NameContains="nothing")

    def test_times_are_filtered(self):
        models = {it: self.sagemaker.describe_model(ModelName=it) for it in self.names}
        configs = {it: self.sagemaker.describe_endpoint_config(EndpointConfigName=it) for it in self.names}
        for kind, records in (("model", models), ("config", configs)):
            middle = records[self.names[3]]["CreationTime"]
            cut = self.as_sent(middle)

            def names(**arguments):
                pages = self.listed(kind, SortOrder="Ascending", **arguments)
                return [it for page in pages for it in page if it in self.names]

            after = [it for it in self.names if records[it]["CreationTime"] >= cut]
            self.assertEqual(names(CreationTimeAfter=middle), after, kind)
            self.assertEqual(names(CreationTimeBefore=middle), [it for it in self.names if it not in after], kind)

    def test_without_a_size_a_page_has_ten_at_most_and_says_if_there_are_more(self):
        page = self.sagemaker.list_models(NameContains="even")
        self.assertEqual(len(page["Models"]), 4)
        self.assertNotIn("NextToken", page)
        for model in page["Models"]:
            self.assertEqual(model["ModelArn"], arn("model", model["ModelName"]))

    def test_a_token_that_is_none_is_refused(self):
        self.invalid("Invalid pagination token.", self.sagemaker.list_models, NextToken="nonsense")


if __name__ == "__main__":
    unittest.main()

"""Every refusal of the control plane as stock boto3 raises it: class, code, and the text that programs search."""
import unittest

from botocore.exceptions import ClientError

from on_local_cluster import BUCKET, IMAGE, ROLE, OnLocalCluster, arn

LONG = "x" * 64
CONTAINER = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/models/"}


def detected(*violations):
    errors = "error" if len(violations) == 1 else "errors"
    return f"{len(violations)} validation {errors} detected: " + "; ".join(violations)


def violation(value, path, constraint):
    return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"


class ControlErrors(OnLocalCluster):
    flags = ("--max-instances", "4")

    def variant(self, **arguments):
        return {
            "VariantName": "v", "ModelName": self.new_model(), "InstanceType": "ml.m5.large", "InitialInstanceCount": 1,
            **arguments}

    def test_what_does_not_exist_is_not_found(self):
        found_not = "Could not find {} \"{}\"."
        client, name = self.sagemaker, "Nobody"
        model, config, endpoint = (
            found_not.format(word, arn(kind, name))
            for word, kind in (
                ("model", "model"), ("endpoint configuration", "endpoint-config"), ("endpoint", "endpoint")))
        self.invalid(model, client.describe_model, ModelName=name)
        self.invalid(model, client.delete_model, ModelName=name)
        self.invalid(
            model, client.create_endpoint_config, EndpointConfigName="c",
            ProductionVariants=[self.variant(ModelName=name)])
        self.invalid(config, client.describe_endpoint_config, EndpointConfigName=name)
        self.invalid(config, client.delete_endpoint_config, EndpointConfigName=name)
        self.invalid(config, client.create_endpoint, EndpointName="e", EndpointConfigName=name)
        self.invalid(endpoint, client.describe_endpoint, EndpointName=name)
        self.invalid(endpoint, client.delete_endpoint, EndpointName=name)
        self.invalid(endpoint, client.update_endpoint, EndpointName=name, EndpointConfigName=self.new_config())
        self.invalid(
            endpoint, client.update_endpoint_weights_and_capacities, EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": "v", "DesiredWeight": 1}])

    def test_names_are_given_once(self):
        again = "Cannot create already existing {} \"{}\"."
        model = self.new_model()
        config = self.new_config(variants=[{"ModelName": model}])
        endpoint = self.new_endpoint(config)
        self.invalid(
            again.format("model", arn("model", model)), self.sagemaker.create_model, ModelName=model,
            ExecutionRoleArn=ROLE, PrimaryContainer=CONTAINER)
        self.invalid(
            again.format("endpoint configuration", arn("endpoint-config", config)),
            self.sagemaker.create_endpoint_config, EndpointConfigName=config,
            ProductionVariants=[self.variant(ModelName=model)])
        self.invalid(
            again.format("endpoint", arn("endpoint", endpoint)), self.sagemaker.create_endpoint,
            EndpointName=endpoint, EndpointConfigName=config)

    def test_model_data_must_be_there(self):
        for url, shown in (
            (f"s3://{BUCKET}/nothing/", f"s3://{BUCKET}/nothing/"),
            ("s3://no-such-bucket/models/", "s3://no-such-bucket/models/"),
        ):
            self.invalid(
                f"Could not find model data at {shown}.", self.sagemaker.create_model, ModelName=self.new_name(),
                ExecutionRoleArn=ROLE, PrimaryContainer={**CONTAINER, "ModelDataUrl": url})

    def test_model_data_lies_in_s3_or_with_us(self):
        url = f"https://example.com/{BUCKET}/models/"
        with self.assertRaisesRegex(ClientError, "ValidationException.*Could not find model data at https://example.com"):
            self.sagemaker.create_model(
                ModelName=self.new_name(), ExecutionRoleArn=ROLE, PrimaryContainer={**CONTAINER, "ModelDataUrl": url})

    def test_every_form_of_an_address_means_the_same_data(self):
        for url in (
            f"s3://{BUCKET}/models/",
            f"https://s3.amazonaws.com/{BUCKET}/models/",
            f"https://s3-eu-west-1.amazonaws.com/{BUCKET}/models/",
            f"https://s3.eu-west-1.amazonaws.com/{BUCKET}/models/",
            f"https://{BUCKET}.s3.amazonaws.com/models/",
            f"https://{BUCKET}.s3.us-east-1.amazonaws.com/models/",
            f"{self.cluster.url.replace('http://', 'https://')}/{BUCKET}/models/",
        ):
            model = self.new_model(url=url)
            shown = self.sagemaker.describe_model(ModelName=model)["PrimaryContainer"]["ModelDataUrl"]
            self.assertEqual(shown, url)

    def test_what_boto3_does_not_check_the_server_does(self):
        client = self.sagemaker
        too_long = violation(LONG, "modelName", "have length less than or equal to 63")
        self.invalid(detected(too_long), client.describe_model, ModelName=LONG)
        pattern = violation(
            "a_b", "modelName", r"satisfy regular expression pattern: [a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?")
        self.invalid(detected(pattern), client.describe_model, ModelName="a_b")
        mode = violation("Both", "primaryContainer.mode", "satisfy enum value set: [SingleModel, MultiModel]")
        self.invalid(
            detected(mode), client.create_model, ModelName="m", ExecutionRoleArn=ROLE,
            PrimaryContainer={**CONTAINER, "Mode": "Both"})
        most = violation("101", "maxResults", "have value less than or equal to 100")
        self.invalid(detected(most), client.list_models, MaxResults=101)

    def test_an_unknown_instance_type_is_told_all_that_are_known(self):
        with self.assertRaises(ClientError) as caught:
            self.sagemaker.create_endpoint_config(
                EndpointConfigName="c", ProductionVariants=[self.variant(InstanceType="ml.nothing.large")])
        message = caught.exception.response["Error"]["Message"]
        self.assertRegex(
            message,
            r"^1 validation error detected: Value 'ml.nothing.large' at 'productionVariants.1.member.instanceType' failed "
            r"to satisfy constraint: Member must satisfy enum value set: \[.*ml\.m5\.xlarge.*\]$")

    def test_several_faults_are_told_at_once(self):
        with self.assertRaises(ClientError) as caught:
            self.sagemaker.create_endpoint(EndpointName=LONG, EndpointConfigName="a_b")
        message = caught.exception.response["Error"]["Message"]
        self.assertRegex(message, "^2 validation errors detected: Value '.*'; Value '.*'|^3 validation errors detected: ")
        self.assertIn("at 'endpointName'", message)
        self.assertIn("at 'endpointConfigName'", message)

    def test_more_instances_than_there_may_be_are_a_class_of_their_own(self):
        n_before = self.n_instances()
        config = self.new_config(variants=[{"ModelName": self.new_model(), "InitialInstanceCount": 5}])
        with self.assertRaises(self.sagemaker.exceptions.ResourceLimitExceeded) as caught:
            self.sagemaker.create_endpoint(EndpointName="too-large", EndpointConfigName=config)
        message = caught.exception.response["Error"]["Message"]
        self.assertRegex(
            message,
            r"^The account-level service limit 'ml.m5.xlarge for endpoint usage' is 4 Instances, with current utilization "
            r"of \d Instances and a request delta of 5 Instances. Please use AWS Service Quotas to request an increase "
            r"for this quota.")
        self.assertEqual(self.n_instances(), n_before)
        self.invalid(
            f'Could not find endpoint "{arn("endpoint", "too-large")}".', self.sagemaker.describe_endpoint,
            EndpointName="too-large")

    def test_an_endpoint_in_progress_cannot_be_updated(self):
        config, other = self.new_config(), self.new_config()
        endpoint = self.new_endpoint(config, wait=False)
        busy = f'Cannot update in-progress endpoint "{arn("endpoint", endpoint)}".'
        self.invalid(busy, self.sagemaker.update_endpoint, EndpointName=endpoint, EndpointConfigName=other)
        self.invalid(
            busy, self.sagemaker.update_endpoint_weights_and_capacities, EndpointName=endpoint,
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}])

    def test_an_update_needs_another_configuration_and_known_variants(self):
        config = self.new_config()
        endpoint = self.new_endpoint(config)
        self.invalid(
            "Cannot update endpoint with the currently in use endpoint configuration.",
            self.sagemaker.update_endpoint, EndpointName=endpoint, EndpointConfigName=config)
        self.invalid(
            f'The variant name(s) "nobody" is/are not present within endpoint configuration "{config}".',
            self.sagemaker.update_endpoint_weights_and_capacities, EndpointName=endpoint,
            DesiredWeightsAndCapacities=[{"VariantName": "nobody", "DesiredWeight": 1}])

    def test_an_operation_that_is_not_there_says_so(self):
        with self.assertRaises(ClientError) as caught:
            self.sagemaker.list_training_jobs()
        self.assertEqual(caught.exception.response["Error"]["Code"], "UnknownOperationException")


if __name__ == "__main__":
    unittest.main()

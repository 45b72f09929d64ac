"""A multi-model endpoint with the SageMaker Python SDK: `MultiDataModel` of version 2, resources of version 3.

    make up                              # in another terminal
    pip install 'sagemaker<3'            # or 'sagemaker-core>=2', the part of version 3 that has endpoints
    python examples/sagemaker_sdk.py

Which of the two is installed decides which walk is taken.
"""

import json
import os
import sys
import time
from pathlib import Path

# One URL for every service, and any credentials. What the shell has set counts more.
os.environ.setdefault("AWS_ENDPOINT_URL", "http://127.0.0.1:8080")
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
os.environ.setdefault("AWS_ACCESS_KEY_ID", "any")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "any")

import boto3  # noqa: E402  (after the settings)

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / ".manifold" / "models"
CAT = (REPOSITORY / "driver" / "assets" / "cat.jpg").read_bytes()
# Kept and shown. Manifold runs its own worker in its place.
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/many-models:latest"
INSTANCE_TYPE = "ml.m5.xlarge"


class OneUrlSession(boto3.Session):
    """Sends STS where everything else goes.

    Both versions of the SDK name Amazon's own address when they ask who they are, whatever `AWS_ENDPOINT_URL` says.
    """

    def client(self, service_name, *args, **kwargs):
        if service_name == "sts":
            kwargs.pop("endpoint_url", None)
        return super().client(service_name, *args, **kwargs)


def main():
    if not MODELS.is_dir():
        sys.exit(f"{MODELS} is missing: run make models, or name a folder with models")
    try:
        import sagemaker.multidatamodel  # noqa: F401
    except ImportError:
        # Version 3 has no MultiDataModel.
        with_version_3()
    else:
        with_version_2()


def with_version_2():
    import sagemaker
    from sagemaker.deserializers import JSONDeserializer
    from sagemaker.multidatamodel import MultiDataModel
    from sagemaker.predictor import Predictor
    from sagemaker.serializers import DataSerializer

    session = sagemaker.Session(boto_session=OneUrlSession())
    role = sagemaker.get_execution_role(session)
    name = new_name("sdk-v2")
    prefix = f"s3://{session.default_bucket()}/{name}/"
    print(f"version {sagemaker.__version__}: {role}, {prefix}")

    models = MultiDataModel(name, prefix, image_uri=IMAGE, role=role, sagemaker_session=session, predictor_cls=Predictor)
    models.add_model(str(MODELS / "efficientnet_lite0.tar.gz"), "efficientnet_lite0.tar.gz")
    # With `wait=True` it would look every 30 seconds only.
    predictor = models.deploy(
        initial_instance_count=2,
        instance_type=INSTANCE_TYPE,
        serializer=DataSerializer(content_type="image/jpeg"),
        deserializer=JSONDeserializer(),
        wait=False,
    )
    session.wait_for_endpoint(name, poll=1)
    print()

    show(predictor.predict(CAT, target_model="efficientnet_lite0.tar.gz"))
    models.add_model(str(MODELS / "efficientnet_lite1.tar.gz"), "new/efficientnet_lite1.tar.gz")
    print("models:", ", ".join(models.list_models()))
    show(predictor.predict(CAT, target_model="new/efficientnet_lite1.tar.gz"))

    predictor.delete_endpoint(delete_endpoint_config=True)
    session.delete_model(name)
    empty(session.boto_session, prefix)


def with_version_3():
    from sagemaker.core.helper.session_helper import Session, get_execution_role
    from sagemaker.core.resources import Endpoint, EndpointConfig, Model
    from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

    boto_session = OneUrlSession()
    session = Session(boto_session=boto_session)
    role = get_execution_role(session)
    name = new_name("sdk-v3")
    bucket = session.default_bucket()
    prefix = f"s3://{bucket}/{name}/"
    print(f"version 3: {role}, {prefix}")

    s3 = boto_session.client("s3")
    s3.upload_file(str(MODELS / "efficientnet_lite0.tar.gz"), bucket, f"{name}/efficientnet_lite0.tar.gz")
    container = ContainerDefinition(image=IMAGE, mode="MultiModel", model_data_url=prefix)
    model = Model.create(model_name=name, execution_role_arn=role, primary_container=container, session=boto_session)
    variant = ProductionVariant(
        variant_name="AllTraffic", model_name=name, instance_type=INSTANCE_TYPE, initial_instance_count=2
    )
    config = EndpointConfig.create(endpoint_config_name=name, production_variants=[variant], session=boto_session)
    endpoint = Endpoint.create(endpoint_name=name, endpoint_config_name=name, session=boto_session)
    endpoint.wait_for_status("InService", poll=1)

    show(ask(endpoint, "efficientnet_lite0.tar.gz"))
    s3.upload_file(str(MODELS / "efficientnet_lite1.tar.gz"), bucket, f"{name}/new/efficientnet_lite1.tar.gz")
    show(ask(endpoint, "new/efficientnet_lite1.tar.gz"))

    endpoint.delete()
    endpoint.wait_for_delete(poll=1)
    config.delete()
    model.delete()
    empty(boto_session, prefix)


def ask(endpoint, target_model):
    answer = endpoint.invoke(body=CAT, content_type="image/jpeg", target_model=target_model)
    return json.loads(answer.body.read())


def new_name(stem):
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def show(classes):
    print(*classes, sep="\n")


def empty(boto_session, prefix):
    """Removes the archives below `prefix`."""
    bucket, key = prefix[len("s3://") :].split("/", 1)
    boto_session.resource("s3").Bucket(bucket).objects.filter(Prefix=key).delete()


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# A multi-model endpoint with the AWS CLI (1 or 2): upload, create, ask, add a model, take an instance away, delete.
#
#     make up                  # in another terminal
#     examples/aws_cli.sh      # or: examples/aws_cli.sh FOLDER-WITH-THE-MODELS
#
# Only the next four lines know Manifold. What the shell has set already counts more.
set -euo pipefail
export AWS_ENDPOINT_URL=${AWS_ENDPOINT_URL:-http://127.0.0.1:8080}
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1}
export AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-any} AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-any}
# Version 2 would show long answers in a pager.
export AWS_PAGER=""

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
models=${1:-$repository/.manifold/models}
cat=$repository/driver/assets/cat.jpg
name=cli-$(date +%Y%m%d-%H%M%S)
answer=$(mktemp)

say() {
    printf '\n== %s\n' "$*"
}

# Whatever happens: nothing stays. What was not made yet cannot be removed, which is no matter.
clean_up() {
    status=$?
    say "removing everything"
    aws sagemaker delete-endpoint --endpoint-name "$name" 2>/dev/null || true
    wait_while Deleting || true
    aws sagemaker delete-endpoint-config --endpoint-config-name "$name" 2>/dev/null || true
    aws sagemaker delete-model --model-name "$name" 2>/dev/null || true
    if [ -n "${bucket:-}" ]; then
        aws s3 rm --quiet --recursive "s3://$bucket/$name/" 2>/dev/null || true
    fi
    rm -f "$answer"
    exit "$status"
}

endpoint_status() {
    aws sagemaker describe-endpoint --endpoint-name "$name" --query EndpointStatus --output text 2>/dev/null || echo gone
}

# As `aws sagemaker wait endpoint-in-service` and `endpoint-deleted` do, which look only every 30 seconds.
wait_while() {
    for _ in $(seq 120); do
        [ "$(endpoint_status)" = "$1" ] || return 0
        sleep 0.5
    done
    echo "still $1" >&2
    return 1
}

ask() {
    aws sagemaker-runtime invoke-endpoint --endpoint-name "$name" --target-model "$1" \
        --content-type image/jpeg --body "fileb://$cat" "$answer" --query InvokedProductionVariant --output text
    cat "$answer"
    echo
}

if [ ! -d "$models" ]; then
    echo "$models is missing: run make models, or name a folder with models" >&2
    exit 1
fi
trap clean_up EXIT

say "who we are"
read -r account arn < <(aws sts get-caller-identity --query '[Account, Arn]' --output text)
role=$(aws iam get-role --role-name "$(cut -d/ -f2 <<<"$arn")" --query Role.Arn --output text)
echo "$role"

say "uploading"
bucket=sagemaker-$AWS_DEFAULT_REGION-$account
aws s3 mb "s3://$bucket" 2>/dev/null || aws s3api head-bucket --bucket "$bucket"
for model in efficientnet_lite0.tar.gz efficientnet_lite1.tar.gz; do
    aws s3 cp --no-progress "$models/$model" "s3://$bucket/$name/$model"
done

say "creating"
aws sagemaker create-model --model-name "$name" --execution-role-arn "$role" --primary-container \
    "Image=$account.dkr.ecr.$AWS_DEFAULT_REGION.amazonaws.com/many-models:latest,Mode=MultiModel,ModelDataUrl=s3://$bucket/$name/"
aws sagemaker create-endpoint-config --endpoint-config-name "$name" --production-variants \
    "VariantName=AllTraffic,ModelName=$name,InstanceType=ml.m5.xlarge,InitialInstanceCount=2"
aws sagemaker create-endpoint --endpoint-name "$name" --endpoint-config-name "$name"
wait_while Creating
aws sagemaker describe-endpoint --endpoint-name "$name" \
    --query '[EndpointStatus, ProductionVariants[0].CurrentInstanceCount]' --output text

say "asking"
ask efficientnet_lite0.tar.gz
ask efficientnet_lite1.tar.gz

say "adding a model"
aws s3 cp --no-progress "$models/efficientnet_lite2.tar.gz" "s3://$bucket/$name/new/"
ask new/efficientnet_lite2.tar.gz

say "one instance instead of two"
aws sagemaker update-endpoint-weights-and-capacities --endpoint-name "$name" \
    --desired-weights-and-capacities VariantName=AllTraffic,DesiredInstanceCount=1
wait_while Updating
ask efficientnet_lite0.tar.gz

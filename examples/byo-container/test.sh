#!/bin/sh
# Builds the image, trains two models in it, serves them as SageMaker would, and asks both.
#
# Needs Docker, `make build`, and the image manifold-worker-python (see README.md beside this file).
set -eu
cd "$(dirname "$0")"
image=manifold-byo-example
folder=$(mktemp -d)
up=
finish() {
    status=$?
    trap - EXIT
    [ -z "$up" ] || { kill "$up"; wait "$up" || true; }
    rm -rf "$folder"
    exit $status
}
trap finish EXIT INT TERM

docker build --tag "$image" .
docker run --rm --user "$(id -u):$(id -g)" --volume "$folder:/models" --entrypoint python "$image" \
    /opt/program/train.py /models
../../target/release/manifold up --image "$image" --workers 1 --models "$folder" --data "$folder/data" \
    --listen 127.0.0.1:0 > "$folder/said" 2>&1 &
up=$!
until url=$(sed -n 's/^AWS_ENDPOINT_URL=//p' "$folder/said") && [ -n "$url" ]; do
    kill -0 "$up" 2> /dev/null || { cat "$folder/said"; exit 1; }
    sleep 0.5
done
for model in forest logistic; do
    answer=$(curl --silent --show-error "$url/endpoints/demo/invocations" --header 'Content-Type: application/json' \
        --header "X-Amzn-SageMaker-Target-Model: $model.tar.gz" --data '{"instances": [[5.1, 3.5, 1.4, 0.2]]}')
    echo "$model: $answer"
    case $answer in *'"class": "setosa"'*) ;; *) echo "not setosa"; exit 1 ;; esac
done

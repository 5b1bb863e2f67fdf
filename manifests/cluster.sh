#!/usr/bin/env bash
# A kind cluster with the platform and Offers on it. Only kind, docker and kubectl are needed.
#
#   manifests/cluster.sh up              make the cluster and install the platform
#   manifests/cluster.sh deploy TAG      load the images of that tag, apply overlays/kind, deploy no bundle yet
#   manifests/cluster.sh bundle NAME     serve this bundle of the bucket, and wait until it answers
#   manifests/cluster.sh status          what runs, what is ready
#   manifests/cluster.sh down            delete the cluster and all that is in it
set -euo pipefail
cd "$(dirname "$0")/.."

CLUSTER=${OFFERS_CLUSTER:-offers}
IMAGES=(offers-serving offers-pipeline-python offers-drift)
kubectl() { command kubectl --context "kind-$CLUSTER" "$@"; }
say() { printf '== %s\n' "$*"; }

ready() { # NAMESPACE: wait for every deployment in it
    kubectl -n "$1" wait --for=condition=Available --timeout=15m deployment --all
}

up() {
    if ! kind get clusters | grep -qx "$CLUSTER"; then
        kind create cluster --name "$CLUSTER" --config kind-config.yaml --wait 3m
    fi
    say "cert-manager"
    kubectl apply --server-side -k manifests/platform/cert-manager
    ready cert-manager
    say "KServe"
    kubectl apply --server-side -k manifests/platform/kserve
    ready kserve
    say "Kubeflow Pipelines"
    kubectl apply --server-side -k manifests/platform/pipelines-crds
    kubectl wait --for=condition=Established --timeout=2m crd/applications.app.k8s.io
    kubectl apply --server-side -k manifests/platform/pipelines
    ready kubeflow
}

overlay() { # TAG: overlays/kind with the images of this tag, as a directory below build/
    local directory=build/deploy name
    mkdir -p "$directory"
    {
        echo "apiVersion: kustomize.config.k8s.io/v1beta1"
        echo "kind: Kustomization"
        echo "resources: [../../manifests/overlays/kind]"
        echo "images:"
        for name in "${IMAGES[@]}"; do echo "  - {name: $name, newTag: $1}"; done
        sed -n '/^replacements:/,$p' manifests/overlays/kind/kustomization.yaml
    } > "$directory/kustomization.yaml"
    echo "$directory"
}

credentials() { # the object store's own, as KServe and our pods read them
    local key secret
    key=$(kubectl -n kubeflow get secret mlpipeline-minio-artifact -o 'jsonpath={.data.accesskey}' | base64 -d)
    secret=$(kubectl -n kubeflow get secret mlpipeline-minio-artifact -o 'jsonpath={.data.secretkey}' | base64 -d)
    kubectl -n offers create secret generic object-store --dry-run=client -o yaml \
        --from-file=AWS_ACCESS_KEY_ID=<(printf %s "$key") --from-file=AWS_SECRET_ACCESS_KEY=<(printf %s "$secret") |
        kubectl annotate --local -f - -o yaml serving.kserve.io/s3-endpoint=seaweedfs.kubeflow:9000 \
            serving.kserve.io/s3-usehttps=0 serving.kserve.io/s3-region=us-east-1 \
            serving.kserve.io/s3-verifyssl=0 serving.kserve.io/s3-usevirtualbucket=false |
        kubectl apply --server-side -f -
}

deploy() {
    local tag=$1 name
    for name in "${IMAGES[@]}"; do
        kind load docker-image --name "$CLUSTER" "$name:$tag"
    done
    kubectl apply --server-side -f manifests/base/namespace.yaml
    credentials
    kubectl -n offers delete job bucket --ignore-not-found
    kubectl apply --server-side -k "$(overlay "$tag")"
    kubectl -n offers wait --for=condition=Complete --timeout=5m job/bucket
    kubectl -n offers rollout status --timeout=5m deployment/retraining-trigger
}

bundle() {
    local generation
    generation=$(kubectl -n offers patch inferenceservice offers --type merge -o 'jsonpath={.metadata.generation}' \
        --patch "{\"spec\":{\"predictor\":{\"model\":{\"storageUri\":\"s3://offers/bundles/$1\"}}}}")
    # Until its controller has seen the change, the service is as ready as it was before.
    kubectl -n offers wait --for="jsonpath={.status.observedGeneration}=$generation" --timeout=2m inferenceservice/offers
    kubectl -n offers rollout status --timeout=10m deployment/offers-predictor
    kubectl -n offers wait --for=condition=Ready --timeout=2m inferenceservice/offers
}

status() {
    kubectl get nodes
    kubectl -n offers get inferenceservices,deployments,pods,services
    kubectl -n kubeflow get deployments
}

case "${1:-}:$#" in
    up:1 | status:1) "$1" ;;
    deploy:2 | bundle:2) "$1" "$2" ;;
    down:1) kind delete cluster --name "$CLUSTER" ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac

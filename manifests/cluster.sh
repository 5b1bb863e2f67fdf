#!/usr/bin/env bash
# Offers on a cluster. Every command may be run again, and goes on from where it stopped.
#
#   manifests/cluster.sh up          a kind cluster where there is none, our images, the platform, the base
#   manifests/cluster.sh platform    cert-manager, KServe and Kubeflow Pipelines alone
#   manifests/cluster.sh deploy      the images and manifests of this commit; serves what the ledger says, and trains the
#                                    first release where it says nothing
#   manifests/cluster.sh status      what is well and what is not: exit code 2 where something is wrong
#   manifests/cluster.sh rollback    the release before the one that is served
#   manifests/cluster.sh down        delete the kind cluster and all that is in it
#   manifests/cluster.sh images      build the images of this commit that are missing, print all their sizes
#
# OFFERS_CLUSTER    name of a kind cluster, 'offers' by default; one that exists is used
# OFFERS_CONTEXT    context of kubectl, in place of kind's: a cluster that kind does not manage
# OFFERS_SOURCE     rows of every training, in place of the contract's own source; 'simulated' needs no network. It is
#                   kept until another is named; empty names the contract's own
set -euo pipefail
cd "$(dirname "$0")/.."

CONTEXT=${OFFERS_CONTEXT:-kind-${OFFERS_CLUSTER:-offers}}
CLUSTER=${CONTEXT#kind-}
IMAGES=(offers-serving:serving offers-pipeline-python:components offers-drift:serving/drift)
PREDICT=/v1/models/offers:predict
STEP=

kubectl() { command kubectl --context "$CONTEXT" "$@"; }
apply() { kubectl apply --server-side "$@" > /dev/null; }
await() { kubectl wait "$@" > /dev/null; }
rolled_out() { kubectl -n offers rollout status --timeout=10m "deployment/$1" > /dev/null; }
here() { type -P "$1" > /dev/null; }
of_kind() { [[ $CONTEXT == kind-* ]]; }
exists() { kind get clusters 2> /dev/null | grep -x -- "$CLUSTER" > /dev/null; }
step() { STEP=$*; printf '== %s\n' "$*"; }

stopped() {
    local code=$?
    if ((code)) && [[ -n $STEP ]]; then
        printf '\noffers: stopped at the step "%s"; the lines above say why.\n' "$STEP" >&2
        printf 'What was done before it stays, and the same command goes on from there.\n' >&2
    fi
}
trap stopped EXIT

# shellcheck source=manifests/preflight.sh
source manifests/preflight.sh

ADMIN=build/ledger-keys/admin.pem
SOURCE_OF_TRIGGER='{.spec.template.spec.containers[0].env[?(@.name=="OFFERS_SOURCE")].value}'

commit() { # as offers.bundle.provenance tells it
    local head
    head=$(git rev-parse HEAD 2> /dev/null) || head=unknown
    [[ $head == unknown || -z $(git status --porcelain -uno) ]] || head+=-dirty
    echo "${OFFERS_GIT_COMMIT:-$head}"
}

images() {
    local image name arguments
    for image in "${IMAGES[@]}"; do
        name=${image%%:*}
        # The tag of a tree with changes says nothing of what is in the image.
        if [[ $TAG != *-dirty && $TAG != unknown && -z ${EXTRA:-} ]] && built "$name"; then continue; fi
        step "image $name:$TAG"
        arguments=(--build-arg "GIT_COMMIT=$TAG")
        [[ -z ${PIP_INDEX_URL:-} ]] || arguments+=(--build-arg PIP_INDEX_URL)
        [[ -z ${EXTRA:-} ]] || arguments+=(--build-arg EXTRA)
        # With attestations an image is a list, whose parts kind may miss when it loads them.
        BUILDX_NO_DEFAULT_ATTESTATIONS=1 \
            docker build "${arguments[@]}" --file "${image#*:}/Dockerfile" --tag "$name:$TAG" .
    done
    docker image ls --filter "reference=offers-*:$TAG" --format '{{.Repository}}:{{.Tag}}  {{.Size}}'
}

load() {
    local image names=()
    if ! of_kind; then
        step "images: kind does not manage $CONTEXT, whose nodes must have or find those of tag $TAG"
        return
    fi
    step "load the images of tag $TAG"
    [[ $TAG != *-dirty ]] ||
        echo "The tree has changes: pods that run this tag already keep what they have; commit to be sure."
    for image in "${IMAGES[@]}"; do names+=("${image%%:*}:$TAG"); done
    kind load docker-image --name "$CLUSTER" "${names[@]}"
}

cluster() {
    if exists; then
        step "cluster $CLUSTER is there"
    else
        step "cluster $CLUSTER"
        kind create cluster --name "$CLUSTER" --config "$(config)" --wait 5m
    fi
}

available() { # NAMESPACE: wait for every deployment in it
    await -n "$1" --for=condition=Available --timeout=20m deployment --all || {
        kubectl -n "$1" get pods --field-selector=status.phase!=Succeeded >&2
        return 1
    }
}

platform() {
    step "cert-manager"
    apply -k manifests/platform/cert-manager
    available cert-manager
    # Its webhook is refused until the API server knows the authority behind its certificate.
    await --for='jsonpath={.webhooks[0].clientConfig.caBundle}' --timeout=5m \
        validatingwebhookconfiguration/cert-manager-webhook
    step "KServe"
    apply -f manifests/platform/kserve-namespace.yaml
    apply -k manifests/platform/kserve
    await --for=condition=Established --timeout=2m crd/clusterstoragecontainers.serving.kserve.io
    available kserve
    apply -k manifests/platform/kserve-storage
    step "Kubeflow Pipelines, some minutes"
    apply -k manifests/platform/pipelines-crds
    await --for=condition=Established --timeout=2m crd/workflows.argoproj.io crd/scheduledworkflows.kubeflow.org
    apply -k manifests/platform/pipelines
    available kubeflow
}

overlay() { # overlays/kind with the images of this tag, as a directory below build/
    local directory=build/deploy image
    mkdir -p "$directory"
    {
        echo "apiVersion: kustomize.config.k8s.io/v1beta1"
        echo "kind: Kustomization"
        echo "resources: [../../manifests/overlays/kind]"
        echo "images:"
        for image in "${IMAGES[@]}"; do echo "  - {name: ${image%%:*}, newTag: $TAG}"; done
        sed -n '/^replacements:/,$p' manifests/overlays/kind/kustomization.yaml
        echo "patches:"
        echo "  - target: {kind: Deployment, name: retraining-trigger}"
        echo "    patch: |-"
        echo "      - {op: add, path: /spec/template/spec/containers/0/env/-, value: $(source_variable)}"
    } > "$directory/kustomization.yaml"
    echo "$directory"
}

follower() { # a canary goes on without a command of a person
    step "what follows the ledger"
    mkdir -p build/releases
    {
        echo "apiVersion: kustomize.config.k8s.io/v1beta1"
        echo "kind: Kustomization"
        echo "resources: [../../manifests/releases]"
        echo "images: [{name: offers-pipeline-python, newTag: $TAG}]"
    } > build/releases/kustomization.yaml
    apply -k build/releases
}

source_of_rows() { # the one that is named, or else the one that the trigger has
    echo "${OFFERS_SOURCE-$(kubectl -n offers get deployment retraining-trigger --ignore-not-found -o "jsonpath=$SOURCE_OF_TRIGGER")}"
}

source_variable() { # for the trigger, as YAML
    local source
    source=$(source_of_rows)
    echo "{name: OFFERS_SOURCE, value: '${source//\'/\'\'}'}"
}

credentials() { # the object store's own, as KServe, our pods and the steps of pipelines read them
    local key secret
    key=$(kubectl -n kubeflow get secret mlpipeline-minio-artifact -o 'jsonpath={.data.accesskey}' | base64 -d)
    secret=$(kubectl -n kubeflow get secret mlpipeline-minio-artifact -o 'jsonpath={.data.secretkey}' | base64 -d)
    keys kubeflow offers-object-store | apply -f -
    keys offers object-store |
        kubectl annotate --local -f - -o yaml serving.kserve.io/s3-endpoint=seaweedfs.kubeflow:9000 \
            serving.kserve.io/s3-usehttps=0 serving.kserve.io/s3-region=us-east-1 \
            serving.kserve.io/s3-verifyssl=0 serving.kserve.io/s3-usevirtualbucket=false |
        apply -f -
}

keys() { # NAMESPACE NAME: a Secret with the key and the secret of `credentials`
    kubectl -n "$1" create secret generic "$2" --dry-run=client -o yaml \
        --from-file=AWS_ACCESS_KEY_ID=<(printf %s "$key") --from-file=AWS_SECRET_ACCESS_KEY=<(printf %s "$secret")
}

pseudonyms() { # the key of the customers' pseudonyms, made once: with another the log would know nobody again
    local key
    [[ -z $(kubectl -n offers get secret pseudonym-key --ignore-not-found -o name) ]] || return 0
    key=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')
    kubectl -n offers create secret generic pseudonym-key --dry-run=client -o yaml \
        --from-file=key=<(printf %s "$key") | apply -f -
}

base() {
    local directory deployment
    step "credentials of the object store"
    apply -f manifests/base/namespace.yaml
    credentials
    pseudonyms
    step "manifests of overlays/kind"
    directory=$(overlay)
    kubectl -n offers delete job bucket --ignore-not-found > /dev/null
    apply -k "$directory"
    step "bucket"
    await -n offers --for=condition=Complete --timeout=5m job/bucket || {
        kubectl -n offers logs job/bucket --tail=5 >&2
        return 1
    }
    step "trigger, Prometheus, Alertmanager and Grafana"
    for deployment in retraining-trigger prometheus alertmanager grafana; do
        rolled_out "$deployment"
    done
}

ledger() { # keys of trigger and steps, where their Secrets are missing; an admin's key, which stays on this machine, adds them
    local one name roles namespace
    for one in trigger:operator:offers pipeline:trainer,operator:kubeflow; do
        IFS=: read -r name roles namespace <<< "$one"
        [[ -n $(kubectl -n "$namespace" get secret ledger-key --ignore-not-found -o name) ]] ||
            key_of "$name" "$roles" "$namespace"
    done
}

key_of() { # NAME ROLES NAMESPACE: a key in the ledger and in a Secret; one that was lost with its namespace is withdrawn
    local kept=${ADMIN%/*} name role public said options=()
    step "key of $1 in the ledger; $ADMIN adds and withdraws others, keep it"
    (umask 077 && mkdir -p "$kept")
    for name in admin "$1"; do
        [[ ! -s $kept/$name.pem ]] || continue
        in_trigger rm -f "/tmp/keys/$name.pem"
        offers key new "$name" --directory /tmp/keys > /dev/null
        (umask 077 && in_trigger cat "/tmp/keys/$name.pem" > "$kept/$name.pem")
    done
    into_trigger "$ADMIN"
    into_trigger "$kept/$1.pem"
    public=$(offers key show "/tmp/keys/$1.pem")
    for role in ${2//,/ }; do options+=(--role "$role"); done
    said=$(offers key add "$public" --name "$1" "${options[@]}" --key /tmp/keys/admin.pem 2>&1) || {
        [[ $said != *"has a key already"* ]] || {
            withdraw "$1"
            said=$(offers key add "$public" --name "$1" "${options[@]}" --key /tmp/keys/admin.pem 2>&1) || true
        }
        [[ $said == *"may sign as"* || $said == *"was added before"* ]] || {
            echo "$said" >&2
            return 1
        }
    }
    kubectl -n "$3" create secret generic ledger-key --dry-run=client -o yaml --from-file=key.pem="$kept/$1.pem" |
        apply -f -
    rm "$kept/$1.pem"
    in_trigger rm -r /tmp/keys
}

withdraw() { # NAME: the keys that it has in the ledger
    local id
    for id in $(offers key list | awk -v name="$1" '$2 == name && !/by entry/ {print $1}'); do
        offers key withdraw "$id" --reason "its Secret was lost" --key /tmp/keys/admin.pem > /dev/null
    done
}

in_trigger() {
    kubectl -n offers exec deployment/retraining-trigger -c trigger -- "$@"
}

into_trigger() { # FILE: put a key into the pod's scratch directory
    kubectl -n offers exec -i deployment/retraining-trigger -c trigger -- \
        sh -c "mkdir -p /tmp/keys && cat > /tmp/keys/${1##*/}" < "$1"
}

offers() { # in the trigger's pod, which reaches Kubeflow and names the image of a run
    in_trigger offers "$@"
}

own() { # on this machine, which reaches the cluster as kubectl does
    .venv/bin/offers "$@" --context "$CONTEXT"
}

completed() { # LABEL: wait for the end of the run that has it, and tell in between what keeps its pods from running
    local minutes said
    for ((minutes = 5; minutes <= 360; minutes += 5)); do
        if said=$(kubectl -n kubeflow wait --for=condition=Completed --timeout=5m workflows.argoproj.io -l "$1" 2>&1); then
            return
        fi
        [[ $said == *"timed out"* ]] || break
        said=$(pending "$1") || true
        echo "   it runs for $minutes minutes${said:+; waits: $said}"
    done
    echo "$said" >&2
    return 1
}

pending() { # LABEL: the first pod of a run that does not run, and why
    local why='{range .items[*]}{.metadata.name}|{.status.conditions[?(@.type=="PodScheduled")].message}'
    why+='{.status.containerStatuses[*].state.waiting.reason}{"\n"}{end}'
    kubectl -n kubeflow get pods -l "$1" --field-selector=status.phase=Pending -o "jsonpath=$why" |
        sed -n '/|./{s/|/ /;p;q;}'
}

ended() { # RUN: how it stands, once Kubeflow itself knows that it has ended; the code is that of 'offers pipeline status'
    local said code try
    for ((try = 1; try <= 20; try++)); do
        code=0
        said=$(offers pipeline status "$1" 2>&1) || code=$?
        [[ $said == *"  running  "* ]] || break
        sleep 3
    done
    # The page's address is one of the cluster, and the last line kubectl's own.
    grep -v -e '/#/runs/details/' -e '^command terminated' <<< "$said"
    return "$code"
}

train() {
    local number=0 again id name state said code source
    source=$(source_of_rows)
    for ((again = 0; again <= 2; again++)); do
        state=failed
        # A name finds the run of an attempt before: one that goes on is waited for, one that has ended is followed.
        while [[ $state =~ ^(succeeded|refused|failed|stopped)$ ]]; do
            number=$((number + 1))
            # Nobody has a key yet who could approve the first one, so the gate does; later ones are the contract's affair.
            said=$(offers pipeline submit --name "first-${TAG:0:12}-$number" --source "$source" --approval gate \
                --publish s3://offers/bundles --service offers/offers --smoke-url http://predictor.offers.svc:8085)
            read -r id name state <<< "$said"
        done
        step "training run $name, some minutes: $(url 30088 8888)/#/runs/details/$id"
        completed "pipeline/runid=$id"
        code=0
        said=$(ended "$id") || code=$?
        ((code)) || return 0
        echo "$said" >&2
        [[ $said == *"Kubeflow lost it"* && $again -lt 2 ]] || break
        echo "   it is begun again as a new run in $((30 * (again + 1))) seconds"
        sleep $((30 * (again + 1)))
    done
    if ((code == 3)); then
        echo "offers: the gate refused the model, so nothing is served; the report of its step says more" >&2
    elif [[ $said == *"ingest: "* ]]; then
        echo "Where the contacts can't be fetched: OFFERS_SOURCE=simulated make deploy" >&2
    fi
    return 1
}

serve() {
    step "serve what the ledger says"
    rolled && return
    step "no release was promoted yet: train the first one on the cluster"
    train
    step "serve what the ledger says"
    rolled || {
        echo "offers: the run registered no release that the gate alone approves" >&2
        return 1
    }
}

rolled() { # ends what was begun, and serves the champion; fails where the ledger has none
    local code=0
    own deploy --key "$ADMIN" || code=$?
    ((code != 3)) || return 1
    ((code == 0)) || {
        own status >&2 || true
        exit 1
    }
}

inside() { # PYTHON: run it beside the ranker
    kubectl -n offers exec deployment/offers-predictor -c transformer-container -i -- python -c "$1"
}

ask() {
    local url
    url=$(url 30080 8080)$PREDICT
    step "ask the ranking API"
    inside "
import json
from offers import contract
from serving.ranker.question import example
print(json.dumps(example(contract.load('/mnt/models/bundle/contract.yaml')), indent=1))" < /dev/null > build/request.json
    if [[ -n $(published 30080) ]]; then
        curl --silent --show-error --fail --retry 30 --retry-delay 1 --retry-all-errors \
            --data @build/request.json --output build/answer.json "$url"
    else
        inside "
import sys, urllib.request
asked = urllib.request.urlopen('http://127.0.0.1:8080$PREDICT', sys.stdin.buffer.read(), timeout=30)
print(asked.read().decode())" < build/request.json > build/answer.json
    fi
    links
    printf '\n%s\n' "curl -s $url -d @build/request.json"
}

# Where a browser finds it.

published() { # NODE_PORT: the address that kind leads to it, nothing where its configuration was another
    docker port "$CLUSTER-control-plane" "$1/tcp" 2> /dev/null | sed -n 1p || true
}

url() { # NODE_PORT LOCAL_PORT
    local address
    address=$(published "$1")
    echo "http://${address:-127.0.0.1:$2}"
}

link() { # TITLE NAMESPACE SERVICE PORT NODE_PORT LOCAL_PORT
    local forward=
    [[ -n $(published "$5") ]] || forward="  after: kubectl --context $CONTEXT -n $2 port-forward service/$3 $6:$4"
    printf '%-19s %s%s\n' "$1" "$(url "$5" "$6")" "$forward"
}

links() {
    echo
    link "Kubeflow Pipelines" kubeflow ml-pipeline-ui 80 30088 8888
    link "Grafana" offers grafana 3000 30030 3000
    link "Prometheus" offers prometheus 9090 30090 9090
    link "ranking API" offers ranker-node-port 80 30080 8080
}

case "${1:-}:$#" in
    up:1 | platform:1 | deploy:1 | status:1 | rollback:1 | down:1 | images:1) ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0" >&2
        exit 2
        ;;
esac
TAG=$(commit)
preflight "$1"
case $1 in
    up)
        cluster
        images
        load
        platform
        base
        links
        printf "\nThe ranking API answers once a release is served: 'make deploy' trains and serves the first.\n"
        ;;
    deploy)
        load
        base
        ledger
        serve
        follower
        ask
        ;;
    down)
        step "delete cluster $CLUSTER"
        kind delete cluster --name "$CLUSTER"
        ;;
    status) own status ;;
    rollback) own rollback --key "$ADMIN" ;;
    *) "$1" ;;
esac

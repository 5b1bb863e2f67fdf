# shellcheck shell=bash
# How Offers stands on a cluster: a line for each part, and below one that is not well what to do.

# Of jsonpath: the condition of that name, as far as its closing brace, and how many there are of how many wanted.
READY='{.status.conditions[?(@.type=="Ready")]'
COUNTS='{.spec.replicas} {.status.availableReplicas}'
# Of the deployment: the bundle that its controller has told it.
TOLD='{.spec.template.metadata.annotations.internal\.serving\.kserve\.io/storage-initializer-sourceuri}'
WRONG=0
line() { printf '%-9s %s\n' "$1" "$2"; }
wrong() { WRONG=2; printf '%-9s %s\n' "" "-> $*"; }

nodes() {
    local found name ready all=0 away=
    found=$(kubectl get nodes -o "jsonpath={range .items[*]}{.metadata.name} $READY.status}{'\n'}{end}")
    while read -r name ready; do
        [[ -n $name ]] || continue
        all=$((all + 1))
        [[ $ready == True ]] || away+=" $name"
    done <<< "$found"
    if [[ -z $away ]]; then
        line nodes "$all ready"
    else
        line nodes "of $all not ready:$away"
        wrong "'kubectl --context $CONTEXT describe node$away' says why"
    fi
}

parts() {
    local found namespace name wanted available all=0 away=
    found=$(kubectl get deployments --all-namespaces -o \
        "jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name} $COUNTS{'\n'}{end}")
    for namespace in cert-manager kserve kubeflow; do
        [[ $'\n'$found == *$'\n'"$namespace "* ]] || away+=" $namespace"
    done
    if [[ -n $away ]]; then
        line platform "not installed:$away"
        wrong "'make platform' installs it"
        return
    fi
    while read -r namespace name wanted available; do
        [[ $namespace =~ ^(cert-manager|kserve|kubeflow)$ ]] || continue
        all=$((all + 1))
        ((${available:-0} >= wanted)) || away+=" $namespace/$name"
    done <<< "$found"
    if [[ -z $away ]]; then
        line platform "$all deployments available"
    else
        line platform "of $all deployments not available:$away"
        wrong "they may be starting; 'kubectl --context $CONTEXT get pods -A' shows those that fail"
    fi
}

serving() {
    local found uri ready message
    found=$(service "|{.spec.predictor.model.storageUri}|$READY.status}|$READY.message}" 2> /dev/null) || found=
    if [[ -z $found ]]; then
        line service "there is no InferenceService offers/offers"
        wrong "'make deploy' makes it"
        return
    fi
    IFS='|' read -r _ uri ready message <<< "$found"
    if [[ -z $uri ]]; then
        line service "waits for its first bundle"
        line bundle "none"
        wrong "'make deploy' trains one and deploys it"
        return
    fi
    if [[ $ready == True ]]; then line service "ready"; else line service "not ready${message:+: $message}"; fi
    bundle "$uri" "$ready"
}

# A line for each pod, and for each container of it that does not run: its name, the reason, and its last words as a
# quoted text.
COMPLAINTS='{{define "words"}}{{with .message}}{{printf "%q" .}}{{end}}{{end}}{{define "why"}}{{if not .ready}}{{.name}} {{
with .state.running}}Running{{end}}{{with .state.waiting}}{{.reason}}{{end}}{{with .state.terminated}}{{.reason}}{{end}} {{
with .state.waiting}}{{if ne .reason "CrashLoopBackOff"}}{{template "words" .}}{{end}}{{end}}{{
with .lastState.terminated}}{{template "words" .}}{{end}}{{with .state.terminated}}{{template "words" .}}{{end}}
{{end}}{{end}}{{range .items}}pod {{.metadata.name}}
{{range .status.conditions}}{{if and (eq .type "PodScheduled") (eq .status "False")}}scheduler {{.reason}} {{template "words" .}}
{{end}}{{end}}{{range .status.initContainerStatuses}}{{template "why" .}}{{end}}{{
range .status.containerStatuses}}{{template "why" .}}{{end}}{{end}}'

complaint() { # NAMESPACE SELECTION: the first thing that keeps a pod from running: POD CONTAINER REASON LAST-WORDS
    local namespace=$1 found pod=- container reason words
    found=$(kubectl -n "$namespace" get pods "${@:2}" -o "go-template=$COMPLAINTS")
    while read -r container reason words; do
        case $container:$reason in
            pod:*) pod=$reason && continue ;;
            :* | *:Running | *:PodInitializing | *:ContainerCreating) continue ;;
        esac
        words=${words%\"} words=${words%\\n} words=${words##*\\n} words=${words#\"}
        [[ -n $words ]] || words=$(kubectl -n "$namespace" logs "$pod" -c "$container" --tail=1)
        echo "$pod $container $reason ${words//\\\"/\"}"
        return
    done <<< "$found"
}

rolled() { # URI: whether every pod of the service has it, and none that has another is left
    local found told wanted all updated available
    found=$(kubectl -n offers get deployment offers-predictor --ignore-not-found -o \
        "jsonpath=$TOLD|{.spec.replicas}|{.status.replicas}|{.status.updatedReplicas}|{.status.availableReplicas}")
    IFS='|' read -r told wanted all updated available <<< "$found"
    [[ $told == "$1" && $all == "$wanted" && $updated == "$wanted" && $available == "$wanted" ]]
}

refusal() { # why no further pod of the service may be made, nothing where it may
    kubectl -n offers get deployment offers-predictor --ignore-not-found \
        -o 'jsonpath={.status.conditions[?(@.type=="ReplicaFailure")].message}'
}

refused() { # MESSAGE
    case $1 in
        *PodSecurity*storage-initializer*)
            wrong "KServe's storage-initializer keeps rights that the namespace refuses: 'make platform' takes them;" \
                "for a KServe of another hand manifests/platform/README.md has the line" ;;
        *PodSecurity*)
            wrong "a container keeps rights that the namespace refuses: set in its securityContext what the" \
                "message names" ;;
        *"exceeded quota"*)
            wrong "pods that end count until they have ended, so ask again in a minute; where it stays, raise" \
                "ResourceQuota offers/namespace in your overlay" ;;
        *) wrong "'kubectl --context $CONTEXT -n offers get events' says more" ;;
    esac
}

bundle() { # URI READY
    local message pod container reason words
    message=$(refusal)
    if [[ -n $message ]]; then
        line bundle "${1##*/} can't be served: $message"
        refused "$message"
        return
    fi
    read -r pod container reason words <<< "$(complaint offers -l serving.kserve.io/inferenceservice=offers)"
    if [[ -n $reason ]]; then
        line bundle "${1##*/} can't be served: $container, $reason: $words"
    elif [[ $2 == True ]] && rolled "$1"; then
        line bundle "${1##*/} is served"
        return
    else
        line bundle "${1##*/} is on its way"
    fi
    case $container:$reason:$words in
        ::) wrong "wait, and ask again" ;;
        storage-initializer:*:*[Ff]orbidden* | storage-initializer:*:*Access*Denied* | \
            storage-initializer:*:*InvalidAccessKeyId* | storage-initializer:*:*SignatureDoesNotMatch*)
            wrong "the object store refuses the credentials in Secret offers/object-store:" \
                "'make deploy' writes them anew" ;;
        storage-initializer:*:*"No model found"* | storage-initializer:*:*NoSuch* | storage-initializer:*:*\(404\)*)
            wrong "there is no bundle at $1: 'offers deploy s3://offers/bundles/NAME' takes another," \
                "'offers rollback' the former" ;;
        *:ImagePullBackOff:* | *:ErrImagePull:*) wrong "the image is not on the nodes: 'make deploy' loads it" ;;
        scheduler:*) wrong "no node has room for the pod: give docker more CPUs and memory" ;;
        *) wrong "'kubectl --context $CONTEXT -n offers logs $pod -c $container' says more;" \
            "docs/operations.md says what to do, under OffersDown" ;;
    esac
}

trigger() {
    local found wanted available
    found=$(kubectl -n offers get deployment retraining-trigger --ignore-not-found \
        -o "jsonpath=$COUNTS")
    read -r wanted available <<< "$found"
    if [[ -z $wanted ]]; then
        line trigger "there is no deployment offers/retraining-trigger"
        wrong "'make deploy' makes it"
    elif ((${available:-0} < wanted)); then
        line trigger "not available"
        wrong "'kubectl --context $CONTEXT -n offers logs deployment/retraining-trigger' says why"
    else
        line trigger "available"
    fi
}

status() {
    nodes
    parts
    serving
    trigger
    exit "$WRONG"
}

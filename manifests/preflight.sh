# shellcheck shell=bash
# What a command of cluster.sh needs, looked at before it touches anything: all that is missing, a sentence each.

MEMORY=7680 # MiB: a machine of 8 GiB, less what its kernel keeps
CPUS=4
DISK=30 # GiB: our images in the engine and on both nodes, and those of the platform
WATCHERS=512
ENGINE=
PROBLEMS=()

problem() { PROBLEMS+=("$*"); }

program() { # NAME WHY
    here "$1" || problem "$1 is not installed: $2"
}

recent() { # NAME LEAST WORDS, what it says of itself, with its version in them as vMAJOR.MINOR
    here "$1" || return 0
    if ! [[ $3 =~ v([0-9]+)\.([0-9]+) ]]; then
        problem "$1 $2 or newer is needed, and the one that is installed tells no version: install it anew"
    elif ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] < ${2%.*} * 1000 + ${2#*.})); then
        problem "$1 $2 or newer is needed, and ${BASH_REMATCH[0]} is installed: take a newer one"
    fi
}

config() { # one's own, which git does not see, or the one of this commit
    if [[ -f kind-config.local.yaml ]]; then echo kind-config.local.yaml; else echo kind-config.yaml; fi
}

engine() { # asks docker for its memory, its CPUs, their kind and its directory
    program docker "kind runs its nodes in it, see https://docs.docker.com/get-docker/"
    here docker || return 0
    # Without an engine the client answers with zeros, and exit code 0.
    ENGINE=$(docker info --format '{{.MemTotal}} {{.NCPU}} {{.Architecture}} {{.DockerRootDir}}' 2> /dev/null |
        grep '^[1-9]') ||
        problem "the docker engine does not answer 'docker info': start it, or name another in DOCKER_HOST"
}

room() {
    local memory cpus kind root free least=$DISK watchers
    read -r memory cpus kind root <<< "$ENGINE"
    memory=$((memory >> 20))
    [[ $kind =~ ^(x86_64|amd64)$ ]] ||
        problem "docker runs on $kind, and Kubeflow Pipelines has all of its images for x86_64 alone:" \
            "take an x86_64 machine, or run without a cluster: 'make demo'"
    ((cpus >= CPUS)) || problem "docker has $cpus CPUs, and Kubeflow Pipelines beside Offers needs $CPUS: give it more"
    ((memory >= MEMORY)) ||
        problem "docker has $memory MiB of memory, and Kubeflow Pipelines beside Offers needs $MEMORY: give it more"
    # Docker Desktop keeps its directory in a virtual machine, whose disk is a file on this one.
    [[ -d $root ]] || root=.
    if exists; then least=5; fi
    free=$(df -Pk "$root" | awk 'NR == 2 {print int($4 / 1048576)}')
    ((free >= least)) ||
        problem "the disk of $root has $free GiB free, and images need $least: 'docker system prune' frees some"
    # Linux alone has this limit; both nodes share what root may have.
    watchers=$(sysctl -n fs.inotify.max_user_instances 2> /dev/null) || return 0
    ((watchers >= WATCHERS)) ||
        problem "a user may have $watchers inotify instances, and the pods of two nodes need $WATCHERS:" \
            "sudo sysctl fs.inotify.max_user_instances=$WATCHERS fs.inotify.max_user_watches=524288"
}

ports() {
    local port
    while read -r port; do
        if (: <> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
            problem "port $port of 127.0.0.1 is taken: stop what listens there, or copy kind-config.yaml to" \
                "kind-config.local.yaml and change it there"
        fi
    done < <(sed -n 's/.*hostPort: \([0-9]*\).*/\1/p' "$(config)")
}

answers() { # REMEDY
    local said
    here kubectl || return 0
    said=$(kubectl get --raw=/readyz --request-timeout=10s 2>&1) ||
        problem "no cluster answers as context $CONTEXT (${said##*$'\n'}): $1"
}

definitions() {
    local found
    found=$(kubectl get --ignore-not-found -o name \
        crd inferenceservices.serving.kserve.io workflows.argoproj.io 2> /dev/null) || return 0
    [[ $found == *inferenceservices* ]] || problem "the cluster has no KServe: 'make platform' installs it"
    [[ $found == *workflows* ]] || problem "the cluster has no Kubeflow Pipelines: 'make platform' installs them"
}

installed() { # our own command, on this machine
    [[ -x .venv/bin/offers ]] || problem ".venv/bin/offers is not there: 'make setup' installs it"
}

built() { # NAME: whether there is this image, of this very commit
    docker image inspect "$1:$TAG" > /dev/null 2>&1
}

all_built() {
    local image missing=
    for image in "${IMAGES[@]}"; do
        built "${image%%:*}" || missing+=" ${image%%:*}"
    done
    [[ -z $missing ]] || problem "no image of tag $TAG for$missing: 'make images' builds them"
}

preflight() { # COMMAND
    local none="'make up' makes one; OFFERS_CLUSTER names another of kind's, OFFERS_CONTEXT any other context"
    local stopped="kind's cluster $CLUSTER has stopped, or kubectl does not know it: 'docker start' its nodes, which"
    stopped+=" 'kind get nodes --name $CLUSTER' lists, or 'kind export kubeconfig --name $CLUSTER'"
    case $1 in
        up)
            of_kind || problem "OFFERS_CONTEXT names $CONTEXT, which is there: 'make platform', then 'make deploy'"
            engine
            [[ -z $ENGINE ]] || room
            program kind "see https://kind.sigs.k8s.io/docs/user/quick-start/#installation"
            recent kind 0.30 "$(kind version 2> /dev/null)"
            if here kind && exists; then answers "$stopped"; else ports; fi
            ;;
        platform) answers "$none" ;;
        status | rollback)
            answers "$none"
            installed
            ;;
        deploy)
            answers "$none"
            ((${#PROBLEMS[@]})) || definitions
            if of_kind; then
                engine
                [[ -z $ENGINE ]] || all_built
                program kind "it loads the images, see https://kind.sigs.k8s.io/docs/user/quick-start/#installation"
                recent kind 0.30 "$(kind version 2> /dev/null)"
            fi
            program curl "it asks the ranking API"
            installed
            ;;
        down)
            of_kind || problem "OFFERS_CONTEXT names $CONTEXT, which kind did not make: delete it by its own means"
            program kind "nothing else deletes its clusters"
            ;;
        images) engine ;;
    esac
    if [[ $1 != down && $1 != images ]]; then
        program kubectl "see https://kubernetes.io/docs/tasks/tools/"
        recent kubectl 1.31 "$(kubectl version --client -o json 2> /dev/null)"
    fi
    [[ $1 != up && $1 != platform ]] || program git "kubectl fetches Kubeflow's manifests with it"
    if ((${#PROBLEMS[@]})); then
        printf "offers: %s\n" "${PROBLEMS[@]}" >&2
        printf "Nothing was touched.\n" >&2
        exit 2
    fi
}

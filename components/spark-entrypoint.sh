#!/bin/sh
# Spark on Kubernetes starts each pod with a word for what it is to be, and says the rest in variables.
set -eu
role=${1:-}
[ $# -eq 0 ] || shift
case $role in
driver)
    exec spark-submit --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" --deploy-mode client "$@"
    ;;
executor)
    options=$(env | sed -n 's/^SPARK_JAVA_OPT_[0-9]*=//p')
    # Each option is a word: Spark writes them so that none has a space.
    # shellcheck disable=SC2086
    exec java $options "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
        -cp "${SPARK_CONF_DIR:-}:$SPARK_HOME/jars/*" \
        org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
        --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
        --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
        --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
    ;;
*)
    echo "offers: stopped: expected driver or executor, got '$role'" >&2
    exit 2
    ;;
esac

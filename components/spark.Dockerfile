# Driver and executors of the pipeline score-spark. From the root of the repository:
#   docker build -f components/spark.Dockerfile --build-arg GIT_COMMIT=$(git rev-parse HEAD) -t offers-spark:TAG .
# Another package index, if need be: --build-arg PIP_INDEX_URL=https://… ; it stays out of the image.
# By digest, so that the same commit gives the same image; docs/security.md says how to renew it.
ARG BASE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

FROM ${BASE} AS build
ARG PIP_INDEX_URL
WORKDIR /src
COPY serving/build-requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r build-requirements.txt
COPY pyproject.toml uv.lock ./
# LightGBM wants the system's OpenMP runtime, which the base lacks, and gets XGBoost's.
# The locked set without serving's framework, and without duckdb, graphviz and plotly, which no step uses. kfp-server-api
# has no wheel, so one is built of its hash-checked source.
RUN uv export --quiet --frozen --no-dev --no-emit-project --extra spark --format requirements-txt \
        --output-file requirements.txt \
        --prune kserve --prune duckdb --prune graphviz --prune plotly \
    && pip wheel --quiet --no-cache-dir --no-deps --require-hashes --no-build-isolation --use-pep517 \
        --wheel-dir /wheels -r requirements.txt \
    && python3 -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --quiet --no-index --no-deps /wheels/*.whl \
    && ln -s /opt/venv/lib/python3.11/site-packages/xgboost_cpu.libs/libgomp-*.so.* /opt/venv/lib/libgomp.so.1
COPY README.md LICENSE ./
COPY offers offers
COPY deployment deployment
COPY components components
COPY pipelines pipelines
COPY serving serving
COPY cli cli
COPY components/spark-entrypoint.sh ./
RUN pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir /own . \
    && pip --python /opt/venv/bin/python install --quiet --no-index --no-deps /own/*.whl \
    && install -m 755 spark-entrypoint.sh /opt/venv/bin/spark-entrypoint.sh

# The base with Java, and without pip, package lists, manuals and set-user-id programs. Debian's default is 17 or newer.
# Hadoop's code in Spark wants a name for the user.
FROM ${BASE} AS trimmed
RUN apt-get update -qq \
    && mkdir -p /usr/share/man/man1 \
    && apt-get install -qq --no-install-recommends default-jre-headless \
    && echo "spark:x:10001:10001::/tmp:/usr/sbin/nologin" >> /etc/passwd \
    && rm -rf /root/.cache /var/cache/* /var/lib/apt/lists/* /usr/share/doc /usr/share/info /usr/share/locale /usr/share/man \
        /usr/share/python-wheels /usr/lib/python3/dist-packages/* /usr/local/lib/python3.11/site-packages/* \
        /usr/bin/pip* /usr/local/bin/pip* \
    && find / -xdev -perm /6000 -type f -exec chmod a-s {} +

FROM scratch
COPY --from=trimmed / /
COPY --from=build /opt/venv /opt/venv
ENV SPARK_HOME=/opt/venv/lib/python3.11/site-packages/pyspark
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYSPARK_PYTHON=/opt/venv/bin/python \
    PYSPARK_DRIVER_PYTHON=/opt/venv/bin/python \
    LD_LIBRARY_PATH=/opt/venv/lib \
    LANG=C.UTF-8 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp \
    OFFERS_HOME=/tmp/offers \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
ARG GIT_COMMIT=unknown
ENV OFFERS_GIT_COMMIT=${GIT_COMMIT}
LABEL org.opencontainers.image.title="offers-spark" \
      org.opencontainers.image.description="Driver and executors of Offers' scoring on Spark" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${GIT_COMMIT}"
USER 10001:10001
WORKDIR /tmp
# Pods end by themselves.
HEALTHCHECK NONE
ENTRYPOINT ["/opt/venv/bin/spark-entrypoint.sh"]

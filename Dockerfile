# One image per service: a static binary, nothing else, no root.
#
#   docker compose up --build        builds everything here, from source
#   ORCHION_BINARIES=prebuilt …      copies static binaries that lie in out/bin
#
# `cargo xtask docker` prepares out/bin and runs the stack on it.
ARG BINARIES=built

# --- built from source ------------------------------------------------------------
FROM rust:1.95-slim-bookworm AS source
WORKDIR /src
COPY . .
# Not even the C library is taken from the system. Naming the target keeps the
# flag away from build scripts and macros.
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    host=$(rustc -vV | sed -n 's/^host: //p') && \
    cargo build --locked --profile dist --target "$host" --bins \
        -p orchion -p orchion-registry -p orchion-scheduler -p orchion-gateway \
        -p orchion-log-sink -p orchion-node-agent -p orchion-engine && \
    mkdir -p /out/empty && \
    for name in orchion orchion-registry orchion-scheduler orchion-gateway \
        orchion-log-sink orchion-node-agent orchion-engine; do \
        cp "target/$host/dist/$name" /out/; \
    done

FROM scratch AS built
COPY --from=source /out/ /

# --- built outside -----------------------------------------------------------------
FROM scratch AS prebuilt
COPY out/bin/ /

FROM ${BINARIES} AS binaries

# --- one image per service ---------------------------------------------------------
FROM scratch AS base
USER 65532:65532

FROM base AS setup
COPY --from=binaries /orchion /usr/local/bin/orchion
# A new volume takes over the owner of the folder that it covers.
COPY --from=binaries --chown=65532:65532 /empty /credentials
COPY --from=binaries --chown=65532:65532 /empty /agent-credentials
ENTRYPOINT ["orchion"]

FROM base AS registry
COPY --from=binaries /orchion-registry /usr/local/bin/orchion-registry
ENTRYPOINT ["orchion-registry"]

FROM base AS scheduler
COPY --from=binaries /orchion-scheduler /usr/local/bin/orchion-scheduler
ENTRYPOINT ["orchion-scheduler"]

FROM base AS gateway
COPY --from=binaries /orchion-gateway /usr/local/bin/orchion-gateway
EXPOSE 8080
ENTRYPOINT ["orchion-gateway"]

FROM base AS log-sink
COPY --from=binaries /orchion-log-sink /usr/local/bin/orchion-log-sink
COPY --from=binaries --chown=65532:65532 /empty /data
ENTRYPOINT ["orchion-log-sink"]

FROM base AS node-agent
COPY --from=binaries /orchion-node-agent /usr/local/bin/orchion-node-agent
COPY --from=binaries /orchion-engine /usr/local/bin/orchion-engine
COPY --from=binaries --chown=65532:65532 /empty /data
COPY --from=binaries --chown=65532:65532 /empty /tmp
# Anonymous, so that each container of a scaled service is a node of its own.
VOLUME /data
ENTRYPOINT ["orchion-node-agent"]

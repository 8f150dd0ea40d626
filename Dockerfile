# The builder has the compiler, cmake and every source; only the finished binary leaves it.
FROM rust:1.95-bookworm AS build

# cmake builds zlib-ng, which Pingora and the decoding of upstream bodies use. Nothing else is missing from the base image.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin wellspring


FROM debian:bookworm-slim

LABEL org.opencontainers.image.title="wellspring" \
      org.opencontainers.image.description="A gateway that turns polling into push: REST and Redis in, Server-Sent Events out" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

# The system's certificate authorities verify https:// upstreams and rediss:// servers. The user
# has no home, no shell and no password; its number is fixed, so that a mounted secret can be
# given to it by `chown 10001`.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 10001 wellspring \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
               --shell /usr/sbin/nologin wellspring

COPY --from=build /src/target/release/wellspring /usr/local/bin/wellspring
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/wellspring/
# An example to read, under another name than the real one: without a mounted configuration
# `run` stops with exit code 78 and says which files it looked for.
COPY config/wellspring.yaml /etc/wellspring/wellspring.example.yaml

# A number and not the name: Kubernetes' `runAsNonRoot` cannot look up names.
USER 10001:10001

# 8080 serves clients; 9090 is the place of the admin listener.
EXPOSE 8080 9090

# Needs no shell. With `admin: off` there is nobody to ask: switch the check off as well.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["wellspring", "health"]

# SIGTERM drains: streams end spread over the drain window, and the exit code is 0.
STOPSIGNAL SIGTERM

ENTRYPOINT ["wellspring"]
CMD ["run"]

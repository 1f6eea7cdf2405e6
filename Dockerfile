# An image that contains only the binary: no shell and no package manager. It does not run as root.
#
#   docker build -t fanfare .
#   docker run -p 8080:8080 -v ./fanfare.toml:/etc/fanfare/fanfare.toml:ro --stop-timeout 20 fanfare
#
# To try it: docker run -p 127.0.0.1:8080:8080 fanfare dev
# There is no HEALTHCHECK. Let the container runtime request GET /healthz from outside: that also tests the network.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# The image's own toolchain: rust-toolchain.toml would also fetch what only development needs.
ENV RUSTUP_TOOLCHAIN=1.95
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release -p fanfare-cli && cp target/release/fanfare /fanfare

# This base has glibc and libgcc, which the binary needs. `nonroot` is the user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /fanfare /usr/local/bin/fanfare
# The default, loopback, cannot be reached from outside a container. A variable overrides the file: to listen elsewhere,
# set this one. /metrics and /readyz stay on the container's loopback, 127.0.0.1:8081. To probe or scrape from outside,
# set FANFARE__ADMIN__LISTEN=0.0.0.0:8081, and do not publish that port to strangers.
ENV FANFARE__LISTEN=0.0.0.0:8080
# A container is reached only through the ports that you publish: keep them from strangers, or put a proxy in front that
# speaks TLS. So the image accepts these two dangers; docs/security.md lists all. This overrides the file too.
ENV FANFARE__ALLOW_INSECURE=plaintext,public_admin
EXPOSE 8080
# On SIGTERM, Docker's default signal, the server first tells its clients to come back. That takes at most 10 s after
# `shutdown_delay`, so allow more time than Docker's default of 10 s.
ENTRYPOINT ["/usr/local/bin/fanfare"]
CMD ["serve", "--config", "/etc/fanfare/fanfare.toml"]

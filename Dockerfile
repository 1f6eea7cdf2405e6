# An image with the binary and nothing else: no shell, no package manager, no root.
#
#   docker build -t fanfare .
#   docker run -p 8080:8080 -v ./fanfare.toml:/etc/fanfare/fanfare.toml:ro --stop-timeout 20 fanfare
#
# To try things: docker run -p 127.0.0.1:8080:8080 fanfare dev
# There is no HEALTHCHECK: the runtime of the containers asks GET /healthz from outside, which says more.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# The image's own toolchain: rust-toolchain.toml would also fetch what only development needs.
ENV RUSTUP_TOOLCHAIN=1.95
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release -p fanfare-cli && cp target/release/fanfare /fanfare

# glibc and libgcc, as the binary is linked to them; `nonroot` is the user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /fanfare /usr/local/bin/fanfare
# A container's loopback reaches nobody. (A variable stands above the file: to listen elsewhere, set this one.)
# /metrics and /readyz stay on the container's loopback, 127.0.0.1:8081: to probe or scrape from outside, set
# FANFARE__ADMIN__LISTEN=0.0.0.0:8081 and do not publish that port to strangers.
ENV FANFARE__LISTEN=0.0.0.0:8080
EXPOSE 8080
# SIGTERM, which is the default, sends its clients away first. That takes 10 s at most, and `shutdown_delay` more: give it
# more time to stop than Docker's 10 s.
ENTRYPOINT ["/usr/local/bin/fanfare"]
CMD ["serve", "--config", "/etc/fanfare/fanfare.toml"]

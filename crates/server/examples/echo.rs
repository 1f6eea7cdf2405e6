//! The smallest protocol: every message comes back. `cargo run --release --example echo 127.0.0.1:9001`
//!
//! Messages of up to 16 MiB, for the Autobahn test suite.

use fanfare::{Config, Echo, Fanfare, ServeError};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), ServeError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let mut config = Config { shards: 1, ..Config::open() };
    config.limits.outbox_bytes_max = 64 << 20; // a message of 16 MiB and its echo
    let server =
        Fanfare::builder(()).config(config).protocol("/", Echo::default().message_bytes_max(16 << 20)).build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| ServeError::System { what: "runtime", source })?;
    eprintln!("listening on http://{address}");
    runtime.block_on(server.serve(&address))
}

//! HTTP requests: their checks and their routes.
//!
//! `forwarded` finds the client behind trusted proxies, `gate` checks target, host and origin, `cors` tells pages what
//! they may read, `routes` leads a request to an upgrade, the API or a page, `pages` runs the embedder's router, `gzip`
//! compresses answers, `streams` decodes requests for streams, `exchanges` polls and sends, and `engine` polls of
//! Engine.IO. `token` finds the token that a request carries. `address` tells a client its own address. `fuzz` takes
//! these steps with any bytes. The connections belong to `shard::http` or to another server.

pub(crate) mod address;
pub(crate) mod cors;
pub(crate) mod engine;
pub(crate) mod exchanges;
pub(crate) mod forwarded;
pub(crate) mod fuzz;
pub(crate) mod gate;
pub(crate) mod gzip;
pub(crate) mod pages;
pub(crate) mod routes;
pub(crate) mod streams;
mod token;

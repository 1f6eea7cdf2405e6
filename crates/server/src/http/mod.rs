//! HTTP requests: which are taken in, and where they lead.
//!
//! `gate` judges where a request wants to go, `routes` brings it to an upgrade, the API or a page, `pages` runs the
//! embedder's router. Nothing here owns a connection: `shard::http` does, or another server.

pub(crate) mod gate;
pub(crate) mod pages;
pub(crate) mod routes;

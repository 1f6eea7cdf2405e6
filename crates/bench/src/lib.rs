//! Measures Fanfare beside named peers and a floor.
//!
//! In: programs to start. Out: a table of medians and quartiles, and a verdict on each target. Every server runs on one
//! core and the load generator on another. Rounds alternate between the servers, so that a slow minute of the machine
//! affects all of them. Every delivery is checked for order, count and content. This crate's README has the exact
//! comparison.
//!
//! - [`server`]: a process, its CPU time and memory · [`peers`]: which programs · [`floor`]: the cheapest of them
//! - [`load`]: sockets, frames, checks · [`suite`]: the measurements · [`stats`], [`report`]: their results

pub mod floor;
pub mod load;
pub mod peers;
pub mod report;
pub mod server;
pub mod stats;
pub mod suite;

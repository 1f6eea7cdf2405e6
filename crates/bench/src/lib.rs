//! Measures Fanfare beside named peers and a floor.
//!
//! In: programs to start. Out: a table of medians and quartiles, and whether each target was held. Every server runs
//! on one core and the load generator on another; rounds alternate between the servers, so that a slow minute of the
//! machine hits all of them; every delivery is checked for order, count and content. The exact comparison: this
//! crate's README.
//!
//! - [`server`]: a process, its CPU time and memory · [`peers`]: which programs · [`floor`]: the cheapest of them
//! - [`load`]: sockets, frames, checks · [`suite`]: what is done with them · [`stats`], [`report`]: what comes of it

pub mod floor;
pub mod load;
pub mod peers;
pub mod report;
pub mod server;
pub mod stats;
pub mod suite;

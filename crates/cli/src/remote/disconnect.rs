//! `fanfare disconnect`: sends a client, or all clients of a user, away.

use super::api::Api;
use super::{Key, Server, lines};
use crate::failure::Failure;
use serde::Serialize;

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("whom").required(true).args(["user", "client"])))]
pub(crate) struct Args {
    /// All clients of this user
    #[arg(long)]
    user: Option<String>,
    /// The client with this public id
    #[arg(long)]
    client: Option<String>,
    /// Why, as the client is told; only after `overloaded` it comes back
    #[arg(long, value_name = "WORD", value_parser = ["kicked", "unauthorized", "abuse", "overloaded"], default_value = "kicked")]
    reason: String,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

#[derive(Serialize)]
struct DisconnectRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    reason: String,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    super::block_on(async {
        let mut api = Api::new(args.server, args.api_key)?;
        let request = DisconnectRequest { user: args.user, client: args.client, reason: args.reason };
        let body = serde_json::to_vec(&request)
            .map_err(|error| Failure::ours(format!("the request cannot be written as JSON: {error}")))?;
        let answer = api.call("disconnect", body, "sessions").await?;
        lines::print(&answer).map(drop)
    })
}

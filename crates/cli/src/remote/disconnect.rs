//! `fanfare disconnect`, `reconnect`, `unban` and `bans`: sends a client, or all clients of a user or with a label,
//! away, and keeps them away for a time if that is asked for; or has them connect again.

use super::api::Api;
use super::{Key, Server, lines};
use crate::failure::Failure;
use crate::output::Reader;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most bans that one answer of the server has.
const SHOWN_MAX: u32 = 1000;

/// The clients that a command is about, by one of three ways to name them.
#[derive(clap::Args, Serialize)]
#[group(id = "whom", required = true, multiple = false)]
struct Whom {
    /// All clients of this user
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The client with this public id
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// All clients with this label
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    whom: Whom,
    /// Why, as the client is told; only after `overloaded` it comes back
    #[arg(long, value_name = "WORD", value_parser = ["kicked", "unauthorized", "abuse", "overloaded"], default_value = "kicked")]
    reason: String,
    /// Refuses them for so long: 30m, 1h, 7d. It is over when the server restarts
    #[arg(long, value_name = "TIME", conflicts_with = "label")]
    ban: Option<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

#[derive(Serialize)]
struct DisconnectRequest {
    #[serde(flatten)]
    whom: Whom,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ban: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct ReconnectArgs {
    #[command(flatten)]
    whom: Whom,
    /// The time over which they are spread, up to 1h: each is closed at a random moment of it [default: 10s; one client
    /// at once]
    #[arg(long, value_name = "TIME")]
    spread: Option<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

#[derive(Serialize)]
struct ReconnectRequest {
    #[serde(flatten)]
    whom: Whom,
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<String>,
}

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("whom").required(true).args(["user", "client"])))]
pub(crate) struct UnbanArgs {
    /// This user
    #[arg(long)]
    user: Option<String>,
    /// The client with this public id
    #[arg(long)]
    client: Option<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("whom").args(["user", "client"])))]
pub(crate) struct BansArgs {
    /// Only the ban of this user
    #[arg(long)]
    user: Option<String>,
    /// Only the ban of this client
    #[arg(long)]
    client: Option<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

/// The body of `unban` and `bans`.
#[derive(Serialize)]
struct BanRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
}

#[derive(Deserialize)]
struct Bans<'a> {
    #[serde(borrow)]
    bans: Vec<&'a RawValue>,
    #[serde(default)]
    more: bool,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    super::block_on(async {
        let mut api = Api::new(args.server, args.api_key)?;
        let Args { whom, reason, ban, .. } = args;
        let body = body(&DisconnectRequest { whom, reason, ban })?;
        let answer = api.call("disconnect", body, "sessions").await?;
        lines::print(&answer).map(drop)
    })
}

pub(crate) fn reconnect(args: ReconnectArgs) -> Result<(), Failure> {
    super::block_on(async {
        let mut api = Api::new(args.server, args.api_key)?;
        let ReconnectArgs { whom, spread, .. } = args;
        let answer = api.call("reconnect", body(&ReconnectRequest { whom, spread })?, "sessions").await?;
        lines::print(&answer).map(drop)
    })
}

pub(crate) fn unban(args: UnbanArgs) -> Result<(), Failure> {
    super::block_on(async {
        let mut api = Api::new(args.server, args.api_key)?;
        let body = body(&BanRequest { user: args.user, client: args.client, limit: None })?;
        let answer = api.call("unban", body, "was_banned").await?;
        lines::print(&answer).map(drop)
    })
}

pub(crate) fn bans(args: BansArgs) -> Result<(), Failure> {
    super::block_on(async {
        let mut api = Api::new(args.server, args.api_key)?;
        let body = body(&BanRequest { user: args.user, client: args.client, limit: Some(SHOWN_MAX) })?;
        let answer = api.call("bans", body, "bans").await?;
        let foreign = |error| Failure::ours(format!("the server's answer is not a list of bans: {error}"));
        let Bans { bans, more } = serde_json::from_str(&answer).map_err(foreign)?;
        for ban in bans {
            if lines::print(ban.get())? == Reader::Gone {
                return Ok(());
            }
        }
        match more {
            true => {
                Err(Failure::ours(format!("there are more than {SHOWN_MAX} bans; ask for one with --user or --client")))
            }
            false => Ok(()),
        }
    })
}

fn body(request: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(request)
        .map_err(|error| Failure::ours(format!("the request cannot be written as JSON: {error}")))
}

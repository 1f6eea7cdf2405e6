//! `fanfare connections`, `users` and `user-status`: who is connected, page by page, a JSON line each.

use super::api::Api;
use super::{Key, Server, lines};
use crate::failure::Failure;
use crate::output::Reader;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most that a page may have.
const PAGE: u32 = 1000;

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("among").args(["user", "client", "label", "channel"])))]
pub(crate) struct ConnectionsArgs {
    /// Only clients of this user
    #[arg(long)]
    user: Option<String>,
    /// Only the client with this public id
    #[arg(long)]
    client: Option<String>,
    /// Only sessions with this label
    #[arg(long)]
    label: Option<String>,
    /// Only subscribers of this channel
    #[arg(long)]
    channel: Option<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

#[derive(clap::Args)]
pub(crate) struct UsersArgs {
    /// Only users with a client that is subscribed to this channel
    #[arg(long)]
    channel: Option<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    /// The users, at most 1,000
    #[arg(value_name = "USER", required = true)]
    users: Vec<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

/// The body of `connections` and `users`.
#[derive(Serialize, Default)]
struct PageRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    limit: u32,
}

#[derive(Serialize)]
struct StatusRequest {
    users: Vec<String>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, alias = "connections", alias = "users")]
    list: Vec<&'a RawValue>,
    cursor: Option<String>,
}

pub(crate) fn connections(args: ConnectionsArgs) -> Result<(), Failure> {
    let ConnectionsArgs { user, client, label, channel, server, api_key } = args;
    let request = PageRequest { user, client, label, channel, cursor: None, limit: PAGE };
    super::block_on(pages(Api::new(server, api_key)?, "connections", request))
}

pub(crate) fn users(args: UsersArgs) -> Result<(), Failure> {
    let request = PageRequest { channel: args.channel, limit: PAGE, ..PageRequest::default() };
    super::block_on(pages(Api::new(args.server, args.api_key)?, "users", request))
}

pub(crate) fn status(args: StatusArgs) -> Result<(), Failure> {
    super::block_on(async {
        let mut api = Api::new(args.server, args.api_key)?;
        let answer = api.call("user_status", body(&StatusRequest { users: args.users })?, "users").await?;
        print(&page(&answer)?).map(drop)
    })
}

/// Prints all pages of a list.
async fn pages(mut api: Api, command: &'static str, mut request: PageRequest) -> Result<(), Failure> {
    loop {
        let answer = api.call(command, body(&request)?, command).await?;
        let page = page(&answer)?;
        if print(&page)? == Reader::Gone || page.cursor.is_none() {
            return Ok(());
        }
        request.cursor = page.cursor;
    }
}

fn page(answer: &str) -> Result<Page<'_>, Failure> {
    serde_json::from_str(answer)
        .map_err(|error| Failure::ours(format!("the server's answer is not a page of a list: {error}")))
}

fn print(page: &Page<'_>) -> Result<Reader, Failure> {
    for entry in &page.list {
        if lines::print(entry.get())? == Reader::Gone {
            return Ok(Reader::Gone);
        }
    }
    Ok(Reader::Reads)
}

fn body(request: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(request)
        .map_err(|error| Failure::ours(format!("the request cannot be written as JSON: {error}")))
}

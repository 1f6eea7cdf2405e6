//! `fanfare channels`: the channels that live on the server, page by page, a JSON line each.

use super::api::Api;
use super::lines;
use super::{Key, Server};
use crate::failure::Failure;
use crate::output::Reader;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most that a page may have.
const PAGE: u32 = 1000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only names of this pattern: `*` is one segment, `**` the rest, e.g. 'chat:*'
    #[arg(long = "match", value_name = "PATTERN")]
    pattern: Option<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

#[derive(Serialize)]
struct ChannelsRequest<'a> {
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pattern: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
    limit: u32,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    channels: Vec<&'a RawValue>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct Named {
    channel: String,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    super::block_on(async {
        let mut api = Api::new(args.server, args.api_key)?;
        let mut after: Option<String> = None;
        loop {
            let request = ChannelsRequest { pattern: args.pattern.as_deref(), after: after.as_deref(), limit: PAGE };
            let body = serde_json::to_vec(&request)
                .map_err(|error| Failure::ours(format!("the request cannot be written as JSON: {error}")))?;
            let answer = api.call("channels", body, "channels").await?;
            let foreign = |error| Failure::ours(format!("the server's answer is not a page of channels: {error}"));
            let page: Page<'_> = serde_json::from_str(&answer).map_err(foreign)?;
            for channel in &page.channels {
                if lines::print(channel.get())? == Reader::Gone {
                    return Ok(());
                }
            }
            let Some(last) = page.channels.last().filter(|_| page.more) else { return Ok(()) };
            let last: Named = serde_json::from_str(last.get()).map_err(foreign)?;
            after = Some(last.channel);
        }
    })
}

//! Asks a rule's check about data: of clients, of the application, and of handlers' answers.

use super::Cx;
use super::app::check_size;
use crate::check::{Given, PayloadOf};
use crate::error::{Error, ErrorCode};
use crate::message::{Data, Publish, Signal};
use crate::name::ChannelName;
use bytes::Bytes;

/// The author of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// A client. `is_last`: no handler is asked about it afterwards.
    Client { is_last: bool },
    /// The application, by a command.
    App,
    /// A handler that was asked about a client's publication.
    Handler,
}

/// Checks a publication, and puts the checked data in the place of its own.
pub(super) fn publication(cx: &Cx<'_>, publish: &mut Publish, author: Author) -> Result<(), Error> {
    let Publish { channel, data, event, .. } = publish;
    let is_binary = matches!(data, Data::Binary(_));
    if let Some(checked) =
        checked(cx, channel, PayloadOf::Publication, event.as_deref(), data.bytes(), is_binary, author)?
    {
        *data = Data::Json(checked);
    }
    Ok(())
}

/// The same for a signal.
pub(super) fn signal(cx: &Cx<'_>, signal: &mut Signal, author: Author) -> Result<(), Error> {
    let Signal { channel, data, event, .. } = signal;
    if let Some(checked) = checked(cx, channel, PayloadOf::Signal, Some(event), data, false, author)? {
        *data = checked;
    }
    Ok(())
}

/// What a client shows of itself: the checked data.
pub(super) fn presence(cx: &Cx<'_>, channel: &ChannelName, data: Bytes) -> Result<Bytes, Error> {
    let author = Author::Client { is_last: true };
    let Some(checked) = checked(cx, channel, PayloadOf::Presence, None, &data, false, author)? else { return Ok(data) };
    let (len, max) = (checked.len(), cx.limits.presence_bytes_max);
    if len <= max {
        return Ok(checked);
    }
    let message = format!(
        "`data` of {len} bytes, as the rule's text rules make it, exceeds the limit (presence_bytes_max) of {max}"
    );
    Err(Error::new(ErrorCode::TooLarge, message).by_limit("presence_bytes_max").on(channel))
}

fn checked(
    cx: &Cx<'_>,
    channel: &ChannelName,
    of: PayloadOf,
    event: Option<&str>,
    data: &[u8],
    is_binary: bool,
    author: Author,
) -> Result<Option<Bytes>, Error> {
    let Some(rule) = cx.rules.of(channel) else { return Ok(None) };
    let Some(check) = &rule.check else { return Ok(None) };
    let is_last = author != Author::Client { is_last: false };
    let pattern = rule.pattern.as_str();
    let checked = check.check(Given { of, event, data, is_binary, is_last }).map_err(|error| match author {
        // The client's own data was good.
        Author::Handler => {
            let message = format!("the data that the application answered with is refused: {}", error.message);
            Error { code: ErrorCode::Internal, message: message.into(), ..error }
        }
        Author::Client { .. } | Author::App => error,
    });
    let checked = checked.map_err(|error| error.on(channel).by_rule(pattern))?;
    // It may be longer now.
    if let Some(checked) = checked.as_ref().filter(|checked| checked.len() > data.len()) {
        check_size(cx, channel, checked.len())?;
        let is_clients = matches!(author, Author::Client { .. });
        if let Some(max) = rule.max_size.filter(|max| is_clients && checked.len() > *max) {
            let len = checked.len();
            let message = format!(
                "`data` of {len} bytes, as the rule's text rules make it, exceeds the limit of the rule {pattern:?} \
                 (max_size) of {max}"
            );
            return Err(Error::new(ErrorCode::TooLarge, message).on(channel).by_rule(pattern).by_option("max_size"));
        }
    }
    Ok(checked)
}

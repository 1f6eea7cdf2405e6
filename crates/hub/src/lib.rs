//! The heart of Fanfare, without input or output: sessions, channels, history, presence, signals and limits.
//!
//! In: [`Input`]s (a connection opened, sent a command, closed; a message from another shard; an answer of the store;
//! the hour has come). Out: [`Effects`] (deliver this to these connections, tell that shard, close, wake me at). A
//! [`Shard`] is a plain state machine: it reads no clock, draws no random number that does not follow from its seed,
//! and knows no socket, so that the server, the simulation and a unit test drive the very same code.
//!
//! [`Shard`] routes to two machines that only speak by messages, even where they are neighbours: the *sessions* (with
//! the edges of the channels that they follow) and the *homes* (order, history, presence of the channels that live on
//! this shard).

mod act;
mod app;
mod attachment;
mod check;
mod claims;
mod disconnect;
mod edge;
mod effects;
mod error;
mod forward;
#[doc(hidden)]
pub mod fuzz;
mod home;
mod hook;
mod identity;
mod ids;
mod inspect;
mod keys;
mod labels;
mod limits;
mod listing;
mod members;
mod memory;
mod message;
mod name;
mod names;
mod outbox;
mod page_id;
mod pattern;
mod peer;
mod placement;
mod polls;
mod quota;
mod reach;
mod reads;
mod rng;
mod rules;
mod session;
mod shard;
mod slice;
mod slots;
mod store;
mod time;
mod timer;
mod token;
mod watch;
mod wheel;

pub use act::{Act, Ask, List};
pub use app::{
    AppAnswer, AppCommand, AppToken, BANS_LIMIT_MAX, BANS_MAX, Ban, CHANNELS_MAX, ChannelInfo, NodeInfo,
    RECONNECT_SPREAD_MS_MAX, Whom,
};
pub use attachment::Attachment;
pub use check::{DataCheck, Given, PayloadOf};
pub use claims::{CLAIM_NAME_BYTES_MAX, ClaimValue};
pub use disconnect::{DISCONNECTS, Disconnect, DisconnectRow};
pub use effects::{Effect, Effects, Recipients};
pub use error::{ERRORS, Error, ErrorCode, ErrorRow};
pub use forward::{ForwardToken, Forwarded, SendRequest, Whereabouts};
pub use hook::{
    Caller, ChannelEvent, ChannelNotices, Ended, HookAnswer, HookToken, Hooks, Identified, Notice, Question,
};
pub use ids::{
    ClientId, ConnId, Epoch, OpToken, Position, ROOM_BYTES_MAX, Room, SEATS_MAX, Seat, ShardId, UserId, WireId,
};
pub use inspect::{
    ChannelView, HomeView, InterestView, SessionView, SubscriberView, SubscriptionState, SubscriptionView,
};
pub use labels::{InvalidLabels, LABEL_BYTES_MAX, LABELS_MAX, Labels, check_label};
pub use limits::{ByteCount, Limits};
pub use listing::{
    Among, ConnectionCursor, ConnectionFacts, ConnectionInfo, ConnectionsPart, InvalidCursor, LISTED_MAX,
    STATUS_USERS_MAX, UserInfo, UserStatus,
};
pub use members::{Answers, AskToken, MemberInfo, MembersCommand, MembersOp};
pub use memory::MemoryStore;
pub use message::*;
pub use name::{CHANNEL_NAME_BYTES_MAX, ChannelName, InvalidName, is_format};
pub use outbox::{Appended, Outbox};
pub use page_id::{PAGE_ID_BYTES_MAX, PageId};
pub use pattern::{Capture, Pattern, PatternError};
pub use peer::PeerMessage;
pub use placement::Placement;
pub use polls::{Attempt, PollRoute, PollTable, Polled, Polls, attempt_shard};
pub use quota::{Bucket, Quotas, Rate};
pub use reach::example_name;
pub use rng::Rng;
pub use rules::{
    Action, CallerKind, ClaimIs, Denial, DeniedCaller, DeniedClaim, Entitlement, Grant, Past, PresenceMode, RateLimit,
    Retain, Rule, Rules, SenderShown, Slow, Verdict, Who, show_who,
};
pub use session::{HeartbeatKind, Opened, OverRate};
pub use shard::{Input, Shard, ShardConfig, Stats};
pub use store::{Entry, KeyScope, Op, Page, Range, Reader, Rest, Store, StoreAnswer};
pub use time::Now;
pub use token::UserToken;
pub use watch::{Counts, Denied, Held, Note, Noted};

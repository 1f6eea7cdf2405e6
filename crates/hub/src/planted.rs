//! Planted bugs: slips that a reviewer could miss, switched on by name to see that the simulation finds them.
//!
//! Without the feature `planted` [`planted`] is the constant `false` and nothing of this is compiled in. With it, a bug
//! exists only on a thread that has [`choose`]n it: a build that unifies features changes nothing for anybody else.

macro_rules! rows {
    ($($variant:ident, $breaks:literal;)*) => {
        /// One bug each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Planted {
            $(#[doc = $breaks] $variant,)*
        }

        /// Every planted bug with its name and what it breaks.
        #[cfg(feature = "planted")]
        pub const PLANTED: &[(Planted, &str, &str)] = &[$((Planted::$variant, stringify!($variant), $breaks),)*];
    };
}

rows! {
    MemberTakesOld, "A member takes a delivery that it has already: the comparison with its place is missing.";
    MemberTakesOtherEpoch, "A member takes a delivery of another epoch: the comparison of the epochs is missing.";
    FullMemberLive, "A page that arrives after the outbox has filled makes the member live again.";
    PullNotPassedOn, "A subscription ends while its page is on its way, and the session's others are not pulled.";
    SubscriberEndsEdgePull, "A subscriber that has caught up makes the home take the whole edge for live.";
    NudgeForgotten, "A shard whose link was full is not told when there is room again.";
    NudgeBeforePlace, "An edge that was nudged before it had a place never pulls.";
    ReleaseWhilePending, "An edge is given up while a subscription still waits for the home.";
    EpochUntold, "The first publication of an epoch does not name it.";
    EpochNotCompared, "A place of another epoch is recovered as if it were of this one.";
    FloorOffByOne, "A history that begins one entry too late counts as complete.";
    GapToEnd, "A gap is told up to the end of the page that follows it.";
    CopyBeforeReply, "The home delivers a publication before it answers its publisher.";
    CursorIgnored, "A member that leaves during a fan-out lets another one slip past the cursor.";
    MovedSlotUntold, "A subscription that moves within its session does not tell its member.";
    GatheredIsLive, "The members of one subscribe are live before all of it is answered.";
    SignalBeforeSubscribed, "A directed signal is told to a client whose subscription is not answered yet.";
    StaleAnswer, "Commands of an earlier connection are answered on the one that resumed the session.";
    PresenceUnrepaired, "An edge that was behind does not get the presence that it missed.";
    PresenceResumed, "Presence goes on after a resume that did not subscribe to the channel again.";
    PresenceAfterUnsubscribe, "Unsubscribing does not end the presence.";
    UnknownNotRead, "After an append of unknown outcome the home does not look what became of it.";
    HoleForgotten, "A missing entry seen while another is filled is forgotten.";
    EdgeRunsAhead, "An edge that pulls runs ahead of what its home has delivered.";
    FullIsRead, "A connection is read although its outbox is full.";
    KeyUnchecked, "A key that was used is taken for a new one.";
    HistoryUnbounded, "The history of a shard grows beyond its bound.";
    LatestReadsAll, "A subscriber that wants only the latest pulls all that it missed.";
    LatestUntold, "A subscriber that wants only the latest is not told that something was passed over.";
    SlowUnchecked, "A subscriber may choose a behaviour for which its rule is too strict.";
    SlowByRule, "A subscriber's own choice of being disconnected when slow is forgotten.";
    BatchOfOne, "A batch is told with its first publication.";
    BatchForAll, "A batch is told to its receivers whether or not all of it is for them.";
    BatchFromItsStart, "A subscriber that came while a batch was gathered gets all of it.";
    BatchRemindedOnce, "Only the first batch of a group is looked at when its time has come.";
    BatchAfterSkip, "Publications gathered before a gap are sent after it.";
    LateLeave, "A leave of an earlier incarnation ends the presence of a later one: the comparison is missing.";
    LeaveOvertakenByEnter, "A leave is not remembered: an older message of an earlier shard brings the presence back.";
    DirectedTwice, "A signal for one client that moves is taken on its new shard too: its number is not compared.";
    MembersUntold, "The home is not told that subscriptions have ended.";
    MovedNotPassedOn, "A session that is changing shards is missed by the application's commands about it.";
    ForwardNotPassedOn, "A command that comes by a request of its own misses a session that is changing shards.";
    AwayKept, "A session without connection outlives its disconnection by the application.";
    GrantKept, "A session that is away keeps the leave to follow a channel that the application has ended.";
    CountedUnanswered, "The application is not answered where a session goes while its command waits behind another one.";
    TicketIsToken, "A ticket whose session is gone stands for the token that was behind it, and the application is not asked.";
    AnyPageTakesOver, "A ticket takes a session over that is on an open connection of another page.";
    GrantEndsUnasked, "A subscription that a token allowed stays when a newer token does not allow it, though the application was never asked.";
    TokenGrantKept, "A newer token keeps the rights of the one before it.";
    HistoryForAll, "History tells a client of publications that are for others.";
    StoreQueueUnbounded, "The operations that wait for a store that does not answer have no bound.";
    StoreAwaited, "A command waits for a store that does not answer.";
    LaneNotHeld, "Commands behind a publication that the application is asked about do not wait for it.";
    TimeoutLetsIn, "A subscription about which the application did not answer in time is let in.";
    EditLosesKey, "A publication that the application has answered has its answer's key and not the client's.";
    PingUnlessHeard, "A connection is pinged only in intervals in which nothing was heard from it.";
    QuestionStuck, "A session's questions beyond its share are not asked when there is room again.";
    WaitingUnweighed, "Deliveries that wait behind a fan-out are counted by number and not by bytes.";
    ReloadAtOnce, "A reload judges all sessions in one turn.";
    StillThereForgotten, "A leave does not say that the same person is still there by another entry.";
    LatestForOthers, "A subscriber that wants only the latest is given the newest entry, though that may be for others.";
    LatestSwallowed, "The gap told to a subscriber that wants only the latest passes over the latest too.";
    SignalsBehindLost, "A signal to a shard that is behind is dropped and does not wait until that has caught up.";
    EarlierTakesOver, "An earlier connection of a page takes the session from a later one: their times are not compared.";
    DrainedForgotten, "A member that was behind does not pull when its outbox has drained.";
}

#[cfg(feature = "planted")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Switches one bug on for this thread, or all off.
#[cfg(feature = "planted")]
pub fn choose(bug: Option<Planted>) {
    CHOSEN.set(bug);
}

/// True where this bug is switched on.
#[cfg(feature = "planted")]
pub(crate) fn planted(bug: Planted) -> bool {
    CHOSEN.get() == Some(bug)
}

/// There are none in this build.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) fn planted(_: Planted) -> bool {
    false
}

//! Counts the events in a batch of runs. A check without input checks nothing: a count that stays zero over a large
//! batch fails it.

macro_rules! counts {
    ($($field:ident, $meaning:literal;)*) => {
        /// The number of each event.
        #[derive(Debug, Default, Clone)]
        pub(crate) struct Counts {
            $(#[doc = $meaning] pub(crate) $field: u64,)*
        }

        impl Counts {
            pub(crate) fn add(&mut self, other: &Counts) {
                $(self.$field += other.$field;)*
            }

            /// (name, meaning, count) of each.
            pub(crate) fn rows(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($field), $meaning, self.$field),)*]
            }
        }
    };
}

counts! {
    commands, "commands that clients sent";
    app_commands, "commands of the application";
    whispers, "times that the application published much for one client";
    app_subscribed, "sessions that the application subscribed";
    app_unsubscribed, "subscriptions that the application ended";
    app_disconnected, "sessions that the application sent away";
    app_banned, "users that the application banned";
    app_bans_refused, "connects of banned users";
    app_purged, "histories that the application removed";
    room_messages, "publications for members of rooms, received by one that was surely in them";
    room_either, "publications for members of rooms, received by one that may have been in them";
    rooms_joined, "rooms entered";
    rooms_left, "rooms left";
    kept_on, "kept subscriptions that went on where their clients were";
    kept_again, "of those, by clients that had come back before";
    kept_quiet, "of those, without a publication that their clients had had";
    kept_moved, "of those, on another shard";
    kept_in_rooms, "of those, in rooms";
    kept_lost, "of those, with a publication that was lost on its way before";
    kept_required, "kept subscriptions of which it was judged that they had to go on";
    rooms_refused, "rooms refused to one that was in too many";
    audiences, "publications for some that were delivered";
    anew, "subscriptions of the application that began anew with their client's options";
    by_server, "subscriptions that clients were told of without having asked";
    forwarded, "commands for sessions that came by requests of their own";
    forwarded_answers, "of those that ask something, how many were answered";
    polled, "conversations by polls";
    polls, "polls that clients sent";
    polls_passed_on, "polls that went on to another shard";
    polls_of_earlier, "polls that came late for a later connection of their session";
    polls_crossed, "polls whose place another one took";
    poll_pauses, "times that a client that polls did nothing for long";
    connects_repeated, "attempts to connect that were repeated";
    answers_again, "answers that a poll had again";
    polled_signals, "directed signals in answers to polls";
    sends, "sends of clients";
    sends_answered, "sends that were answered";
    sends_again, "sends that had the answer of the first one";
    sends_old, "sends that came once more after later ones";
    polls_ahead, "polls that acknowledged an answer that was never given";
    sends_unknown, "sends whose answer was not kept";
    engine_begun, "connections that began by requests, as Engine.IO has it";
    engine_gets, "GETs of those";
    engine_posts, "POSTs of those";
    upgraded, "connections that went on over a WebSocket";
    upgraded_again, "of those, after an upgrade that failed";
    upgraded_with_packets, "of those, while packets waited for a GET";
    upgraded_in_fan_out, "of those, while a fan-out was interrupted";
    upgrades_before_post, "upgrades while a POST was under way";
    upgrades_failed, "WebSockets that were cut or refused before the session went on";
    upgrades_turned_away, "WebSockets of sessions that had one";
    messages, "publications that clients received";
    published, "publications that were acknowledged";
    unknown, "publications of which nobody knew whether they were taken";
    refused, "publications that were refused";
    recovered_true, "subscriptions told that nothing is missing";
    recovered_false, "subscriptions told that something may be missing";
    pages_more, "subscriptions whose recovery took more than one page";
    gaps, "losses told within an epoch";
    resets, "losses told by a new epoch";
    signals, "signals that clients received";
    last_signals, "times that the last signal of a run was received";
    signals_directed, "directed signals that clients received";
    presence, "changes of presence that clients received";
    still_there, "leaves of those who are still there by another entry";
    presence_whole, "whole presences told after a loss";
    presence_counts, "counts of presence told";
    core_messages, "publications that the client core told its application";
    core_gaps, "losses that the client core told its application";
    chat_joined, "rooms that chat clients have entered";
    chat_left, "rooms that chat clients have left";
    chat_refused, "refusals that chat clients have read";
    chat_messages, "publications that chat clients have read";
    chat_foreign, "those of them that no chat client has sent";
    chat_typing, "signals that chat clients have read";
    chat_people, "members of whose coming and going chat clients have read";
    chat_skipped, "changes of presence that a chat client knew or was to learn otherwise";
    chat_lists, "lists of members that chat clients had in the end";
    chat_lost, "chat clients closed because they had missed something";
    chat_kicked, "chat clients closed because they were taken out of their room";
    chat_ignored, "messages of chat clients that were ignored";
    chat_too_large, "chat clients closed for a message that was too large";
    readers_opened, "plain event streams that readers opened";
    readers_resumed, "of those, with their last id";
    readers_earlier, "of those, with an id of long ago or of another reader";
    readers_forged, "of those, with an id that no server has written";
    readers_several, "of those, of several channels";
    readers_envelope, "of those, of one channel in envelopes";
    readers_denied, "plain event streams that were refused for good";
    readers_put_off, "plain event streams that ended at once, for a while";
    readers_cut_within, "plain event streams that were cut within a block";
    reader_messages, "publications that readers read";
    reader_missed, "of those, publications that they had missed";
    reader_recent, "of those, recent ones at the beginning";
    reader_audiences, "of those, publications for some";
    reader_reserved, "of those, with a name of the server's own";
    reader_gaps, "losses that readers were told";
    reader_resets, "losses by a new epoch that readers were told";
    reader_unnamed, "channels that the id of a reader did not name";
    reader_marks, "ids without data";
    reader_marks_on, "of those, ids that moved on";
    reader_unsubscribed, "plain event streams that ended with a subscription";
    reader_parted, "plain event streams that the server ended";
    reader_full, "outboxes of readers over their mark";
    core_streams, "streams that client cores opened";
    core_streams_resumed, "sessions that client cores resumed by a stream";
    core_changes, "sessions that client cores resumed over another transport";
    core_sends, "sends of client cores";
    core_sends_again, "of those, sends that came again, with or without their commands";
    core_lost, "requests of client cores, and answers to them, that were lost";
    core_blocked, "transports of client cores that were not let through";
    batches, "batches of more than one publication";
    passed_over, "gaps told to those who want only the latest";
    slow_refused, "choices that the rule is too strict for";
    resumed, "sessions resumed";
    adopted, "sessions resumed on another shard";
    not_resumed, "sessions that could not be resumed";
    unsubscribed, "subscriptions that the server ended";
    full, "outboxes over their mark";
    drained, "outboxes drained again";
    held, "connections that were not read for a while";
    moved, "connections that a newer one replaced";
    slow, "connections closed for slowness";
    timeouts, "connections closed for silence";
    continued, "fan-outs or catch-ups that were interrupted and went on";
    store_late, "answers of the store that came later";
    store_losses, "losses of a store";
    store_silent, "operations that the store did not answer, or late";
    store_stuck, "operations that took effect late";
    flits, "clients that left a shard before their session had arrived there";
    store_unknown, "operations whose outcome the store did not tell";
    hook_asked, "questions to the application";
    hook_late, "answers of the application that came too late";
    hook_missing, "answers of the application that never came";
    hook_denied, "refusals of the application";
    hook_edited, "publications that the application changed";
    notices, "notices to the application about channels";
    vacated, "notices that nobody subscribes to a channel any more";
    granted, "subscriptions by what a token is good for";
    grants_ended, "subscriptions ended because a newer token is not";
    hook_expired, "connections closed because a token had expired";
    refreshed, "tokens refreshed";
    rpc, "calls that were answered with a result";
    too_long, "payloads refused because a rule allows no longer ones";
    sieved_out, "payloads that a rule's check has refused";
    sieved, "publications that a rule's check has changed";
    senders_hidden, "publications whose rule hides something of their senders";
    history_gaps, "pages of history that say that something before them is gone";
    past_read, "pages of history that begin where their readers joined";
    past_hidden, "subscriptions that could not go on because a rule hides the past";
    places_full, "times that a channel had as many subscribers as its rule allows";
    places_refused, "subscriptions that a rule had no place for";
    quotas_judged, "commands of sessions with quotas";
    quotas_refused, "commands above a quota";
    quotas_refused_users, "of those, above a user's";
    quotas_continued, "commands of sessions that had taken their quotas along to another connection";
    rates_judged, "commands whose rule has a rate";
    rates_refused, "commands above their rate";
    rates_continued, "rates that a session took along to another connection";
    key_duplicates, "publications that were sent again within the time of their key";
    keys_expired, "keys that were new again after their time";
    keys_shed, "keys that were forgotten for want of room";
    key_conflicts, "keys that were used for another payload";
    resumed_in_time, "sessions without connection that were resumed within their grace";
    resumed_too_late, "sessions without connection that were asked for after their grace";
    mute, "connections closed for want of `connect`";
    bad_refused, "messages that are no command, and were refused";
    abuse, "connections closed for too many of them";
    acked_signals, "directed signals that were acknowledged and had arrived";
    unheard_signals, "directed signals to a client that wants none, refused";
    kept_signals, "acknowledged signals that waited for room, and were told";
    moved_signals, "those of them that waited while their client had no connection";
    batched_links, "turns that said several things to another shard";
    frozen, "clients that were stopped for long";
    drained_told, "connections told that the server stops";
    drained_late, "connections that were opened while the server stopped";
    settled, "servers that stopped with everything answered";
    restarts, "servers that started again";
    core_presences, "whole presences that client cores had told their applications in the end";
    callers_ended, "callers that a handler ended before it answered";
    prompt, "publications of which it was judged whether they were told in time";
    emptied, "shards that nobody used any more";
    clock_steps, "steps of the wall clock";
    shard_stalls, "shards that stood still";
}

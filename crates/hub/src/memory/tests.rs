//! Tests of the memory store: pages, bounds, keys, and the end of logs that nobody uses.

use super::*;
use crate::ids::ClientId;
use crate::message::{Audience, Publish};
use crate::rules::SenderShown;
use crate::store::{Page, Range, Reader, Rest};
use bytes::Bytes;

const NOW: Now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };

fn channel() -> ChannelName {
    ChannelName::new("a:b").expect("valid")
}

fn later(ms: u64) -> Now {
    Now { mono_ms: NOW.mono_ms + ms, wall_ms: NOW.wall_ms + ms }
}

/// An entry of the application.
fn entry_of(publish: Publish, audience: Option<Box<Audience>>, ts_ms: u64) -> Box<Entry> {
    Box::new(Entry { publish, from: None, shown: SenderShown::Client, by: None, audience, act: None, ts_ms })
}

fn append(store: &mut MemoryStore, now: Now, text: &'static str, key: Option<&str>, retain: Retain) -> StoreAnswer {
    let publish = Publish {
        channel: channel(),
        data: Data::Json(Bytes::from_static(text.as_bytes())),
        event: None,
        idempotency_key: key.map(Into::into),
        echo: true,
    };
    let entry = entry_of(publish, None, now.wall_ms);
    store.submit(now, OpToken(0), Op::Append { entry, retain }).expect("in place")
}

fn read(store: &mut MemoryStore, now: Now, range: Range, count_max: usize) -> Page {
    read_as(store, now, range, None, (count_max, usize::MAX))
}

fn read_as(
    store: &mut MemoryStore,
    now: Now,
    range: Range,
    reader: Option<Reader>,
    (count_max, scan_max): (usize, usize),
) -> Page {
    let (bytes_max, retain) = (1 << 20, Retain { count: 10_000, ..Retain::default() });
    let op = Op::Read { channel: channel(), range, reader, count_max, bytes_max, scan_max, retain };
    match store.submit(now, OpToken(0), op) {
        Some(StoreAnswer::Page(page)) => page,
        other => panic!("no page but {other:?}"),
    }
}

fn offsets(page: &Page) -> Vec<u64> {
    page.publications.iter().map(|p| p.offset).collect()
}

/// Whether anything is kept of it or not.
#[test]
fn the_first_entry_of_an_epoch_names_it_and_no_other_does() {
    for retain in [Retain::default(), Retain { count: 0, ..Retain::default() }] {
        let limits = Limits::default();
        let mut store = MemoryStore::new(&limits, 7);
        let appended = |store: &mut MemoryStore, now| match append(store, now, "1", None, retain) {
            StoreAnswer::Appended { epoch, publication } => (epoch, publication.begins.as_deref().copied()),
            other => panic!("{other:?}"),
        };
        let (first, named) = appended(&mut store, NOW);
        assert_eq!(named, Some(first));
        assert_eq!(appended(&mut store, NOW), (first, None));
        store.submit(NOW, OpToken(0), Op::Purge { channel: channel() });
        assert_eq!(appended(&mut store, NOW), (first, None), "nothing is kept, and the numbers go on");
        store.submit(NOW, OpToken(0), Op::Detach { channel: channel() });
        let forgotten = later(limits.metadata_ttl_ms);
        store.tidy(forgotten);
        let (second, named) = appended(&mut store, forgotten);
        assert!(second != first, "the channel was forgotten");
        assert_eq!(named, Some(second));
    }
}

/// Its time begins when nobody uses it any more, however long somebody has.
#[test]
fn a_channel_that_nobody_uses_is_remembered_for_its_time() {
    let ttl_ms = Limits::default().metadata_ttl_ms;
    let mut store = MemoryStore::new(&Limits::default(), 7);
    append(&mut store, NOW, "1", None, Retain::default());
    let epoch = |store: &mut MemoryStore, now| read(store, now, Range::NEWEST, 0).top.epoch;
    let first = epoch(&mut store, NOW);
    for (left_ms, looked_ms, is_same) in [(2 * ttl_ms, 3 * ttl_ms - 1, true), (5 * ttl_ms, 6 * ttl_ms, false)] {
        store.submit(later(left_ms), OpToken(0), Op::Detach { channel: channel() });
        store.tidy(later(looked_ms));
        assert_eq!(epoch(&mut store, later(looked_ms)) == first, is_same, "left at {left_ms}, looked at {looked_ms}");
    }
}

fn filled(count: u32, retain: Retain) -> (MemoryStore, Epoch) {
    let mut store = MemoryStore::new(&Limits::default(), 7);
    for _ in 0..count {
        append(&mut store, NOW, "1", None, retain);
    }
    let epoch = read(&mut store, NOW, Range::NEWEST, 0).top.epoch;
    (store, epoch)
}

#[test]
fn a_page_after_a_place_is_complete_only_where_nothing_is_missing() {
    let (mut store, epoch) = filled(150, Retain::default());
    let after = |offset| Range::After(Position { epoch, offset });
    let page = read(&mut store, NOW, after(100), 10);
    assert_eq!((offsets(&page), page.end, page.complete, page.rest), ((101..=110).collect(), 110, true, Rest::More));
    let page = read(&mut store, NOW, after(150), 10);
    assert_eq!((offsets(&page), page.end, page.complete, page.rest), (vec![], 150, true, Rest::Nothing));
    assert!(read(&mut store, NOW, after(50), 10).complete, "51 is the oldest of the hundred");
    assert!(!read(&mut store, NOW, after(49), 10).complete, "50 is gone");
    assert!(!read(&mut store, NOW, after(151), 10).complete, "a place ahead of the top means loss");
    let other = Range::After(Position { epoch: Epoch(1), offset: 150 });
    assert!(!read(&mut store, NOW, other, 10).complete, "another epoch's place says nothing");
}

#[test]
fn the_newest_and_those_before_a_place_come_oldest_first() {
    let (mut store, epoch) = filled(10, Retain::default());
    assert_eq!(offsets(&read(&mut store, NOW, Range::NEWEST, 3)), vec![8, 9, 10]);
    let page = read(&mut store, NOW, Range::before(Position { epoch, offset: 4 }), 2);
    assert_eq!((offsets(&page), page.rest), (vec![2, 3], Rest::More));
    let page = read(&mut store, NOW, Range::before(Position { epoch, offset: 4 }), 9);
    assert_eq!((offsets(&page), page.rest), (vec![1, 2, 3], Rest::Nothing));
}

fn append_for(store: &mut MemoryStore, only: Vec<ClientId>) {
    let data = Data::Json(Bytes::from_static(b"1"));
    let publish = Publish { channel: channel(), data, event: None, idempotency_key: None, echo: true };
    let audience = Some(Box::new(Audience { only, ..Audience::default() }));
    let entry = entry_of(publish, audience, NOW.wall_ms);
    let retain = Retain { count: 10_000, ..Retain::default() };
    store.submit(NOW, OpToken(0), Op::Append { entry, retain }).expect("in place");
}

#[test]
fn a_page_counts_what_its_reader_may_see_and_says_where_it_goes_on() {
    let mut store = MemoryStore::new(&Limits::default(), 7);
    let (ada, bob) = (ClientId(1), ClientId(2));
    for offset in 1..=100 {
        append_for(&mut store, vec![if offset % 10 == 0 { ada } else { bob }]);
    }
    let epoch = read(&mut store, NOW, Range::NEWEST, 0).top.epoch;
    let at = |offset| Position { epoch, offset };
    let reader = Some(Reader::of(ada));
    let mut read = |range, count_max, scan_max| {
        let page = read_as(&mut store, NOW, range, reader, (count_max, scan_max));
        (offsets(&page), page.start, page.end, page.rest)
    };
    let all = usize::MAX;
    // Name, range, publications at most, looks at most; what comes.
    let table = [
        ("the newest", Range::NEWEST, 2, all, (vec![90, 100], 80, 100, Rest::More)),
        ("before", Range::before(at(90)), 2, all, (vec![70, 80], 60, 100, Rest::More)),
        ("before, to the end", Range::before(at(20)), 2, all, (vec![10], 0, 100, Rest::Nothing)),
        ("after", Range::After(at(0)), 2, all, (vec![10, 20], 0, 29, Rest::More)),
        ("after, to the end", Range::After(at(85)), 2, all, (vec![90, 100], 85, 100, Rest::Nothing)),
        ("nothing in one step", Range::After(at(1)), 2, 5, (vec![], 1, 6, Rest::Unseen)),
        ("nothing in one step back", Range::before(at(30)), 2, 5, (vec![], 24, 100, Rest::Unseen)),
        ("a step looks at one at least", Range::After(at(1)), 2, 0, (vec![], 1, 2, Rest::Unseen)),
        ("between", Range::Last { after: Some(at(50)), before: None }, 1, all, (vec![100], 90, 100, Rest::More)),
        (
            "none between",
            Range::Last { after: Some(at(91)), before: Some(at(99)) },
            1,
            all,
            (vec![], 91, 100, Rest::Nothing),
        ),
    ];
    for (name, range, count_max, scan_max, expected) in table {
        assert_eq!(read(range, count_max, scan_max), expected, "{name}");
    }
}

#[test]
fn a_step_over_long_audiences_is_shorter() {
    let mut store = MemoryStore::new(&Limits::default(), 7);
    let others: Vec<ClientId> = (10..810).map(ClientId).collect();
    for _ in 0..20 {
        append_for(&mut store, others.clone());
    }
    let page = read_as(&mut store, NOW, Range::NEWEST, Some(Reader::of(ClientId(1))), (9, 1_000));
    assert_eq!((page.start, page.rest), (10, Rest::Unseen), "each look at 800 names counts as 101");
}

#[test]
fn a_place_that_is_none_of_the_log_is_said_to_be_so() {
    let (mut store, epoch) = filled(10, Retain::default());
    let [other, beyond] = [Position { epoch: Epoch(1), offset: 3 }, Position { epoch, offset: 11 }];
    let last = |after, before| Range::Last { after, before };
    let table = [
        ("after another epoch's", Range::After(other), vec![]),
        ("after one beyond the top", Range::After(beyond), vec![]),
        ("before another epoch's", Range::before(other), vec![]),
        ("before one beyond the top", Range::before(beyond), vec![]),
        // A reader that wants only the latest gets it all the same.
        ("the last after another epoch's", last(Some(other), None), vec![10]),
    ];
    for (name, range, expected) in table {
        let page = read(&mut store, NOW, range, 1);
        assert_eq!((offsets(&page), page.reset, page.complete), (expected, true, false), "{name}");
    }
    for range in [Range::After(Position { epoch, offset: 10 }), Range::before(Position { epoch, offset: 10 })] {
        assert!(!read(&mut store, NOW, range, 1).reset);
    }
}

#[test]
fn history_without_room_keeps_the_numbering_and_tells_the_loss() {
    let (mut store, epoch) = filled(3, Retain { count: 0, ..Retain::default() });
    let page = read(&mut store, NOW, Range::After(Position { epoch, offset: 2 }), 9);
    assert_eq!((offsets(&page), page.complete, page.top.offset), (vec![], false, 3));
    assert!(read(&mut store, NOW, Range::After(Position { epoch, offset: 3 }), 9).complete);
    assert_eq!(store.bytes_used(), 0);
}

#[test]
fn age_and_metadata_run_out_in_their_turn() {
    let (mut store, epoch) = filled(3, Retain::default());
    store.tidy(later(60_000));
    assert_eq!((store.bytes_used(), store.retained), (0, 0));
    let quiet = read(&mut store, later(60_000), Range::After(Position { epoch, offset: 3 }), 9);
    assert!(quiet.complete, "a quiet channel is recovered, not lost");
    store.submit(later(60_000), OpToken(0), Op::Detach { channel: channel() });
    store.tidy(later(60_000 + 24 * 3_600_000));
    assert_ne!(
        read(&mut store, later(0), Range::NEWEST, 0).top.epoch,
        epoch,
        "a forgotten numbering is never continued"
    );
}

#[test]
fn keys_tell_repetition_from_conflict_until_they_expire() {
    let mut store = MemoryStore::new(&Limits::default(), 7);
    let StoreAnswer::Appended { epoch, publication } = append(&mut store, NOW, "1", Some("k"), Retain::default())
    else {
        panic!()
    };
    let first = Position { epoch, offset: publication.offset };
    assert_eq!(append(&mut store, later(1), "1", Some("k"), Retain::default()), StoreAnswer::Duplicate(first));
    assert_eq!(append(&mut store, later(1), "2", Some("k"), Retain::default()), StoreAnswer::KeyConflict);
    assert_eq!(append(&mut store, later(120_000), "1", Some("k"), Retain::default()), StoreAnswer::Duplicate(first));
    assert!(matches!(
        append(&mut store, later(120_001), "2", Some("k"), Retain::default()),
        StoreAnswer::Appended { .. }
    ));
}

#[test]
fn keys_and_bytes_stay_within_their_bounds() {
    let limits = Limits { idempotency_keys_bytes_max: 1_200, history_bytes_max: 4096, ..Limits::default() };
    let mut store = MemoryStore::new(&limits, 7);
    for i in 0..5000 {
        append(&mut store, NOW, "1", Some(&i.to_string()), Retain { count: 1000, ..Retain::default() });
        assert!(store.bytes_used() <= 4096);
        let bytes = store.logs[0].keys.as_ref().map_or(0, |keys| keys.bytes());
        assert!((1..=1_200).contains(&bytes) && bytes == store.key_bytes, "{bytes}");
    }
    assert!(store.order.len() <= 2 * store.retained + 1024);
    let start = Range::After(Position { epoch: store.logs[0].epoch, offset: 0 });
    assert!(!read(&mut store, NOW, start, 9).complete);
}

/// Two thousand publications later the first one's retry is still known for what it is; only bytes and time bound
/// it.
#[test]
fn a_key_is_remembered_for_its_time_as_long_as_there_is_room_and_what_goes_earlier_is_counted() {
    let mut store = MemoryStore::new(&Limits::default(), 7);
    for n in 0..5_000_u32 {
        append(&mut store, later(1), "1", Some(&format!("{n:036}")), Retain::default());
    }
    let first = format!("{:036}", 0);
    assert!(matches!(
        append(&mut store, later(119_999), "1", Some(&first), Retain::default()),
        StoreAnswer::Duplicate(_)
    ));
    assert_eq!(store.keys_shed(), 0);
    let over = 4 * (4 << 20) / KEY_OVERHEAD;
    for n in 5_000..over {
        append(&mut store, later(1), "1", Some(&n.to_string()), Retain::default());
        assert!(store.key_bytes <= 4 << 20);
    }
    assert!(store.keys_shed() > over as u64 / 2, "{}", store.keys_shed());
    assert!(matches!(append(&mut store, later(2), "1", Some(&first), Retain::default()), StoreAnswer::Appended { .. }));
    // Those whose time is over are not counted.
    let shed = store.keys_shed();
    store.tidy(later(300_000));
    assert_eq!((store.key_bytes, store.keys_shed()), (0, shed));
}

fn named(name: &str) -> ChannelName {
    ChannelName::new(name).expect("valid")
}

fn touch(store: &mut MemoryStore, now: Now, name: &str) {
    store.submit(now, OpToken(0), Op::Attach { channel: named(name) });
    store.submit(now, OpToken(0), Op::Detach { channel: named(name) });
}

#[test]
fn channels_that_nobody_uses_go_before_any_publication_and_those_that_never_held_one_first() {
    let limits = Limits { history_bytes_max: 16 << 10, ..Limits::default() };
    let mut store = MemoryStore::new(&limits, 7);
    append(&mut store, NOW, "1", None, Retain::default());
    store.submit(NOW, OpToken(0), Op::Purge { channel: channel() });
    store.submit(NOW, OpToken(0), Op::Detach { channel: channel() });
    let epoch = store.logs[0].epoch;
    for n in 0..5_000 {
        touch(&mut store, later(n), &format!("nobody:{n}"));
        assert!(store.bytes_used() <= 16 << 10);
    }
    assert!(store.logs.len() < 100 && store.names.len() == store.logs.len(), "{}", store.logs.len());
    assert!(store.idle.iter().all(|queue| queue.len() <= 2 * store.logs.len() + 1024));
    let top = |store: &mut MemoryStore| read(store, later(1), Range::NEWEST, 0).top;
    assert_eq!(top(&mut store), Position { epoch, offset: 1 }, "its numbering outlived five thousand others");
    // One that is used is not forgotten, and publications go when there is nothing else.
    for _ in 0..1_000 {
        append(&mut store, later(2), "1", None, Retain { count: 1_000, ..Retain::default() });
        assert!(store.bytes_used() <= 16 << 10);
    }
    assert_eq!(top(&mut store).epoch, epoch);
    assert!(store.logs.len() < 3, "all others have gone: {}", store.logs.len());
    assert!(store.retained > 10);
}

#[test]
fn keys_that_go_with_a_channel_that_nobody_uses_are_counted() {
    let limits = Limits { history_bytes_max: 16 << 10, ..Limits::default() };
    let mut store = MemoryStore::new(&limits, 7);
    let used = |store: &mut MemoryStore, now: Now, n: u64| {
        let channel = named(&format!("nobody:{n}"));
        let publish = Publish {
            channel: channel.clone(),
            data: Data::Json(Bytes::from_static(b"1")),
            event: None,
            idempotency_key: Some("k".into()),
            echo: true,
        };
        let entry = entry_of(publish, None, 0);
        let none = Retain { count: 0, ..Retain::default() };
        store.submit(now, OpToken(0), Op::Append { entry, retain: none });
        store.submit(now, OpToken(0), Op::Detach { channel });
    };
    (0..100).for_each(|n| used(&mut store, later(1), n));
    let forgotten = 100 - store.logs.len() as u64;
    assert!(forgotten > 50, "{forgotten}");
    assert_eq!(store.keys_shed(), forgotten);
    // The time of the others is over when their channels go.
    (100..200).for_each(|n| used(&mut store, later(300_000), n));
    assert_eq!(store.keys_shed(), forgotten + 100 - store.logs.len() as u64);
}

#[test]
fn keys_of_many_channels_are_bounded_together_and_the_oldest_go() {
    let limits = Limits { history_bytes_max: 0, ..Limits::default() };
    let mut store = MemoryStore::new(&limits, 7);
    let publish = |store: &mut MemoryStore, ms: u64, name: &str, key: &str| {
        let publish = Publish {
            channel: named(name),
            data: Data::Json(Bytes::from_static(b"1")),
            event: None,
            idempotency_key: Some(key.into()),
            echo: true,
        };
        let entry = entry_of(publish, None, 0);
        store.submit(later(ms), OpToken(0), Op::Append { entry, retain: Retain::default() }).expect("in place")
    };
    let key = "k".repeat(64);
    for n in 0..5_000 {
        publish(&mut store, n, &format!("c:{n}"), &key);
        assert!(store.key_bytes <= KEY_BYTES_LEAST);
    }
    assert!(matches!(publish(&mut store, 5_000, "c:4999", &key), StoreAnswer::Duplicate(_)));
    assert!(matches!(publish(&mut store, 5_000, "c:0", &key), StoreAnswer::Appended { .. }), "long forgotten");
    // The line of keys stays short, too, where a channel forgets its own.
    for n in 0..5_000 {
        publish(&mut store, 6_000, "one", &n.to_string());
    }
    assert!(store.key_order.len() <= 2 * (store.key_bytes / KEY_OVERHEAD) + 1024);
    store.tidy(later(200_000));
    assert_eq!((store.key_bytes, store.key_order.len()), (0, 0));
}

/// A channel that nobody has published to is paid for all the same.
#[test]
fn a_log_stays_small() {
    assert!(size_of::<Log>() <= 80, "{} bytes", size_of::<Log>());
}

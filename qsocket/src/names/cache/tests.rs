use super::*;
use crate::names::message::Answer;
use crate::names::tests::question;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record};
use qsocket_proto::ids::PathSet;

/// An answer of so many bytes, for so many seconds.
fn agreed(bytes: usize, ttl: u32) -> Arc<Agreed> {
    let name = question("abc.raida.").name().clone();
    let texts = (0..bytes.div_ceil(255)).map(|i| {
        let text = RData::TXT(TXT::new(vec![format!("{i:05}"), "x".repeat(250)]));
        Record::from_rdata(name.clone(), ttl, text)
    });
    let answer = Answer::new(true, texts.collect()).unwrap();
    Arc::new(Agreed { answer, relays: PathSet::ALL, contrary: vec![] })
}

fn sound(cache: &Cache) {
    assert_eq!(cache.entries.len(), cache.ends.len());
    let sum: usize = cache.ends.values().map(|question| cache.entries[question].bytes).sum();
    assert_eq!(cache.bytes, sum);
    assert!(cache.entries.len() <= MAX_ENTRIES && cache.bytes <= MAX_BYTES);
}

#[test]
fn it_holds_so_many_and_what_ends_first_leaves_first() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    for i in 0..MAX_ENTRIES + 10 {
        let known = Known::new(agreed(0, 0), now + Duration::from_millis(i as u64));
        cache.insert(question(&format!("n{i}.raida.")), known, now);
    }
    sound(&cache);
    assert_eq!(cache.entries.len(), MAX_ENTRIES);
    assert!(cache.get(&question("n9.raida."), now).is_none());
    assert!(cache.get(&question("n10.raida."), now).is_some());
}

#[test]
fn it_holds_so_many_bytes() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    for i in 0..3000 {
        cache.insert(question(&format!("n{i}.raida.")), Known::new(agreed(4000, 300), now), now);
    }
    sound(&cache);
    assert!(cache.entries.len() > 100 && cache.entries.len() < 3000);
    // One that is larger than all is not kept, and drives nothing out.
    let before = cache.entries.len();
    cache.insert(question("huge.raida."), Known::new(agreed(MAX_BYTES, 300), now), now);
    assert_eq!(cache.entries.len(), before);
}

#[test]
fn a_time_to_live_is_held_within_bounds() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let asked = question("abc.raida.");
    for (ttl, kept) in [(0, 60), (60, 60), (61, 61), (86_400, 86_400), (u32::MAX, 86_400)] {
        cache.insert(asked.clone(), Known::new(agreed(1, ttl), now), now);
        sound(&cache);
        assert!(
            cache.get(&asked, now + Duration::from_secs(kept) - Duration::from_millis(1)).is_some(),
            "{ttl}"
        );
        assert!(cache.get(&asked, now + Duration::from_secs(kept)).is_none(), "{ttl}");
        sound(&cache);
    }
}

use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// Sends `bytes` and acknowledges them `rtt` later, all of them arrived.
fn round(flow: &mut PathFlow, counter: &mut PathCounter, now: &mut Instant, bytes: usize, rtt: Duration) {
    let offset = flow.on_sent(*now, bytes);
    counter.on_frame(offset, bytes);
    *now += rtt;
    flow.on_ack(*now, counter.end, counter.received);
}

#[test]
fn the_window_bounds_what_is_in_flight_and_grows_while_it_is_used() {
    let (mut flow, mut counter, mut now) = (PathFlow::new(), PathCounter::default(), Instant::now());
    assert_eq!(flow.room(), INITIAL_WINDOW);
    flow.on_sent(now, INITIAL_WINDOW as usize);
    assert_eq!(flow.room(), 0);
    counter.on_frame(0, INITIAL_WINDOW as usize);
    now += MS * 10;
    let outcome = flow.on_ack(now, counter.end, counter.received);
    assert_eq!(outcome, AckOutcome { newly_acked: INITIAL_WINDOW, lost_bytes: 0, rtt: Some(MS * 10) });
    assert_eq!(flow.window(), 2 * INITIAL_WINDOW);
    for _ in 0..10 {
        round(&mut flow, &mut counter, &mut now, 1000, MS * 10);
    }
    assert_eq!(flow.window(), 2 * INITIAL_WINDOW, "a trickle proves nothing");
    while flow.window() < MAX_WINDOW {
        let room = flow.room() as usize;
        round(&mut flow, &mut counter, &mut now, room, MS * 10);
    }
    assert_eq!(flow.window(), MAX_WINDOW);
}

#[test]
fn a_loss_is_seen_by_the_gap_and_halves_once() {
    let (mut flow, mut counter, now) = (PathFlow::new(), PathCounter::default(), Instant::now());
    let offsets: Vec<_> = (0..10).map(|_| flow.on_sent(now, 10_000)).collect();
    for (i, &offset) in offsets.iter().enumerate() {
        if i != 3 && i != 7 {
            counter.on_frame(offset, 10_000);
        }
        let outcome = flow.on_ack(now + MS * 20, counter.end, counter.received);
        let lost = if i == 4 || i == 8 { 10_000 } else { 0 };
        assert_eq!(outcome.lost_bytes, lost, "frame {i}");
    }
    assert_eq!(flow.window(), INITIAL_WINDOW / 2, "both losses belong to one flight");
    assert_eq!((flow.in_flight(), flow.lost()), (0, 20_000));
    flow.on_congested(now + MS * 25, 10_000);
    assert_eq!(flow.window(), INITIAL_WINDOW / 2, "the same round trip");
    flow.on_congested(now + MS * 45, 10_000);
    assert_eq!(flow.window(), INITIAL_WINDOW / 4);
    for i in 0..100 {
        flow.on_congested(now + MS * 100 * i, 1);
    }
    assert_eq!(flow.window(), MIN_WINDOW);
}

#[test]
fn after_a_halving_a_round_trip_adds_about_one_step() {
    let (mut flow, mut counter, mut now) = (PathFlow::new(), PathCounter::default(), Instant::now());
    round(&mut flow, &mut counter, &mut now, 1, MS * 10);
    flow.on_congested(now, 1);
    let before = flow.window();
    let room = flow.room() as usize;
    round(&mut flow, &mut counter, &mut now, room, MS * 10);
    let grown = flow.window() - before;
    assert!((STEP / 2..=STEP).contains(&grown), "{grown}");
}

#[test]
fn silence_times_out_with_doubling_and_frees_the_window() {
    let (mut flow, start) = (PathFlow::new(), Instant::now());
    assert_eq!(flow.poll_timeout(), None);
    flow.on_sent(start, 100_000);
    let first = flow.poll_timeout().unwrap();
    assert_eq!(first, start + INITIAL_RTT * 3);
    assert!(!flow.on_timeout(first - MS));
    assert!(flow.on_timeout(first));
    assert_eq!((flow.in_flight(), flow.window(), flow.timeouts()), (0, INITIAL_WINDOW / 2, 1));
    assert_eq!(flow.poll_timeout(), None, "no timer runs for an idle path");
    flow.on_sent(first, 1000);
    assert_eq!(flow.poll_timeout(), Some(first + INITIAL_RTT * 6));
    // The first flight arrives after all: it counts, and is not in flight twice.
    flow.on_ack(first + MS, 100_000, 100_000);
    assert_eq!((flow.in_flight(), flow.timeouts()), (1000, 0));
}

#[test]
fn a_silent_path_never_waits_longer_than_the_maximum() {
    let (mut flow, mut now) = (PathFlow::new(), Instant::now());
    for _ in 0..40 {
        flow.on_sent(now, 100);
        let due = flow.poll_timeout().unwrap();
        assert!(due - now <= MAX_TIMEOUT);
        now = due;
        assert!(flow.on_timeout(now));
    }
    assert_eq!(flow.window(), MIN_WINDOW);
}

#[test]
fn lies_and_stale_numbers_change_nothing() {
    let (mut flow, now) = (PathFlow::new(), Instant::now());
    flow.on_sent(now, 50_000);
    flow.on_ack(now + MS, 30_000, 30_000);
    let before = flow.in_flight();
    for (end, received) in
        [(60_000, 60_000), (u32::MAX, u32::MAX), (10_000, 10_000), (0, 0), (30_000, 40_000)]
    {
        assert_eq!(flow.on_ack(now + MS * 2, end, received), AckOutcome::default(), "{end} {received}");
        assert_eq!(flow.in_flight(), before);
    }
}

#[test]
fn counters_survive_the_wrap_of_32_bits() {
    let (mut flow, mut counter, mut now) = (PathFlow::new(), PathCounter::default(), Instant::now());
    let total = 3u64 << 31;
    while flow.sent() < total {
        round(&mut flow, &mut counter, &mut now, 8_000_000, MS);
        assert_eq!((flow.in_flight(), flow.lost()), (0, 0));
    }
    assert_eq!(counter.end, flow.sent() as u32);
}

#[test]
fn well_needs_a_measure_calm_and_company() {
    let (mut flow, mut counter, mut now) = (PathFlow::new(), PathCounter::default(), Instant::now());
    assert!(!flow.well(now, MS * 10), "never measured");
    round(&mut flow, &mut counter, &mut now, 1000, MS * 30);
    assert!(flow.well(now, MS * 10));
    assert!(!flow.well(now, MS * 6), "far above the median");
    flow.on_sent(now, 1000);
    assert!(flow.well(now + MS * 10, MS * 10));
    assert!(!flow.well(now + MS * 150, MS * 10), "overdue");
    let offset = flow.on_sent(now, 1000);
    counter.on_frame(offset, 1000);
    flow.on_ack(now + MS * 30, counter.end, counter.received);
    assert!(!flow.well(now + MS * 30, MS * 10), "a loss");
    assert!(flow.well(now + MS * 500, MS * 10), "long ago");
    flow.on_down();
    assert!(!flow.well(now + MS * 500, MS * 10), "a new hop is unknown again");
}

#[test]
fn a_round_trip_that_grew_makes_a_path_unwell_before_the_smoothed_one_does() {
    let (mut flow, mut counter, mut now) = (PathFlow::new(), PathCounter::default(), Instant::now());
    for _ in 0..20 {
        round(&mut flow, &mut counter, &mut now, 1000, MS * 30);
    }
    round(&mut flow, &mut counter, &mut now, 1000, MS * 110);
    assert!(
        flow.well(now, MS * 30),
        "half as much again as the least and a queue of its own, and the noise of schedulers"
    );
    round(&mut flow, &mut counter, &mut now, 1000, MS * 111);
    assert!(flow.srtt() < Some(MS * 60));
    assert!(!flow.well(now, MS * 30));
}

/// A link with a rate and a delay that is kept full for so long: the window, and the last round trip.
fn fill(
    flow: &mut PathFlow,
    now: &mut Instant,
    rate: u64,
    delay: Duration,
    span: Duration,
) -> (u64, Duration) {
    const FRAME: usize = 16 * 1024;
    let (mut counter, mut ways, mut free) = (PathCounter::default(), VecDeque::new(), *now);
    let (end, mut last) = (*now + span, Duration::ZERO);
    while *now < end {
        while flow.takes(FRAME) {
            let offset = flow.on_sent(*now, FRAME);
            free = free.max(*now) + Duration::from_nanos(FRAME as u64 * 1_000_000_000 / rate);
            ways.push_back((offset, *now, free + delay));
        }
        let (offset, sent, arrived) = ways.pop_front().unwrap();
        counter.on_frame(offset, FRAME);
        (*now, last) = (arrived, arrived - sent);
        flow.on_ack(*now, counter.end, counter.received);
    }
    (flow.window(), last)
}

/// Without losses: TCP below repairs them, and what a sender sees of a full link is time.
#[test]
fn a_full_link_gets_a_queue_and_no_more() {
    for (rate, delay) in [(2_500_000, 5), (2_500_000, 100), (4_500_000, 20), (25_000_000, 2)] {
        let (mut flow, mut now) = (PathFlow::new(), Instant::now());
        let (window, rtt) = fill(&mut flow, &mut now, rate, MS * delay, MS * 3000);
        let base = flow.base().unwrap();
        assert!(rtt <= base + OWN_QUEUE * 3 / 2, "{rate}, {delay}: {rtt:?} with {base:?}");
        assert!(window as f64 >= rate as f64 * base.as_secs_f64(), "{rate}, {delay}: the link is full");
        assert!(flow.well(now, base));
    }
}

/// Where all paths are alike the queue may be that of others, and what is left to the path is a small window; of a larger one
/// it is its own.
#[test]
fn what_all_paths_have_in_common_is_allowed_to_a_small_window() {
    let (mut flow, mut counter, mut now) = (PathFlow::new(), PathCounter::default(), Instant::now());
    round(&mut flow, &mut counter, &mut now, 1000, MS * 20);
    for common in [MS * 100, MS * 90] {
        for _ in 0..20 {
            flow.set_usual(MS * 20, common);
            round(&mut flow, &mut counter, &mut now, 16 * 1024, MS * 100);
        }
        assert_eq!(flow.window(), COMMON_WINDOW);
        assert!(flow.well(now, common) && flow.is_full());
    }
    for _ in 0..20 {
        flow.set_usual(MS * 20, MS * 50);
        round(&mut flow, &mut counter, &mut now, 16 * 1024, MS * 100);
    }
    assert_eq!(flow.window(), MIN_WINDOW, "alone with its queue");
}

/// The smallest window keeps a slow link busy: one stripe leaves while the next one waits.
#[test]
fn a_slow_link_has_two_stripes() {
    let (mut flow, mut now) = (PathFlow::new(), Instant::now());
    let begun = now;
    let (_, rtt) = fill(&mut flow, &mut now, 100_000, MS * 5, MS * 20_000);
    assert!(rtt < MS * 600, "{rtt:?}");
    assert!(flow.acked() as f64 / (now - begun).as_secs_f64() > 90_000.0, "it is never idle for long");
}

#[test]
fn a_round_trip_that_grew_for_other_reasons_is_the_least_one_after_a_while() {
    let (mut flow, mut now) = (PathFlow::new(), Instant::now());
    fill(&mut flow, &mut now, 2_500_000, MS * 5, MS * 3000);
    let mut counter = PathCounter { end: flow.sent() as u32, received: flow.sent() as u32 };
    flow.on_ack(now, counter.end, counter.received);
    for _ in 0..100 {
        round(&mut flow, &mut counter, &mut now, 16 * 1024, MS * 120);
    }
    assert_eq!(flow.base(), Some(MS * 120), "and it is not held to what it was");
}

/// A window is filled at once, and the path is slow: each frame that is acknowledged says so.
#[test]
fn a_new_path_shows_how_slow_it_is_with_its_first_frames() {
    let (mut flow, mut counter, now) = (PathFlow::new(), PathCounter::default(), Instant::now());
    round(&mut flow, &mut counter, &mut now.clone(), 100, MS);
    let offsets: Vec<_> = (0..10).map(|_| flow.on_sent(now, 16 * 1024)).collect();
    for (i, offset) in (1u32..).zip(offsets).take(4) {
        counter.on_frame(offset, 16 * 1024);
        let outcome = flow.on_ack(now + MS * 33 * i, counter.end, counter.received);
        assert_eq!(outcome.rtt, Some(MS * 33 * i), "frame {i}");
    }
}

#[test]
fn late_is_what_is_older_than_usual_on_a_path_that_stands_still() {
    let (mut flow, mut counter, mut now) = (PathFlow::new(), PathCounter::default(), Instant::now());
    flow.on_sent(now, 1000);
    assert_eq!(flow.late_at(), None, "nothing was measured");
    counter.on_frame(0, 1000);
    now += MS * 40;
    flow.on_ack(now, counter.end, counter.received);
    for _ in 0..30 {
        round(&mut flow, &mut counter, &mut now, 1000, MS * 40);
    }
    let sent = now;
    let offsets = [flow.on_sent(sent, 1000), flow.on_sent(sent, 1000)];
    assert_eq!(flow.late_at(), Some(sent + MS * 50), "the variation is less than the floor");
    // The first arrives, late: the path moves, and the second gets half a round trip more.
    counter.on_frame(offsets[0], 1000);
    flow.on_ack(sent + MS * 60, counter.end, counter.received);
    let late = flow.late_at().unwrap();
    assert!(late > sent + MS * 85 && late < sent + MS * 95);
    counter.on_frame(offsets[1], 1000);
    flow.on_ack(sent + MS * 70, counter.end, counter.received);
    assert_eq!(flow.late_at(), None, "nothing is owed");
}

proptest! {
    #[test]
    fn any_acknowledgements_keep_the_invariants(ops in proptest::collection::vec((0u8..5, any::<u32>(), any::<u32>()), 1..200)) {
        let (mut flow, mut now) = (PathFlow::new(), Instant::now());
        for (op, a, b) in ops {
            now += MS * (a % 500);
            match op {
                0 => { flow.on_sent(now, (a % 100_000) as usize); }
                1 => { flow.on_ack(now, a, b); }
                2 => { flow.on_ack(now, (flow.sent() as u32).wrapping_sub(a % 2000), (flow.sent() as u32).wrapping_sub(b % 4000)); }
                3 => flow.on_congested(now, a),
                _ => { flow.on_timeout(now); }
            }
            prop_assert!((MIN_WINDOW..=MAX_WINDOW).contains(&flow.window()));
            prop_assert!(flow.in_flight() <= flow.sent());
            prop_assert!(flow.received <= flow.end && flow.end <= flow.sent);
            prop_assert!(flow.markers.len() <= MARKERS);
            prop_assert_eq!(flow.poll_timeout().is_some(), flow.in_flight() > 0);
        }
    }
}

#[test]
fn a_path_that_answers_in_part_and_then_falls_silent_is_overdue() {
    let start = Instant::now();
    let mut flow = PathFlow::new();
    flow.on_sent(start, 1000);
    flow.on_sent(start, 1000);
    let now = start + Duration::from_millis(20);
    flow.on_ack(now, 1000, 1000);
    assert!(flow.well(now, Duration::from_millis(20)));
    assert!(flow.poll_timeout().is_some(), "the second thousand is awaited");
    let later = now + Duration::from_secs(2);
    assert!(!flow.well(later, Duration::from_millis(20)));
    assert!(flow.on_timeout(later));
}

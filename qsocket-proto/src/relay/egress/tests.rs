use super::*;
use crate::frame::Frames;
use crate::hop::{RECORD_HEADER, RECORD_TAG};

fn egress(limits: EgressLimits) -> Egress {
    Egress::new(Outbox::new(usize::MAX), limits)
}

fn origin(route: u32) -> (HopId, RouteId) {
    (HopId(9), RouteId(1000 + route))
}

const SMALL: EgressLimits = EgressLimits { route: 10_000, hop: 25_000, outbox: 2_000 };

/// What the socket would take next: (route, offset, length) of DATA, or `None` for control.
fn take(egress: &mut Egress) -> Vec<Option<(u32, u32, usize)>> {
    let mut seen = Vec::new();
    egress.pump();
    for mut record in egress.outbox().unsealed_for_tests() {
        let end = record.len() - RECORD_TAG;
        for frame in Frames::new(&mut record[RECORD_HEADER..end]) {
            seen.push(match frame.unwrap() {
                Frame::Data { route, offset, payload } => {
                    assert!(payload.iter().all(|b| *b == route.0 as u8));
                    Some((route.0, offset, payload.len()))
                }
                _ => None,
            });
        }
    }
    seen
}

#[test]
fn an_idle_hop_queues_nothing_and_a_busy_one_keeps_order() {
    let (mut egress, now) = (egress(SMALL), Instant::now());
    for i in 0..10u32 {
        assert_eq!(egress.data(now, RouteId(1), i, &[1; 900], origin(1)), None);
    }
    let mut seen = Vec::new();
    loop {
        let more = take(&mut egress);
        if more.is_empty() {
            break;
        }
        seen.extend(more);
    }
    assert_eq!(seen, (0..10).map(|i| Some((1, i, 900))).collect::<Vec<_>>());
    assert!(egress.is_idle());
}

#[test]
fn a_full_route_drops_its_newest_and_reports_the_sum_now_and_then() {
    let (mut egress, now) = (egress(SMALL), Instant::now());
    let mut reports = Vec::new();
    for i in 0..40u32 {
        let at = now + Duration::from_millis(5) * i;
        reports.extend(egress.data(at, RouteId(1), i, &[1; 1000], origin(1)));
        assert!(egress.queued_bytes() <= SMALL.route + SMALL.outbox + 200);
    }
    // One frame went to the outbox, nine wait, 30 were dropped: reported at once and then every 50 ms.
    let bytes: Vec<_> = reports.iter().map(|r| r.bytes).collect();
    assert_eq!(bytes, [1000, 10_000, 10_000]);
    assert!(reports.iter().all(|r| (r.hop, r.route) == origin(1)));
    let seen: Vec<_> =
        std::iter::from_fn(|| Some(take(&mut egress)).filter(|t| !t.is_empty())).flatten().collect();
    let offsets: Vec<_> = seen.into_iter().flatten().map(|f| f.1).collect();
    assert_eq!(offsets, (0..10).collect::<Vec<_>>(), "the oldest are kept");
}

#[test]
fn a_full_hop_drops_from_the_longest_route() {
    let (mut egress, now) = (egress(SMALL), Instant::now());
    let mut dropped = [0; 4];
    for i in 0..30u32 {
        for route in [1, 1, 1, 2, 2, 3] {
            if let Some(c) =
                egress.data(now + CONGESTED_EVERY * i, RouteId(route), i, &[route as u8; 500], origin(route))
            {
                dropped[(c.route.0 - 1000) as usize] += c.bytes;
            }
        }
        assert!(egress.waiting <= SMALL.hop);
    }
    assert!(dropped[1] > dropped[2] && dropped[2] >= dropped[3], "{dropped:?}");
    let held: usize = egress.routes.values().map(Queue::charge).sum();
    assert_eq!(held, egress.waiting);
}

#[test]
fn empty_and_tiny_frames_are_charged_for_their_keeping() {
    let (mut egress, now) = (egress(SMALL), Instant::now());
    egress.data(now, RouteId(1), 0, &[1; 1900], origin(1));
    for i in 0..100_000u32 {
        egress.data(now, RouteId(1 + i % 3), i, &[], origin(1));
        egress.data(now, RouteId(1 + i % 3), i, &[(1 + i % 3) as u8], origin(1));
    }
    let frames: usize = egress.routes.values().map(|q| q.frames.len()).sum();
    assert!(frames <= SMALL.hop / ENTRY_BYTES, "{frames} frames wait");
    assert!(egress.waiting <= SMALL.hop);
    for route in 1..=3 {
        egress.forget(RouteId(route));
    }
    assert_eq!(egress.waiting, 0);
}

#[test]
fn emptied_queues_keep_little() {
    let limits = EgressLimits { route: 1 << 20, hop: 1 << 24, outbox: 40_000 };
    let (mut egress, now) = (egress(limits), Instant::now());
    for route in 1..=2 * SPARES as u32 {
        for i in 0..30 {
            egress.data(now, RouteId(route), i, &[route as u8; 16_000], origin(route));
        }
    }
    while !take(&mut egress).is_empty() {}
    let kept: usize = egress.spares.iter().map(VecDeque::capacity).sum();
    assert!(egress.spares.len() == SPARES && kept <= SPARES * SPARE_BYTES, "{kept} bytes");
}

#[test]
fn routes_take_turns_by_bytes_not_by_frames() {
    let limits = EgressLimits { route: 1 << 20, hop: 1 << 22, outbox: 40_000 };
    let (mut egress, now) = (egress(limits), Instant::now());
    for i in 0..200u32 {
        egress.data(now, RouteId(1), i, &[1; 4000], origin(1));
    }
    for i in 0..800u32 {
        egress.data(now, RouteId(2), i, &[2; 500], origin(2));
    }
    take(&mut egress);
    let mut sums = [0; 3];
    for _ in 0..10 {
        for (route, _, len) in take(&mut egress).into_iter().flatten() {
            sums[route as usize] += len;
        }
    }
    let (a, b) = (sums[1] as f64, sums[2] as f64);
    assert!((a / b - 1.0).abs() < 0.15, "{sums:?}");
}

#[test]
fn control_overtakes_waiting_data_and_the_end_of_a_route_drops_it() {
    let (mut egress, now) = (egress(SMALL), Instant::now());
    for i in 0..8 {
        egress.data(now, RouteId(1), i, &[1; 1000], origin(1));
        egress.data(now, RouteId(2), i, &[2; 1000], origin(2));
    }
    egress.control(&Frame::Detach { route: RouteId(1) }).unwrap();
    let first = take(&mut egress);
    assert_eq!(
        first.iter().position(Option::is_none),
        Some(1),
        "behind what the outbox held, before the queues"
    );
    let rest: Vec<_> =
        std::iter::from_fn(|| Some(take(&mut egress)).filter(|t| !t.is_empty())).flatten().collect();
    assert!(rest.iter().flatten().all(|f| f.0 == 2));
    assert!(egress.is_idle() && egress.turns.is_empty());
}

#[test]
fn the_largest_frame_passes_whatever_the_target() {
    let (mut egress, now) = (egress(EgressLimits { route: 1 << 20, hop: 1 << 20, ..SMALL }), Instant::now());
    for i in 0..3 {
        egress.data(now, RouteId(1), i, &[1; crate::hop::MAX_PAYLOAD], origin(1));
    }
    for i in 0..3 {
        assert_eq!(take(&mut egress), [Some((1, i, crate::hop::MAX_PAYLOAD))]);
    }
}

use super::*;
use crate::daemon::status::LastReload;
use crate::daemon::status::tests::{relay, status};
use std::collections::BTreeMap;

fn lines(status: &Status) -> Vec<String> {
    text(&registry(status.clone())).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_number_has_its_name_unit_and_label() {
    let mut seven = relay(7);
    let stats = &mut seven.stats;
    stats.hops = Hops { clients: 3, servers: 2 };
    stats.refused.insert("rate".to_owned(), 11);
    (stats.to_servers.bytes, stats.to_clients.frames, stats.dropped_bytes) = (1000, 13, 17);
    (stats.connections, stats.routes, stats.queued_bytes) = (6, 19, 23);
    (stats.dials, stats.dial_failures, stats.dial_failures_in_a_row) = (31, 29, 28);
    (seven.principals, seven.banned) = (41, 1);
    seven.last_reload = Some(LastReload { unix_seconds: 1_700_000_000, error: None });
    let mut status = status([seven, relay(24)]);
    status.process.resident_bytes = Some(4096);
    let lines = lines(&status);
    for line in [
        "raida_relay_build_info{version=\"1.2.3\"} 1",
        "raida_relay_listening{relay=\"7\"} 1",
        "raida_relay_draining{relay=\"24\"} 0",
        "raida_relay_uptime_seconds{relay=\"7\"} 59",
        "raida_relay_principals{relay=\"7\"} 41",
        "raida_relay_banned_principals{relay=\"7\"} 1",
        "raida_relay_last_reload_success{relay=\"7\"} 1",
        "raida_relay_last_reload_timestamp_seconds{relay=\"7\"} 1700000000",
        "raida_relay_connections{relay=\"7\"} 6",
        "raida_relay_hops{relay=\"7\",role=\"client\"} 3",
        "raida_relay_hops{relay=\"7\",role=\"server\"} 2",
        "raida_relay_routes{relay=\"7\"} 19",
        "raida_relay_queued_bytes{relay=\"7\"} 23",
        "raida_relay_forwarded_bytes_total{relay=\"7\",direction=\"to_servers\"} 1000",
        "raida_relay_forwarded_frames_total{relay=\"7\",direction=\"to_clients\"} 13",
        "raida_relay_dropped_bytes_total{relay=\"7\"} 17",
        "raida_relay_refused_connections_total{relay=\"7\",cause=\"rate\"} 11",
        "raida_relay_refused_connections_total{relay=\"24\",cause=\"unknown_principal\"} 0",
        "raida_relay_dials_total{relay=\"7\"} 31",
        "raida_relay_dial_failures_total{relay=\"7\"} 29",
        "raida_relay_dial_failures_in_a_row{relay=\"7\"} 28",
        "process_resident_memory_bytes 4096",
    ] {
        assert_eq!(lines.iter().filter(|l| *l == line).count(), 1, "{line} in\n{}", lines.join("\n"));
    }
}

#[test]
fn names_are_typed_once_and_labels_are_from_a_fixed_set() {
    let mut kinds = BTreeMap::new();
    for line in lines(&status([relay(0), relay(1)])) {
        if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(kinds.insert(name.to_owned(), kind.to_owned()), None, "{name} twice");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(kinds.contains_key(name), "{line} has no type");
            let labels = line.split(['{', '}']).nth(1).unwrap();
            for label in labels.split(',') {
                let (key, _) = label.split_once('=').unwrap();
                assert!(["relay", "role", "direction", "cause", "version"].contains(&key), "{line}");
            }
        }
    }
    assert!(kinds.len() >= 18, "{kinds:?}");
}

//! The status as a table.

use crate::daemon::status::{LastReload, RelayStatus, Status};
use std::fmt::Write;

/// A line for each relay, and below what needs a sentence.
pub(crate) fn table(status: &Status) -> String {
    let heads = [
        "RELAY",
        "STATE",
        "LISTEN",
        "UP",
        "CLIENTS",
        "SERVERS",
        "ROUTES",
        "FORWARDED",
        "DROPPED",
        "REFUSED",
        "PRINCIPALS",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(status.relays.iter().map(row));
    let mut text = format!("raida-relay {}", status.version);
    let _ = writeln!(
        text,
        "{}",
        status.process.resident_bytes.map_or_else(String::new, |n| format!(", {} in memory", bytes(n)))
    );
    let widths: [usize; 11] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].len()).max().unwrap_or_default());
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    for RelayStatus { relay, last_reload, .. } in &status.relays {
        if let Some(LastReload { error: Some(error), .. }) = last_reload {
            let _ = writeln!(text, "relay {relay}: the last reload did not take effect: {error}");
        }
    }
    text
}

fn row(relay: &RelayStatus) -> [String; 11] {
    let stats = &relay.stats;
    let state = match (relay.draining, relay.listening) {
        (true, _) => "draining",
        (false, true) => "listening",
        (false, false) => "stopped",
    };
    let principals = match relay.banned {
        0 => relay.principals.to_string(),
        banned => format!("{} ({banned} banned)", relay.principals),
    };
    [
        relay.relay.to_string(),
        state.to_owned(),
        relay.listen.to_string(),
        duration(relay.uptime_seconds),
        stats.hops.clients.to_string(),
        stats.hops.servers.to_string(),
        stats.routes.to_string(),
        bytes(stats.to_servers.bytes.saturating_add(stats.to_clients.bytes)),
        bytes(stats.dropped_bytes),
        stats.refused.values().fold(0u64, |sum, n| sum.saturating_add(*n)).to_string(),
        principals,
    ]
}

fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut amount = n as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::tests::{relay, status};

    #[test]
    fn a_table_has_a_line_for_each_relay_and_says_what_went_wrong() {
        let mut seven = relay(7);
        (seven.stats.to_servers.bytes, seven.stats.to_clients.bytes) = (1024 * 1024, 512 * 1024);
        seven.stats.refused = [("rate".to_owned(), 3), ("closed".to_owned(), 4)].into();
        (seven.principals, seven.banned, seven.uptime_seconds) = (12, 2, 90_000);
        seven.last_reload =
            Some(LastReload { unix_seconds: 1, error: Some("relay.toml:3: what".to_owned()) });
        let text = table(&status([relay(0), seven]));
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect())
            .collect();
        assert_eq!(lines[2][..4], ["0", "listening", "127.0.0.1:50000", "59 s"], "{text}");
        assert_eq!(
            lines[3],
            [
                "7",
                "listening",
                "127.0.0.1:50007",
                "1 d 1 h",
                "0",
                "0",
                "0",
                "1.5 MiB",
                "0 B",
                "7",
                "12 (2 banned)"
            ]
        );
        assert_eq!(
            text.lines().last(),
            Some("relay 7: the last reload did not take effect: relay.toml:3: what")
        );
    }

    #[test]
    fn amounts_have_a_fitting_unit() {
        assert_eq!(
            [0, 1023, 1024, 1 << 30, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.0 GiB", "16.0 EiB"]
        );
        assert_eq!([59, 60, 3_600, 7_260].map(duration), ["59 s", "1 min", "1 h 0 min", "2 h 1 min"]);
    }
}

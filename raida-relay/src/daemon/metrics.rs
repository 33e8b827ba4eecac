//! The numbers of the relays as Prometheus reads them.
//!
//! Labels are relay numbers and fixed words. Serial numbers and addresses of peers are none: they would make a series
//! for each peer, without a bound, and tell whoever reads the metrics who talks when.

use super::status::{Hops, Process, RelayStatus, Source, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// In front of every name.
const PREFIX: &str = "raida_relay";

/// The media type of [`text`].
pub(crate) use prometheus_text::CONTENT_TYPE;

/// Reads the relays when Prometheus does.
struct Relays<S>(S);

impl<S> fmt::Debug for Relays<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relays")
    }
}

/// The registry of a process; encode it with [`text`].
pub(crate) fn registry(source: impl Source) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Relays(source)));
    registry
}

/// All metrics in Prometheus' text format.
pub(crate) fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry)?;
    Ok(text)
}

/// A label beside the relay's number, and a value.
type Sample<'r> = (Option<(&'static str, &'r str)>, u64);

/// One scrape.
struct Page<'e, 's> {
    encoder: DescriptorEncoder<'e>,
    status: &'s Status,
    /// The number of each relay, as a label.
    numbers: Vec<String>,
}

impl Page<'_, '_> {
    fn family(
        &mut self,
        kind: MetricType,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        samples: impl for<'r> Fn(&'r RelayStatus) -> Vec<Sample<'r>>,
    ) -> fmt::Result {
        let name = format!("{PREFIX}_{name}");
        let mut family = self.encoder.encode_descriptor(&name, help, unit, kind)?;
        for (relay, number) in self.status.relays.iter().zip(&self.numbers) {
            for (label, value) in samples(relay) {
                let labels: Vec<_> = [("relay", number.as_str())].into_iter().chain(label).collect();
                let sample = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(sample)?,
                    _ => ConstGauge::new(value).encode(sample)?,
                }
            }
        }
        Ok(())
    }

    fn gauge(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: fn(&RelayStatus) -> u64,
    ) -> fmt::Result {
        self.family(MetricType::Gauge, name, unit, help, |relay| vec![(None, value(relay))])
    }

    fn counter(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: fn(&RelayStatus) -> u64,
    ) -> fmt::Result {
        self.family(MetricType::Counter, name, unit, help, |relay| vec![(None, value(relay))])
    }

    fn process(&mut self) -> fmt::Result {
        let Process { resident_bytes, open_files } = self.status.process;
        let bytes = Some(&Unit::Bytes);
        for (name, unit, help, value) in [
            ("process_resident_memory", bytes, "Memory of the process.", resident_bytes),
            ("process_open_fds", None, "Open files and sockets of the process.", open_files),
        ] {
            let Some(value) = value else { continue };
            let metric = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

impl<S: Source> Collector for Relays<S> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.status();
        let name = format!("{PREFIX}_build");
        let build =
            encoder.encode_descriptor(&name, "The version of the program.", None, MetricType::Info)?;
        Info::new([("version", status.version.as_str())]).encode(build)?;

        let numbers = status.relays.iter().map(|relay| relay.relay.to_string()).collect();
        let mut page = Page { encoder, status: &status, numbers };
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        page.gauge("listening", None, "1 while the relay takes connections.", |r| r.listening.into())?;
        page.gauge("draining", None, "1 while the relay takes no more and ends.", |r| r.draining.into())?;
        page.gauge("uptime", seconds, "Time since the relay started.", |r| r.uptime_seconds)?;
        page.gauge("banned_principals", None, "Principals that are banned.", |r| r.banned)?;
        page.gauge("principals", None, "Principals in the store, banned ones included.", |r| r.principals)?;
        page.family(
            MetricType::Gauge,
            "last_reload_success",
            None,
            "1 if the last reload took effect.",
            |r| r.last_reload.iter().map(|reload| (None, reload.error.is_none().into())).collect(),
        )?;
        page.family(
            MetricType::Gauge,
            "last_reload_timestamp",
            seconds,
            "When it was, in Unix time.",
            |r| r.last_reload.iter().map(|reload| (None, reload.unix_seconds)).collect(),
        )?;

        page.gauge("connections", None, "Accepted TCP connections.", |r| r.stats.connections)?;
        page.family(MetricType::Gauge, "hops", None, "Hops whose handshake is finished.", |r| {
            let Hops { clients, servers } = r.stats.hops;
            vec![(Some(("role", "client")), clients), (Some(("role", "server")), servers)]
        })?;
        page.gauge("routes", None, "Routes of all clients.", |r| r.stats.routes)?;
        page.gauge("queued", bytes, "Bytes that wait for sockets and for servers.", |r| {
            r.stats.queued_bytes
        })?;
        let directions = |to_servers, to_clients| {
            vec![
                (Some(("direction", "to_servers")), to_servers),
                (Some(("direction", "to_clients")), to_clients),
            ]
        };
        page.family(MetricType::Counter, "forwarded", bytes, "DATA payload taken for forwarding.", |r| {
            directions(r.stats.to_servers.bytes, r.stats.to_clients.bytes)
        })?;
        page.family(MetricType::Counter, "forwarded_frames", None, "Frames taken for forwarding.", |r| {
            directions(r.stats.to_servers.frames, r.stats.to_clients.frames)
        })?;
        page.counter("dropped", bytes, "DATA payload dropped because a queue was full.", |r| {
            r.stats.dropped_bytes
        })?;
        let help = "Incoming connections that did not become a hop.";
        page.family(MetricType::Counter, "refused_connections", None, help, |r| {
            r.stats.refused.iter().map(|(cause, n)| (Some(("cause", cause.as_str())), *n)).collect()
        })?;
        page.counter("dials", None, "Attempts to dial a server.", |r| r.stats.dials)?;
        page.counter("dial_failures", None, "Dials that did not lead to a hop.", |r| r.stats.dial_failures)?;
        let help = "Dials that failed since the last one that led to a hop.";
        page.gauge("dial_failures_in_a_row", None, help, |r| r.stats.dial_failures_in_a_row)?;
        page.process()
    }
}

#[cfg(test)]
mod tests;

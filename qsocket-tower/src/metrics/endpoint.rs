use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use qsocket::{Endpoint, EndpointStats, PathId, RelayStats};
use std::fmt;

/// What an endpoint knows of its 25 relays, as Prometheus reads it: who is slow, who is missing, who lies.
///
/// | metric | labels | |
/// |---|---|---|
/// | `qsocket_paths_well` | | hops that stand, 0 to 25; below 16 no connection opens |
/// | `qsocket_connections` | | connections that are not over |
/// | `qsocket_blocks_total` | `direction` | blocks sent and received |
/// | `qsocket_stripes_sent_total`, `qsocket_stripes_resent_total` | | |
/// | `qsocket_relay_up` | `relay` | 1 while the hop to it stands |
/// | `qsocket_relay_rtt_seconds` | `relay` | lowest smoothed round trip of a connection through it; none if not measured |
/// | `qsocket_relay_bytes_total` | `relay`, `direction` | DATA payload `sent` and `received` |
/// | `qsocket_relay_lost_bytes_total` | `relay` | sent through it and known to be lost |
/// | `qsocket_relay_repaired_stripes_total` | `relay` | data stripes of its that were recovered from others |
/// | `qsocket_relay_connections` | `relay`, `status` | connections whose path through it is `live` or `suspect` |
/// | `qsocket_relay_failed_opens_total` | `relay` | what it brought and did not open: it was altered |
/// | `qsocket_relay_distrusted_total` | `relay` | connections that read it no more for that |
/// | `qsocket_relay_false_shares_total` | `relay` | at a server: shares that were not the client's |
/// | `qsocket_relay_other_headers_total` | `relay` | at a server: headers that sixteen others contradict |
/// | `qsocket_relay_contrary_answers_total` | `relay` | answers about names that sixteen others contradict |
///
/// All have the label `network`. Who wants to hear of liars alerts on
/// `increase(qsocket_relay_distrusted_total[1h]) > 0 or increase(qsocket_relay_false_shares_total[1h]) > 0`.
///
/// ```
/// use prometheus_client::registry::Registry;
/// use qsocket_tower::metrics::EndpointMetrics;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let raida = qsocket_tower::testing::Raida::start()?;
/// let endpoint = raida.client()?; // or that of a listener: `listener.endpoint().clone()`
/// let mut registry = Registry::default();
/// registry.register_collector(Box::new(EndpointMetrics::new(endpoint)));
///
/// let mut text = String::new();
/// prometheus_client::encoding::text::encode(&mut text, &registry)?;
/// assert!(text.contains(r#"qsocket_relay_up{network="1",relay="24"}"#));
/// # Ok(()) }
/// ```
///
/// It keeps the endpoint alive. Each scrape looks at every connection of it.
///
/// # Security
/// Labels are relay numbers, the network's number and fixed words. No series says who talks with whom; the figures of an
/// endpoint with one connection are those of its one peer.
pub struct EndpointMetrics {
    endpoint: Endpoint,
}

impl EndpointMetrics {
    /// Tells of an endpoint in all its networks.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

impl fmt::Debug for EndpointMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EndpointMetrics").field(&self.endpoint.principal()).finish()
    }
}

/// A label beside the network's and the relay's number, and a value.
type Sample = (Option<(&'static str, &'static str)>, f64);

/// One scrape.
struct Page<'e> {
    encoder: DescriptorEncoder<'e>,
    networks: Vec<EndpointStats>,
}

impl Page<'_> {
    fn family(
        &mut self,
        kind: MetricType,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        samples: impl Fn(&EndpointStats) -> Vec<(Option<PathId>, Sample)>,
    ) -> fmt::Result {
        let name = format!("qsocket_{name}");
        let mut family = self.encoder.encode_descriptor(&name, help, unit, kind)?;
        for stats in &self.networks {
            let network = stats.network.to_string();
            for (relay, (label, value)) in samples(stats) {
                let relay = relay.map(|relay| relay.to_string());
                let relay = relay.as_deref().map(|number| ("relay", number));
                let labels: Vec<_> =
                    [("network", network.as_str())].into_iter().chain(relay).chain(label).collect();
                let sample = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(sample)?,
                    _ => ConstGauge::new(value).encode(sample)?,
                }
            }
        }
        Ok(())
    }

    /// One for each network.
    fn whole(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        samples: impl Fn(&EndpointStats) -> Vec<Sample>,
    ) -> fmt::Result {
        self.family(kind, name, None, help, |stats| {
            samples(stats).into_iter().map(|sample| (None, sample)).collect()
        })
    }

    /// One for each relay.
    fn relays(
        &mut self,
        kind: MetricType,
        (name, unit): (&str, Option<&Unit>),
        help: &str,
        samples: impl Fn(&RelayStats) -> Vec<Sample>,
    ) -> fmt::Result {
        self.family(kind, name, unit, help, |stats| {
            let relays = PathId::all().zip(&stats.relays);
            relays
                .flat_map(|(path, relay)| samples(relay).into_iter().map(move |s| (Some(path), s)))
                .collect()
        })
    }

    fn counted(&mut self, name: &str, help: &str, value: impl Fn(&RelayStats) -> u64) -> fmt::Result {
        self.relays(MetricType::Counter, (name, None), help, |relay| vec![number(value(relay))])
    }
}

/// A figure without a label of its own. Counts are exact up to 2^53.
fn number(value: u64) -> Sample {
    (None, value as f64)
}

fn labelled(label: &'static str, values: [(&'static str, u64); 2]) -> Vec<Sample> {
    values.map(|(word, value)| (Some((label, word)), value as f64)).into()
}

impl Collector for EndpointMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use MetricType::{Counter, Gauge};
        let networks = self.endpoint.networks();
        let networks = networks.into_iter().filter_map(|n| Some(self.endpoint.in_network(n)?.stats()));
        let mut page = Page { encoder, networks: networks.collect() };
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));

        let help = "Hops that stand, of 25. Below 16 no connection opens.";
        page.whole(Gauge, "paths_well", help, |s| vec![number(s.health.well() as u64)])?;
        let help = "Connections that are not over.";
        page.whole(Gauge, "connections", help, |s| vec![number(s.connections as u64)])?;
        page.whole(Counter, "blocks", "Blocks, without resends.", |s| {
            labelled("direction", [("sent", s.blocks_sent), ("received", s.blocks_received)])
        })?;
        page.whole(Counter, "stripes_sent", "Stripes sent, resends included.", |s| {
            vec![number(s.stripes_sent)]
        })?;
        page.whole(Counter, "stripes_resent", "Stripes sent again.", |s| vec![number(s.stripes_resent)])?;

        let help = "1 while the hop to the relay stands.";
        page.relays(Gauge, ("relay_up", None), help, |r| vec![number(r.hop_up.into())])?;
        let help = "Lowest smoothed round trip of a connection through the relay.";
        page.relays(Gauge, ("relay_rtt", seconds), help, |r| {
            r.rtt.iter().map(|rtt| (None, rtt.as_secs_f64())).collect()
        })?;
        page.relays(Counter, ("relay", bytes), "DATA payload.", |r| {
            labelled("direction", [("sent", r.sent_bytes), ("received", r.received_bytes)])
        })?;
        let help = "DATA payload sent through the relay and known to be lost.";
        page.relays(Counter, ("relay_lost", bytes), help, |r| vec![number(r.lost_bytes)])?;
        let help = "Data stripes that the relay did not bring and that were recovered.";
        page.counted("relay_repaired_stripes", help, |r| r.repaired_stripes)?;
        let help = "Connections by how their path through the relay stands.";
        page.relays(Gauge, ("relay_connections", None), help, |r| {
            labelled("status", [("live", r.live as u64), ("suspect", r.suspect as u64)])
        })?;
        let help = "What the relay brought and did not open: it was altered.";
        page.counted("relay_failed_opens", help, |r| r.failed_opens)?;
        let help = "Connections that read the relay no more, because what it brought did not open.";
        page.counted("relay_distrusted", help, |r| r.distrusted)?;
        let help = "Shares that the relay brought and that were not the client's.";
        page.counted("relay_false_shares", help, |r| r.false_shares)?;
        let help = "Headers that the relay brought and sixteen others contradict.";
        page.counted("relay_other_headers", help, |r| r.other_headers)?;
        let help = "Answers about names that the relay gave and sixteen others contradict.";
        page.counted("relay_contrary_answers", help, |r| r.contrary_answers)
    }
}

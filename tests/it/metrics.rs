//! What Prometheus reads of an endpoint whose relays lie.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::liar::Lie;
use crate::lying::{ENOUGH, NINE, World, exchange, exchange_until, read_no_more};
use prometheus_client::registry::Registry;
use qsocket::{Endpoint, PathId};
use qsocket_tower::metrics::EndpointMetrics;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;
use tokio::time::sleep;

struct Scraped(String);

impl Scraped {
    fn of(endpoint: &Endpoint) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(EndpointMetrics::new(endpoint.clone())));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        Self(text)
    }

    /// The sample of this name and these labels.
    fn get(&self, name: &str, labels: &str) -> Option<f64> {
        let sample = format!("qsocket_{name}{{network=\"1\"{labels}}} ");
        self.0.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok())
    }

    fn whole(&self, name: &str) -> f64 {
        self.get(name, "").unwrap_or_else(|| panic!("{name}: {}", self.0))
    }

    fn relay(&self, name: &str, relay: u8) -> f64 {
        self.get(name, &format!(",relay=\"{relay}\"")).unwrap_or_else(|| panic!("{name}: {}", self.0))
    }

    fn bytes(&self, relay: u8, direction: &str) -> f64 {
        let labels = format!(",relay=\"{relay}\",direction=\"{direction}\"");
        self.get("relay_bytes_total", &labels).unwrap_or_else(|| panic!("{}", self.0))
    }

    fn connections(&self, relay: u8, status: &str) -> f64 {
        let labels = format!(",relay=\"{relay}\",status=\"{status}\"");
        self.get("relay_connections", &labels).unwrap_or_else(|| panic!("{}", self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_name_the_relays_that_alter_what_they_carry() -> io::Result<()> {
    let world = World::start(NINE).await?;
    let ends = [&world.client, world.listener.endpoint()];
    let (mut here, mut there) = world.open_on_all().await?;
    for scraped in ends.map(Scraped::of) {
        assert_eq!((scraped.whole("paths_well"), scraped.whole("connections")), (25.0, 1.0));
        for relay in 0..25 {
            assert_eq!(scraped.relay("relay_up", relay), 1.0);
            assert_eq!(scraped.relay("relay_failed_opens_total", relay), 0.0);
            assert_eq!(scraped.connections(relay, "live"), 1.0);
        }
    }
    world.liars.lie(&[Lie::Flip]);
    exchange_until(&mut here, &mut there, read_no_more(NINE.len())).await?;
    let before = ends.map(Scraped::of);
    let mut named = BTreeSet::new();
    for scraped in &before {
        let mut repaired = 0.0;
        for relay in 0..25 {
            let failed = scraped.relay("relay_failed_opens_total", relay);
            let distrusted = scraped.relay("relay_distrusted_total", relay);
            assert!(NINE.contains(&relay) || failed == 0.0, "relay {relay} is honest: {failed}");
            assert_eq!(distrusted, f64::from(u8::from(failed == ENOUGH as f64)), "relay {relay}: {failed}");
            if distrusted > 0.0 {
                named.insert(relay);
                assert_eq!(scraped.connections(relay, "live"), 0.0, "relay {relay}");
            }
            assert_eq!(scraped.relay("relay_false_shares_total", relay), 0.0);
            assert!(scraped.bytes(relay, "sent") > 0.0 && scraped.bytes(relay, "received") > 0.0);
            assert!(scraped.relay("relay_rtt_seconds", relay) >= 0.0);
            repaired += scraped.relay("relay_repaired_stripes_total", relay);
        }
        assert!(repaired > 0.0);
        assert!(scraped.whole("stripes_sent_total") > 0.0);
        assert!(scraped.get("blocks_total", ",direction=\"received\"").unwrap() > 0.0);
    }
    assert_eq!(named, NINE.into(), "by one end or the other");
    let stats = ends.map(Endpoint::stats);
    let lies = |path: &PathId| stats.iter().any(|stats| stats.relay(*path).lies());
    assert_eq!(PathId::all().filter(lies).map(PathId::get).collect::<BTreeSet<_>>(), named);

    // The connection ends; what was counted stays.
    drop((here, there));
    let over = async {
        while world.client.stats().connections + world.listener.endpoint().stats().connections > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), over).await?;
    for (scraped, before) in ends.map(Scraped::of).iter().zip(&before) {
        assert_eq!(scraped.whole("connections"), 0.0);
        for relay in 0..25 {
            for name in ["relay_failed_opens_total", "relay_distrusted_total", "relay_repaired_stripes_total"]
            {
                assert_eq!(scraped.relay(name, relay), before.relay(name, relay), "{name} of {relay}");
            }
            assert!(scraped.bytes(relay, "received") >= before.bytes(relay, "received"));
            assert_eq!(scraped.connections(relay, "live"), 0.0);
            assert_eq!(scraped.get("relay_rtt_seconds", &format!(",relay=\"{relay}\"")), None);
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn metrics_name_the_relays_that_bring_false_shares_and_those_that_are_away() -> io::Result<()> {
    let world = World::start([2, 5]).await?;
    world.liars.lie(&[Lie::Share]);
    let (mut here, mut there) = world.open().await?;
    exchange(&mut here, &mut there).await?;
    let away = PathId::new(9).unwrap();
    world.raida.stop_relay(away).await;
    let gone = async {
        for mut health in [world.client.health(), world.listener.endpoint().health()] {
            health.wait_for(|health| health.well() == 24).await.map_err(io::Error::other)?;
        }
        io::Result::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await??;
    let (client, server) = (Scraped::of(&world.client), Scraped::of(world.listener.endpoint()));
    for relay in 0..25 {
        let lies = f64::from(u8::from([2, 5].contains(&relay)));
        assert_eq!(server.relay("relay_false_shares_total", relay), lies, "relay {relay}");
        assert_eq!(
            client.relay("relay_false_shares_total", relay),
            0.0,
            "a client sees no shares but its own"
        );
        let up = f64::from(u8::from(relay != 9));
        assert_eq!((client.relay("relay_up", relay), server.relay("relay_up", relay)), (up, up));
    }
    assert_eq!((client.whole("paths_well"), server.whole("paths_well")), (24.0, 24.0));
    Ok(())
}

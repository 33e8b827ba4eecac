use super::*;
use crate::daemon::cli::{Cli, Command};
use clap::Parser;
use qsocket_proto::ids::{PathId, Principal};
use qsocket_proto::names::{Name, PutName, Record};
use std::num::NonZeroU32;
use std::path::PathBuf;

const OWNER: Principal = Principal { network: 1, denomination: 0, serial: 1042 };

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let text = "relay = 7\nnetwork = 1\nlisten = \"127.0.0.1:0\"\nstore = \"principals.db\"\n\
                    [names]\nfirst = 500\ncurrency = \"EUR\"\n";
        std::fs::write(place.config(), text).unwrap();
        place
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    /// What the relay keeps, as its process sees it.
    async fn registry(&self) -> Registry {
        open(&StoreArgs { config: self.config() }).await.unwrap()
    }

    async fn register(&self, label: &str, n: u8) {
        let registry = self.registry().await;
        let record = Record {
            name: Name::parse(label).unwrap(),
            number: NonZeroU32::new(n.into()).unwrap(),
            owner: OWNER,
            version: NonZeroU32::MIN,
            begin: registry.now(),
            ttl: 300,
            server: Some(Principal { serial: 7, ..OWNER }),
            service: Some("192.0.2.7:443".parse().unwrap()),
            signalling: Some(std::num::NonZeroU16::new(8443).unwrap()),
            endpoints: [(PathId::new(3).unwrap(), "192.0.2.7:50003".parse().unwrap())].into(),
        };
        let put = PutName { record, years: 1, reference: Reference([n; 16]) };
        registry.put(OWNER, &put, |_| true).await.unwrap().unwrap();
    }

    /// What a command prints, or why it fails.
    async fn run(&self, args: &[&str]) -> Result<String, String> {
        let config = self.config().display().to_string();
        let args = ["raida-relay"].iter().chain(args).copied().chain(["--config", &config]);
        let text = match Cli::try_parse_from(args).map_err(|e| e.to_string())?.command {
            Command::Names(args) => names_text(&args.command).await,
            Command::Payments(args) => payments_text(&args.command).await,
            _ => panic!("another command"),
        };
        text.map_err(|e| format!("{e:#}"))
    }
}

fn reference(n: u8) -> String {
    Reference([n; 16]).to_string()
}

#[tokio::test]
async fn an_operator_confirms_refuses_and_takes_away() {
    let place = Place::new();
    assert_eq!(place.run(&["names", "list"]).await, Ok(String::new()));
    assert_eq!(place.run(&["payments", "list", "--json"]).await, Ok("[]\n".to_owned()));
    for (label, n) in [("cloudcoin", 1), ("bücher", 2), ("third", 3)] {
        place.register(label, n).await;
    }
    let open = place.run(&["payments", "list"]).await.unwrap();
    assert_eq!(open.lines().count(), 3);
    let line = open.lines().find(|line| line.starts_with(&reference(1))).unwrap();
    assert!(line.contains("cloudcoin.raida  1.0.1042  registration of 1 year  500 EUR  asked 20"), "{line}");
    let listed = place.run(&["names", "list"]).await.unwrap();
    assert!(
        listed.contains("xn--bcher-kva.raida (bücher.raida)  2  1.0.1042  pending, free from 20"),
        "{listed}"
    );

    // One of two is unknown: the other is done all the same, and it may be said again.
    let mixed = place.run(&["payments", "confirm", &reference(1), &reference(9), "--by", "Ann"]).await;
    assert!(mixed.unwrap_err().contains(&format!("no payment {} waits", reference(9))));
    let again = place.run(&["payments", "confirm", &reference(1)]).await.unwrap();
    assert!(again.starts_with("confirmed 500 EUR for cloudcoin.raida: active until 20"), "{again}");
    let refused = place.run(&["payments", "refuse", &reference(2), "--by", "Ann"]).await.unwrap();
    assert_eq!(refused, "refused 500 EUR for xn--bcher-kva.raida: free\n");
    for (args, part) in [
        (["payments", "refuse", &reference(1)], "was confirmed already"),
        (["payments", "confirm", &reference(2)], "was refused, or its name is gone already"),
    ] {
        let error = place.run(&args).await.unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(place.run(&["payments", "list"]).await.unwrap().lines().count(), 1);
    let ledger = place.run(&["payments", "list", "--all"]).await.unwrap();
    assert!(ledger.lines().any(|line| line.contains("confirmed 20") && line.ends_with("by Ann")), "{ledger}");

    let shown = place.run(&["names", "show", "CloudCoin"]).await.unwrap();
    for part in ["active until 20", "version 1, time to live 300 s", "server 1.0.7", "service 192.0.2.7:443"]
    {
        assert!(shown.contains(part), "{shown}");
    }
    for part in ["signalling port 8443", "relay 3 at 192.0.2.7:50003"] {
        assert!(shown.contains(part), "{shown}");
    }
    let json = place.run(&["names", "show", "cloudcoin.raida", "--json"]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["state"], &json["number"], &json["ttl"]), (&"active".into(), &1.into(), &300.into()));
    assert_eq!(json["endpoints"]["3"], "192.0.2.7:50003");
    let json = place.run(&["payments", "list", "--all", "--json"]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let row = json.as_array().unwrap().iter().find(|row| row["reference"] == reference(1)).unwrap();
    assert_eq!(
        (&row["state"], &row["decided_by"], &row["amount"]),
        (&"confirmed".into(), &"Ann".into(), &500.into())
    );

    assert_eq!(
        place.run(&["names", "withdraw", "cloudcoin"]).await,
        Ok("withdrew cloudcoin.raida\n".to_owned())
    );
    for args in [["names", "withdraw", "cloudcoin"], ["names", "show", "cloudcoin"]] {
        assert!(place.run(&args).await.unwrap_err().contains("nobody holds cloudcoin.raida at this relay"));
    }
    assert!(place.registry().await.resolve(&Name::parse("cloudcoin").unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_the_command_line() {
    let place = Place::new();
    for (args, part) in [
        (&["names", "show", "a.b"][..], "a name is one label"),
        (&["names", "withdraw"], "NAME"),
        (&["payments", "confirm"], "REFERENCE"),
        (&["payments", "confirm", "12"], "a payment reference is 32 hex digits"),
        (&["payments", "confirm", &reference(1), "--by", "a\nb"], "write 1 to 64 characters"),
        (&["payments", "confirm", &reference(1), "--by", ""], "write 1 to 64 characters"),
    ] {
        let error = place.run(args).await.unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn moments_are_written_as_dates() {
    assert_eq!(date(1_800_000_000), "2027-01-15T08:00:00Z");
    assert_eq!(date(u64::MAX), u64::MAX.to_string());
    assert!(!user().is_empty());
}

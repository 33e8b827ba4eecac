//! `qsocket lookup` and `qsocket name`, as an owner runs them, over relays that take, miss and forget.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use qsocket::PathId;
use qsocket::keys::KeyStore;
use qsocket::names::{PutName, Reference};
use qsocket::provision::Provision;
use raida_relay::{LocalRaida, LocalServer};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// 25 relays that know three clients and a server, and a folder with the clients' configurations.
struct World {
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    relays: LocalRaida,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let keys = Provision::generate(1, 3, 1).unwrap();
        let relays = runtime.block_on(async {
            LocalRaida::builder().start_with_keys(keys.keys(), Vec::<LocalServer>::new()).unwrap()
        });
        let lines: Vec<_> = relays.addresses().iter().map(|address| format!("\"{address}\"")).collect();
        for client in &keys.clients {
            let serial = client.principal().serial;
            let store = KeyStore::create(folder.path().join(format!("keys{serial}"))).unwrap();
            store.install_raida_key(client).unwrap();
            let config = format!(
                "key = \"keys{serial}/raida/{}.client.toml\"\n[raida]\nnetwork = 1\nrelays = [{}]\n\
                 [dns]\nserver = \"127.0.0.1:1\"\n",
                client.principal(),
                lines.join(", ")
            );
            let file = folder.path().join(format!("{serial}.toml"));
            fs::write(&file, config).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { folder, runtime, relays }
    }

    /// Runs the program as one of the clients.
    fn run(&self, who: u32, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qsocket"));
        let config = format!("{who}.toml");
        command.args(args).args(["--config", &config]).current_dir(self.folder.path());
        command.stdin(Stdio::null()).env_remove("QSOCKET_CONFIG").output().unwrap()
    }

    fn ends(&self, who: u32, code: i32, args: &[&str]) -> (String, String) {
        let out = self.run(who, args);
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        assert_eq!(out.status.code(), Some(code), "{args:?}: {stdout}{stderr}");
        (stdout, stderr)
    }

    fn done(&self, who: u32, args: &[&str]) -> String {
        self.ends(who, 0, args).0
    }

    fn json(&self, who: u32, code: i32, args: &[&str]) -> Value {
        let (out, _) = self.ends(who, code, &[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    fn fails(&self, who: u32, args: &[&str]) -> String {
        let (_, error) = self.ends(who, 1, args);
        assert!(error.starts_with("qsocket: ") && !error.contains("panicked"), "{error}");
        error
    }

    /// The operators of all relays see the payment; returns at how many it was asked.
    fn confirm(&self, reference: &str) -> usize {
        let reference: Reference = reference.parse().unwrap();
        self.runtime.block_on(self.relays.confirm_payment(reference))
    }

    fn stop(&self, relays: std::ops::Range<u8>) {
        for relay in relays {
            self.runtime.block_on(self.relays.stop_relay(PathId::new(relay).unwrap()));
        }
    }

    fn start(&self, relays: std::ops::Range<u8>) {
        let _runtime = self.runtime.enter();
        for relay in relays {
            self.relays.start_relay(PathId::new(relay).unwrap()).unwrap();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Registered, paid, looked up, changed, renewed, transferred and given back.
#[test]
fn the_life_of_a_name() {
    let world = World::new();
    let register = ["name", "register", "CloudCoin", "--server", "1.0.4", "--address", "192.0.2.7:7000"];
    let told = world.json(1, 0, &[&register[..], &["--signalling", "7075", "--years", "2"]].concat());
    assert_eq!(
        (text_of(&told["name"]), &told["registered"], &told["years"]),
        ("cloudcoin.raida", &true.into(), &2.into())
    );
    let relays = told["relays"].as_array().unwrap();
    assert_eq!(relays.len(), 25);
    assert!(
        relays
            .iter()
            .all(|relay| relay["due"] == 3000 && relay["currency"] == "USD" && relay["state"] == "pending")
    );
    let error = world.fails(2, &["lookup", "cloudcoin.raida"]);
    assert!(error.contains("not registered, or not active: 16 relays say so"), "{error}");
    assert_eq!(world.confirm(text_of(&told["reference"])), 25);

    let found = world.json(2, 0, &["lookup", "cloudcoin.raida"]);
    assert_eq!((text_of(&found["trust"]), text_of(&found["server"])), ("vouched", "1.0.4"));
    assert_eq!((&found["number"], text_of(&found["signalling"][0])), (&told["number"], "192.0.2.7:7075"));
    let shown = world.done(2, &["lookup", "cloudcoin.raida"]);
    assert!(shown.contains("server:      1.0.4\n") && shown.contains("25 relays say so"), "{shown}");

    // What is not named stays.
    let set =
        ["name", "set", "cloudcoin", "--base", "192.0.2.10:50000", "--endpoint", "3=none", "--ttl", "60"];
    assert!(world.done(1, &set).contains("Version 2 is known at 25 relays"));
    let shown = world.json(1, 0, &["name", "show", "cloudcoin.raida"]);
    let record = &shown["relays"][24]["record"];
    assert_eq!((&record["version"], text_of(&record["address"])), (&2.into(), "192.0.2.7:7000"));
    assert_eq!(record["endpoints"].as_object().unwrap().len(), 24);
    assert_eq!(shown["relays"][0]["payments"][0]["state"], "confirmed");
    assert!(
        world.done(1, &["name", "set", "cloudcoin"]).contains("Version 2 is known at 25 relays"),
        "said again"
    );

    // Others see it, and cannot touch it.
    let error = world.fails(2, &["name", "set", "cloudcoin", "--server", "1.0.2"]);
    assert!(error.contains("no ten relays say alike that cloudcoin.raida is yours"), "{error}");
    let error = world.fails(2, &["name", "register", "cloudcoin"]);
    assert!(error.contains("free at 0 relays, 16 are needed") && error.contains("active"), "{error}");
    world.ends(2, 1, &["name", "withdraw", "cloudcoin", "--yes"]);
    let error = world.fails(1, &["name", "register", "cloudcoin"]);
    assert!(error.contains("is yours already, version 2"), "{error}");

    let renewed = world.json(1, 0, &["name", "renew", "cloudcoin", "--years", "3"]);
    assert!(renewed["relays"].as_array().unwrap().iter().all(|relay| relay["due"] == 3000));
    let until = |shown: &Value| text_of(&shown["relays"][0]["until"])[..4].parse::<u32>().unwrap();
    let before = until(&world.json(1, 0, &["name", "show", "cloudcoin"]));
    assert_eq!(world.confirm(text_of(&renewed["reference"])), 25);
    let after = until(&world.json(1, 0, &["name", "show", "cloudcoin"]));
    assert!((2..=3).contains(&(after - before)), "three years of 365 days: {before}, {after}");

    assert!(
        world
            .done(1, &["name", "transfer", "cloudcoin", "1.0.2", "--yes"])
            .contains("is the name of 1.0.2 at 25 relays")
    );
    assert!(
        world
            .done(1, &["name", "transfer", "cloudcoin", "1.0.2", "--yes"])
            .contains("is the name of 1.0.2 at 25 relays"),
        "said again"
    );
    assert!(world.done(2, &["name", "set", "cloudcoin", "--server", "none"]).contains("Version 4 is known"));
    assert_eq!(world.json(3, 0, &["lookup", "cloudcoin.raida"])["server"], Value::Null);
    assert!(world.done(2, &["name", "withdraw", "cloudcoin", "--yes"]).contains("given back at 25 relays"));
    assert!(world.done(3, &["name", "show", "cloudcoin"]).contains("free at all 25 relays"));
    assert!(world.ends(1, 2, &["name", "withdraw", "cloudcoin"]).1.contains("--yes"));
}

/// Too few take it: it is given back, and somebody else can have it.
#[test]
fn a_name_that_fifteen_take_is_given_back() {
    let world = World::new();
    // Ten relays hold it for somebody else.
    let held = world.json(2, 0, &["name", "register", "chat"]);
    assert_eq!(held["registered"], true);
    for relay in 10..25 {
        let names = world.relays.names(PathId::new(relay).unwrap());
        world.runtime.block_on(names.withdraw(None, &"chat".parse().unwrap())).unwrap().unwrap();
    }
    let error = world.fails(1, &["name", "register", "chat"]);
    assert!(error.contains("free at 15 relays, 16 are needed"), "{error}");
    assert!(error.contains("pending at 10 relays (0 1 2 3 4 5 6 7 8 9)"), "{error}");
    world.done(2, &["name", "withdraw", "chat", "--yes"]);

    // Free at all when asked, and refused by ten when told: their quota is used up.
    for i in 0..16 {
        let put = |number| PutName {
            record: record(&format!("other{i}"), number),
            years: 1,
            reference: Reference([number as u8; 16]),
        };
        for relay in 0..10 {
            let names = world.relays.names(PathId::new(relay).unwrap());
            let owner = "1.0.1".parse().unwrap();
            world.runtime.block_on(names.put(owner, &put(i + 1), |_| true)).unwrap().unwrap();
        }
    }
    let told = world.json(1, 1, &["name", "register", "chat"]);
    assert_eq!(told["registered"], false);
    assert_eq!(told["given_back"].as_array().unwrap().len(), 15);
    let (told, _) = world.ends(1, 1, &["name", "register", "chat"]);
    assert!(told.contains("15 relays take it, 16 are needed"), "{told}");
    assert!(told.contains("10 relays (0 1 2 3 4 5 6 7 8 9): the quota is used up"), "{told}");
    assert!(world.done(3, &["name", "register", "chat"]).contains("registered at 25 relays"));
}

fn record(name: &str, number: u32) -> qsocket::names::Record {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    qsocket::names::Record {
        name: name.parse().unwrap(),
        number: number.try_into().unwrap(),
        owner: "1.0.1".parse().unwrap(),
        version: std::num::NonZeroU32::MIN,
        begin: now.as_secs(),
        ttl: 300,
        server: None,
        service: None,
        signalling: None,
        endpoints: Default::default(),
    }
}

/// Relays that were away hear it later.
#[test]
fn what_a_relay_missed_is_repeated() {
    let world = World::new();
    world.stop(0..4);
    let told = world.json(1, 0, &["name", "register", "bitcoin", "--server", "1.0.4"]);
    assert_eq!(
        told["relays"].as_array().unwrap().iter().filter(|relay| relay["error"].is_string()).count(),
        4
    );
    world.start(0..4);
    let told = world.done(1, &["name", "set", "bitcoin"]);
    assert!(told.contains("Version 1 is known at 25 relays"), "{told}");
    assert!(told.contains("to pay: 2000 USD to all 25 relays"), "{told}");
    let shown = world.json(1, 0, &["name", "show", "bitcoin"]);
    let references: std::collections::BTreeSet<_> =
        (0..25).map(|i| shown["relays"][i]["payments"][0]["reference"].to_string()).collect();
    assert_eq!(references.len(), 1, "the same reference at all");
}

/// Nine relays that lie to an owner change nothing that he says next.
#[test]
fn a_lie_to_an_owner_is_not_said_on() {
    let world = World::new();
    let told =
        world.json(1, 0, &["name", "register", "bank", "--server", "1.0.4", "--address", "192.0.2.7:443"]);
    assert_eq!(world.confirm(text_of(&told["reference"])), 25);
    let mut lie = record("bank", told["number"].as_u64().unwrap() as u32);
    lie.server = Some("1.0.3".parse().unwrap());
    lie.version = std::num::NonZeroU32::new(9).unwrap();
    let reference = text_of(&told["reference"]).parse().unwrap();
    for relay in 0..9 {
        let names = world.relays.names(PathId::new(relay).unwrap());
        let held = world.runtime.block_on(names.find(&lie.name)).unwrap().unwrap().held.record;
        lie.begin = held.begin;
        let put = PutName { record: lie.clone(), years: 1, reference };
        world.runtime.block_on(names.put(lie.owner, &put, |_| true)).unwrap().unwrap();
    }
    let told = world.done(1, &["name", "set", "bank", "--ttl", "600"]);
    assert!(told.contains("Version 10 is known at 25 relays"), "{told}");
    assert_eq!(world.json(2, 0, &["lookup", "bank.raida"])["server"], "1.0.4");
}

#[test]
fn what_is_wrong_is_said() {
    let world = World::new();
    for (args, says) in [
        (&["name", "register", "ab"][..], "3 to 63 bytes"),
        (&["name", "register", "a.b"], "a name is one label"),
        (&["name", "register", "chat", "--years", "11"], "1..=10"),
        (&["name", "set", "chat", "--endpoint", "25=192.0.2.1:1"], "write a relay and where it is"),
        (&["name", "set", "chat", "--ttl", "59"], "60..=86400"),
    ] {
        let (_, error) = world.ends(1, 2, args);
        assert!(error.contains(says), "{args:?}: {error}");
    }
    let error = world.fails(1, &["name", "register", "chat", "--signalling", "7075"]);
    assert!(error.contains("name it with --address"), "{error}");
    let error = world.fails(1, &["name", "register", "chat", "--address", "0.0.0.0:1"]);
    assert!(error.contains("relays would refuse this"), "{error}");
    let error = world.fails(1, &["name", "register", "localhost"]);
    assert!(error.contains("reserved at all 25 relays"), "{error}");
    // Nobody answers at the DNS server of the configuration.
    let error = world.fails(1, &["lookup", "wiki.example"]);
    assert!(error.contains("the DNS server 127.0.0.1:1 does not tell about wiki.example"), "{error}");
    let error = world.fails(1, &["exchange", "wiki.example"]);
    assert!(error.contains("names no folder for the key"), "{error}");
}

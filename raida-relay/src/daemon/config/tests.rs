use super::*;

const WHOLE: &str = r#"relay = 7
network = 1
listen = "0.0.0.0:50007"
store = "principals.db"
operator = "Example Ltd"
region = "eu-west"
dial_any_address = true
[admin]
listen = "127.0.0.1:9907"
[limits]
hops_per_address = 65
connections = 100
handshakes_per_second = 33
handshake_seconds = 4
stalled_seconds = 44
drain_seconds = 0
[log]
level = "info,raida_relay=debug"
format = "json"
"#;

const SHORT: &str = "relay = 0\nnetwork = 9\nlisten = \"[::1]:0\"\nstore = \"/var/lib/r/p.db\"\n";

fn read(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.toml");
    std::fs::write(&path, text).unwrap();
    let folder = dir.path().display().to_string() + "/";
    Config::read(&path).map_err(|e| e.to_string().replace(&folder, ""))
}

#[test]
fn every_setting_is_read() {
    let config = read(WHOLE).unwrap();
    assert_eq!((config.relay.get(), config.network), (7, 1));
    assert_eq!(config.listen, "0.0.0.0:50007".parse().unwrap());
    assert_eq!(config.store, config.file.parent().unwrap().join("principals.db"));
    assert_eq!(config.operator.as_deref(), Some("Example Ltd"));
    assert_eq!(config.region.as_deref(), Some("eu-west"));
    assert!(config.dial_any_address);
    assert_eq!(config.admin, Some("127.0.0.1:9907".parse().unwrap()));
    let limits = config.limits;
    assert_eq!(
        (limits.hops_per_address, limits.connections, limits.handshakes_per_second.get()),
        (65, 100, 33)
    );
    let seconds = [limits.handshake, limits.stalled, limits.drain].map(|d| d.as_secs());
    assert_eq!(seconds, [4, 44, 0]);
    assert_eq!(config.log.level, "info,raida_relay=debug");
    assert_eq!(config.log.format, Format::Json);
    let limits = limits.limits();
    assert_eq!((limits.hops_per_address, limits.connections), (65, 100));
    assert_eq!(limits.handshakes_per_second.get(), 33);
    assert_eq!((limits.handshake.as_secs(), limits.stalled.as_secs()), (4, 44));
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = read(SHORT).unwrap();
    assert_eq!(config.store, Path::new("/var/lib/r/p.db"));
    assert_eq!((config.operator, config.region, config.admin), (None, None, None));
    assert!(!config.dial_any_address);
    assert_eq!(config.limits.limits(), Limits::default());
    assert_eq!(config.limits.handshakes_per_second.get(), 32);
    assert_eq!(config.limits.drain, Duration::from_secs(10));
    assert_eq!(config.log, LogSettings { level: "info".into(), format: Format::Text });
}

#[test]
fn every_error_names_its_line_and_what_to_write() {
    for (from, to, message) in [
        ("relay = 7", "relay = 25", "relay.toml:1: relay = 25 is out of range; write 0 to 24"),
        ("relay = 7", "relay = -1", "relay.toml:1: relay = -1 is out of range; write 0 to 24"),
        ("relay = 7", "relay = \"7\"", "relay.toml:1: invalid type"),
        ("relay = 7", "rely = 7", "relay.toml:1: unknown field `rely`"),
        ("network = 1", "network = 65536", "relay.toml:2: network = 65536 is out of range; write 0 to 65535"),
        (
            "0.0.0.0:50007",
            "relay.example:50007",
            "relay.toml:3: \"relay.example:50007\" is not an address; write",
        ),
        ("\"principals.db\"", "\"\"", "relay.toml:4: store names no file; write"),
        ("\"Example Ltd\"", "\"\"", "relay.toml:5: operator: write 1 to 64 characters"),
        ("eu-west", r"eu\nwest", "relay.toml:6: region: write 1 to 64 characters in one line"),
        ("dial_any_address = true", "dial_any_address = 1", "relay.toml:7: invalid type"),
        ("127.0.0.1:9907", "0.0.0.0:9907", "relay.toml:9: admin.listen = \"0.0.0.0:9907\" can be reached"),
        ("127.0.0.1:9907", "192.168.0.1:9907", "relay.toml:9: admin.listen = \"192.168.0.1:9907\" can be"),
        ("127.0.0.1:9907", "9907", "relay.toml:9: \"9907\" is not an address"),
        ("[admin]\nlisten", "[admin]\nport", "relay.toml:9: unknown field `port`"),
        (
            "hops_per_address = 65",
            "hops_per_address = 0",
            "relay.toml:11: limits.hops_per_address = 0 is out",
        ),
        (
            "connections = 100",
            "connections = 0",
            "relay.toml:12: limits.connections = 0 is out of range; write 1",
        ),
        ("_second = 33", "_second = 0", "relay.toml:13: limits.handshakes_per_second = 0 is out of range"),
        (
            "handshake_seconds = 4",
            "handshake_seconds = 6",
            "relay.toml:14: limits.handshake_seconds = 6 is out",
        ),
        ("stalled_seconds = 44", "stalled_seconds = 0", "relay.toml:15: limits.stalled_seconds = 0 is out"),
        ("drain_seconds = 0", "drain_seconds = 301", "relay.toml:16: limits.drain_seconds = 301 is out"),
        ("drain_seconds = 0", "drain_second = 0", "relay.toml:16: unknown field `drain_second`"),
        (
            "info,raida_relay=debug",
            "",
            "relay.toml:18: log.level: \"\" is not a log level: write error, warn",
        ),
        ("info,raida_relay=debug", "a=b=c", "relay.toml:18: log.level: \"a=b=c\" is not a log filter: write"),
        ("\"json\"", "\"xml\"", "relay.toml:19: unknown variant `xml`, expected `text` or `json`"),
        ("[log]", "[logs]", "relay.toml:17: unknown field `logs`"),
        ("store = \"principals.db\"\n", "", "missing field `store`"),
        ("\"json\"", "\"json", "relay.toml:19: "),
    ] {
        assert!(WHOLE.contains(from), "{from}");
        let error = read(&WHOLE.replacen(from, to, 1)).expect_err(to);
        assert!(error.contains(message), "{to}: {error}");
    }
}

#[test]
fn the_admin_port_is_not_the_relays() {
    let text = "relay = 0\nnetwork = 9\nlisten = \"127.0.0.1:9\"\nstore = \"p\"\n[admin]\nlisten = \"127.0.0.1:9\"\n";
    assert!(
        read(text).unwrap_err().contains("relay.toml:6: admin.listen is the address of the relay itself")
    );
}

#[test]
fn what_a_running_relay_keeps_is_named() {
    let old = read(WHOLE).unwrap();
    let with = |from: &str, to: &str| {
        let new = read(&WHOLE.replacen(from, to, 1)).unwrap();
        let (file, store, posts) = (old.file.clone(), old.store.clone(), old.posts.clone());
        old.needs_restart(&Config { file, store, posts, ..new })
    };
    assert_eq!(with("relay = 7", "relay = 8"), Some("relay"));
    assert_eq!(with("network = 1", "network = 2"), Some("network"));
    assert_eq!(with("50007", "50008"), Some("listen"));
    assert_eq!(with("9907", "9908"), Some("admin.listen"));
    assert_eq!(with("true", "false"), Some("dial_any_address"));
    assert_eq!(with("\"json\"", "\"text\""), Some("log.format"));
    assert_eq!(with("info,raida_relay=debug", "debug"), None);
    assert_eq!(with("connections = 100", "connections = 101"), Some("limits"));
    assert_eq!(with("drain_seconds = 0", "drain_seconds = 1"), None);
    assert_eq!(with("eu-west", "eu-east"), None);
    assert_eq!(with("[log]", "[names]\nfirst = 5\n[log]"), Some("names"));
    let moved = Config { store: "elsewhere".into(), ..old.clone() };
    assert_eq!(old.needs_restart(&moved), Some("store"));
    let moved = Config { posts: PostsAt::Postgres("postgres://relay@db/raida".to_owned()), ..old.clone() };
    assert_eq!(old.needs_restart(&moved), Some("posts"));
}

#[test]
fn posts_are_beside_the_store_or_where_they_are_said_to_be() {
    let with = |posts: &str| {
        read(&format!("relay = 0\nnetwork = 9\nlisten = \"127.0.0.1:9\"\nstore = \"a/p.db\"\n{posts}"))
    };
    let PostsAt::File(file) = with("").unwrap().posts else { panic!("no file") };
    assert!(file.ends_with("a/posts.db"), "{}", file.display());
    let PostsAt::File(file) = with("posts = \"b/other.db\"").unwrap().posts else { panic!("no file") };
    assert!(file.ends_with("b/other.db"), "{}", file.display());
    for url in ["postgres://relay@db:5433/raida", "postgresql:///raida?host=/run/postgresql"] {
        assert_eq!(with(&format!("posts = \"{url}\"")).unwrap().posts, PostsAt::Postgres(url.to_owned()));
    }
    for secret in ["postgres://relay:hunter2@db/raida", "postgres:///raida?user=a&password=hunter2"] {
        let error = with(&format!("posts = \"{secret}\"")).unwrap_err();
        assert!(
            error.contains("relay.toml:5: posts holds a password") && !error.contains("hunter2"),
            "{error}"
        );
    }
    assert!(with("posts = \"\"").unwrap_err().contains("relay.toml:5: posts names no file"));
    let error = with("[limits]\nposts_per_poster = -1").unwrap_err();
    assert!(error.contains("relay.toml:6: limits.posts_per_poster = -1 is out of range; write 0"), "{error}");
}

#[test]
fn names_have_a_price_and_a_term_that_the_operator_sets() {
    let with = |names: &str| {
        let text = "relay = 0\nnetwork = 9\nlisten = \"127.0.0.1:9\"\nstore = \"p.db\"\n[names]\n";
        read(&format!("{text}{names}")).map(|config| config.names)
    };
    assert_eq!(with("").unwrap(), Terms::default());
    let names = with(
        "first = 5\nrenewal = 4\ncurrency = \"EUR\"\nhold_days = 7\ngrace_days = 0\n\
         reserved = [\"Bank\", \"b\u{fc}cher.raida\"]\nnames_per_owner = 3\npayments_per_owner = 2\n",
    );
    let names = names.unwrap();
    assert_eq!(names.fees, Fees { first: 5, renewal: 4, currency: "EUR".parse().unwrap() });
    assert_eq!((names.hold, names.grace), (Duration::from_secs(7 * 24 * 3600), Duration::ZERO));
    let reserved: Vec<_> = names.reserved.iter().map(Name::label).collect();
    assert_eq!(reserved, ["bank", "xn--bcher-kva"]);
    assert_eq!((names.names_per_owner, names.payments_per_owner), (3, 2));
    for (line, part) in [
        ("first = -1", "names.first = -1 is out of range; write 0"),
        ("renewal = 4294967296", "names.renewal = 4294967296 is out of range"),
        ("currency = \"usd\"", "names.currency: a currency is three capital letters"),
        ("hold_days = 0", "names.hold_days = 0 is out of range; write 1 to 365"),
        ("grace_days = 366", "names.grace_days = 366 is out of range"),
        ("reserved = [\"a.b\"]", "names.reserved: a name is one label"),
        ("names_per_owner = -1", "names.names_per_owner = -1 is out of range"),
        ("payments_per_owner = 10001", "names.payments_per_owner = 10001 is out of range"),
    ] {
        let error = with(line).unwrap_err();
        assert!(error.contains(&format!("relay.toml:6: {part}")), "{error}");
    }
    assert!(with("fee = 1").unwrap_err().contains("relay.toml:6"), "an unknown setting");
}

use super::*;
use crate::access::Reason;
use crate::keys::{save_encryption_key, save_raida_key};
use crate::provision::Provision;
use crate::resolve::NameError;
use qsocket_proto::crypto::schedule::EncryptionKey;
use qsocket_proto::ids::KeyId;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;

const MINIMAL: &str = "key = \"client.key.toml\"\n[raida]\nnetwork = 1\nbase = \"127.0.0.1:50000\"\n";

/// A folder with `client.key.toml` (1.0.1) and `keys/enc.toml` (with 1.0.2), and a configuration in it.
fn folder_with(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let raida = Provision::generate(1, 1, 1).unwrap();
    save_raida_key(dir.path().join("client.key.toml"), &raida.clients[0]).unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    let other = raida.servers[0].principal();
    let key = SharedKey::new(KeyId([5; 16]), other, EncryptionKey::import(&[0x5e; 32]).unwrap()).unwrap();
    save_encryption_key(dir.path().join("keys/enc.toml"), &key).unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn refusal(text: impl AsRef<[u8]>) -> (usize, String) {
    let (_dir, path) = folder_with(text);
    match Config::from_file(&path) {
        Err(ConfigError::Settings(SettingsError::Setting { line, problem, .. })) => (line, problem),
        other => panic!("{other:?}"),
    }
}

fn list(n: u16) -> String {
    let all: Vec<_> = (0..n).map(|i| format!("\"10.0.0.{i}:443\"")).collect();
    format!("[{}]", all.join(", "))
}

#[test]
fn the_least_is_a_key_and_a_raida() {
    let (_dir, path) = folder_with(MINIMAL);
    let config = Config::from_file(&path).unwrap();
    assert_eq!(config.identity().0.to_string(), "1.0.1");
    assert_eq!(config.identity().1, Role::Client);
    let relays = config.raida().relays.as_array();
    assert_eq!((relays[0].port(), relays[24].port()), (50000, 50024));
    assert!(config.encryption_keys().is_empty() && config.names().is_empty());
    assert_eq!(config.listen(), &Listen::default());
    assert_eq!(config.tuning(), &Tuning::default());
    assert_eq!(config.tuning().idle_timeout(), Duration::from_secs(60));
}

#[test]
fn every_setting_is_read_and_paths_start_at_the_file() {
    let (_dir, path) = folder_with(format!(
        "key = \"client.key.toml\"\nencryption_keys = [\"keys/enc.toml\"]\n\
         [raida]\nnetwork = 1\nrelays = {}\n\
         [names]\n\"dns.example\" = {{ server = \"1.0.2\", address = \"127.0.0.1:5300\" }}\n\
         \"dns.example:53\" = {{ server = \"1.0.3\", address = \"127.0.0.1\" }}\n\
         [listen]\nallow = [\"1.0.4\", \"1.0.5\"]\ndeny = [\"1.0.5\"]\nports = {}\n\
         [tuning]\nml_kem = \"require\"\nredundancy = \"adaptive\"\nparity = \"mds\"\nidle_timeout_seconds = 5\n",
        list(25),
        list(25)
    ));
    let config = Config::from_file(&path).unwrap();
    assert_eq!(config.encryption_keys()[0].with().to_string(), "1.0.2");
    assert_eq!(config.raida().relays.get(PathId::new(7).unwrap()).to_string(), "10.0.0.7:443");
    let found = |port| {
        let t = config.names().lookup("dns.example", port).unwrap().in_network(1).unwrap();
        (t.server.serial, t.address.to_string())
    };
    assert_eq!(found(853), (2, "127.0.0.1:5300".to_owned()));
    assert_eq!(found(53), (3, "127.0.0.1:53".to_owned()));
    let decide = |serial| config.listen().access.check(Principal { serial, ..config.identity().0 });
    assert_eq!(decide(4), Ok(()));
    assert_eq!(decide(5), Err(Reason::BlackListed));
    assert_eq!(decide(6), Err(Reason::NotWhiteListed));
    assert_eq!(config.listen().ports.as_ref(), Some(&config.raida().relays));
    let want = Tuning::default()
        .with_ml_kem(MlKem::Require)
        .with_redundancy(Redundancy::Adaptive)
        .with_parity(Parity::Mds)
        .with_idle_timeout(Duration::from_secs(5));
    assert_eq!(config.tuning(), &want);
    let shown = format!("{config:?}");
    assert!(!shown.contains("5e5e") && !shown.contains("94, 94"), "{shown}");
}

#[test]
fn who_is_settled_and_which_dns_is_asked() {
    let read = |more: &str| Config::from_file(folder_with(format!("{MINIMAL}{more}")).1).unwrap();
    assert_eq!(read("").dns(), &Dns::System);
    let server = |text: &str| Dns::Server(text.parse().unwrap());
    assert_eq!(read("[dns]\nserver = \"192.0.2.53\"\n").dns(), &server("192.0.2.53:53"));
    assert_eq!(read("[dns]\nserver = \"[::1]:5353\"\n").dns(), &server("[::1]:5353"));
    assert_eq!(read("[dns]\nqsocket = \"dns.raida:53\"\n").dns(), &Dns::QSocket("dns.raida:53".to_owned()));
    let names =
        read("[names]\n\"a.example:7\" = { server = \"1.0.2\" }\n\"A.example\" = { server = \"1.0.3\" }\n");
    let pins: Vec<_> = names.names().pins("a.EXAMPLE.").iter().map(|pin| pin.serial).collect();
    assert_eq!(pins, [3, 2]);
    let error = names.names().lookup("a.example", 7).unwrap_err();
    assert!(matches!(error, NameError::NoAddress { port: 7, .. }), "{error}");
}

#[test]
fn every_error_names_its_line() {
    let (more, names) = (|s: &str| format!("{MINIMAL}{s}"), |s: &str| format!("{MINIMAL}[names]\n{s}\n"));
    let relays = |n| MINIMAL.replace("base = \"127.0.0.1:50000\"", &format!("relays = {}", list(n)));
    for (text, line, what) in [
        (more("[tunning]\n"), 5, "unknown field `tunning`"),
        (more("k = 12\n"), 5, "unknown field `k`"),
        (MINIMAL.replace("network = 1", "network = 65536"), 3, "0 to 65535"),
        (MINIMAL.replace("network = 1", "network = 2"), 1, "network 1, the relays are network 2"),
        (MINIMAL.replace("key = \"client.key.toml\"", ""), 2, "missing `key`"),
        (more("key = \"client.key.toml\"\n"), 5, "above the first [section]"),
        (more("listen = \"127.0.0.1:9000\"\n"), 5, "remove this line"),
        (MINIMAL.replace("[raida]", "[raida]\nkey = \"client.key.toml\""), 3, "above the first [section]"),
        (MINIMAL.replace(":50000", ":0"), 4, "1 to 65511"),
        (MINIMAL.replace(":50000", ":65512"), 4, "1 to 65511"),
        (MINIMAL.replace("127.0.0.1:50000", "relay.example:50000"), 4, "IP:PORT"),
        (MINIMAL.replace("base", "#"), 2, "either `relays`"),
        (more(&format!("relays = {}\n", list(25))), 2, "either `relays`"),
        (relays(24), 4, "24 addresses where 25"),
        (relays(26), 4, "26 addresses where 25"),
        (relays(25).replace("10.0.0.3:", "10.0.0.9:"), 4, "10.0.0.9:443 stands there twice"),
        (relays(25).replace("10.0.0.3:443", "10.0.0.3:0"), 4, "port 0"),
        (more("[tuning]\nml_kem = \"yes\"\n"), 6, "expected one of `require`, `on`, `off`"),
        (more("[tuning]\nidle_timeout_seconds = -1\n"), 6, "1 to 86400"),
        (more("[tuning]\nidle_timeout_seconds = 86401\n"), 6, "1 to 86400"),
        (more("[listen]\nallow = [\"1.0\"]\n"), 6, "network.denomination.serial"),
        (more("[listen]\ndeny = [\n\"1.0.2\",\n\"2.0.1\"]\n"), 8, "2.0.1 is not in network 1"),
        (names("\"a\" = { address = \"1.2.3.4\" }"), 6, "missing field `server`"),
        (more("[dns]\n"), 5, "either `server`"),
        (more("[dns]\nserver = \"1.2.3.4\"\nqsocket = \"a:53\"\n"), 5, "either `server`"),
        (more("[dns]\nserver = \"dns.example\"\n"), 6, "IP:PORT"),
        (more("[dns]\nqsocket = \"dns.example\"\n"), 6, "name:port"),
        (names("\"a\" = { server = \"1.0.2\", address = \"1.2.3.4:0\" }"), 6, "port 0"),
        (names("\"a\" = []"), 6, "empty list"),
        (names("\"a\" = 7"), 6, "a table or an array of tables"),
        (names("\"a\" = { server = \"2.0.2\", address = \"1.2.3.4\" }"), 6, "2.0.2 is not in network 1;"),
        (names("\"a:x\" = { server = \"1.0.2\", address = \"1.2.3.4\" }"), 6, "name:port"),
        (names("\"a b\" = { server = \"1.0.2\", address = \"1.2.3.4\" }"), 6, "not a host name"),
        (
            names(
                "a = { server = \"1.0.2\", address = \"::1\" }\nA = { server = \"1.0.2\", address = \"::1\" }",
            ),
            7,
            "already",
        ),
        (format!("encryption_keys = [\"keys/enc.toml\",\n\"keys/enc.toml\"]\n{MINIMAL}"), 2, "same id"),
        (format!("\u{feff}{MINIMAL}"), 1, "byte order mark"),
        (more("\0"), 5, "NUL"),
        (more("key"), 5, "key"),
    ] {
        let (at, problem) = refusal(&text);
        assert!(problem.contains(what), "{problem:?} for {text}");
        // The two spellings of one name come in the order of their bytes.
        assert!(at == line || (what == "already" && at == 6), "line {at} {problem:?} for {text}");
    }
}

#[test]
fn a_refused_key_file_is_told_with_the_line_that_names_it() {
    let (dir, path) = folder_with(MINIMAL);
    let key = dir.path().join("client.key.toml");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let e = Config::from_file(&path).unwrap_err();
    let want = format!("{}:1: {} can be opened by others", path.display(), key.display());
    assert!(e.to_string().starts_with(&want), "{e}");
    assert!(e.to_string().ends_with(&format!("run: chmod 600 {}", key.display())), "{e}");
    let e = io::Error::from(e);
    assert_eq!(e.kind(), io::ErrorKind::PermissionDenied);
    // What a `main` that returns the error prints.
    assert!(format!("{e:?}").contains("run: chmod 600 "), "{e:?}");
}

#[test]
fn a_directory_comes_from_a_file_beside_it() {
    let (dir, path) = folder_with(format!("access = \"access.toml\"\n{MINIMAL}"));
    let e = io::Error::from(Config::from_file(&path).unwrap_err());
    assert_eq!(e.kind(), io::ErrorKind::NotFound);
    assert!(e.to_string().contains("access.toml"), "{e}");
    let file = dir.path().join("access.toml");
    fs::write(&file, "[users]\nalice = [\"1.0.5\"]\nalice = []\n").unwrap();
    let e = Config::from_file(&path).unwrap_err().to_string();
    assert!(e.starts_with(&format!("{}:3: ", file.display())), "{e}");
    fs::write(&file, "[users]\nalice = [\"1.0.5\"]\n").unwrap();
    let config = Config::from_file(&path).unwrap();
    let directory = config.directory().unwrap();
    assert_eq!(
        directory.user("1.0.5".parse().unwrap()).map(|user| user.name.to_string()).as_deref(),
        Some("alice")
    );
    assert_eq!(config.watched().and_then(|live| live.file()), Some(&*file));
    let (_dir, path) = folder_with(MINIMAL);
    assert!(Config::from_file(&path).unwrap().directory().is_none());
}

#[test]
fn a_configuration_that_everybody_can_write_is_refused() {
    let (_dir, path) = folder_with(MINIMAL);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let e = Config::from_file(&path).unwrap_err();
    assert!(e.to_string().ends_with(&format!("run: chmod o-w {}", path.display())), "{e}");
    assert_eq!(io::Error::from(e).kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn size_and_kind_are_checked() {
    let (dir, path) = folder_with("#".repeat(MAX_FILE_BYTES + 1));
    assert!(matches!(Config::from_file(&path), Err(ConfigError::Settings(SettingsError::TooLarge { .. }))));
    assert!(matches!(Config::from_file(dir.path()), Err(ConfigError::Settings(SettingsError::Io { .. }))));
    let e = io::Error::from(Config::from_file(dir.path().join("absent")).unwrap_err());
    assert_eq!(e.kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_file_is_found_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let place = |parts: &str| {
        let path = dir.path().join(parts);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        path
    };
    let (xdg, home) = (place("xdg/qsocket/config.toml"), place("home/.config/qsocket/config.toml"));
    let named = place("named.toml");
    let at = |p: &str| dir.path().join(p).into_os_string();
    let search = |vars: &[(&str, OsString)]| {
        find(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()))
    };
    let env = |config, xdg, home| [("QSOCKET_CONFIG", config), ("XDG_CONFIG_HOME", xdg), ("HOME", home)];
    let all = env(at("named.toml"), at("xdg"), at("home"));
    assert_eq!(search(&all).unwrap(), named);
    assert_eq!(search(&all[1..]).unwrap(), xdg);
    assert_eq!(search(&all[2..]).unwrap(), home);
    assert_eq!(search(&env("".into(), "".into(), at("home"))).unwrap(), home);
    assert_eq!(search(&env("".into(), "relative".into(), at("home"))).unwrap(), home);

    // A variable that names nothing is a mistake to show, not a reason to look elsewhere.
    let e = search(&env(at("absent"), at("xdg"), at("home"))).unwrap_err();
    assert!(matches!(&e, ConfigError::VariableNamesNothing { path } if *path == dir.path().join("absent")));

    let e = search(&[("HOME", at("nobody"))]).unwrap_err();
    let user = dir.path().join("nobody/.config/qsocket/config.toml").display().to_string();
    for place in ["Config::from_file", "QSOCKET_CONFIG", &user] {
        assert!(e.to_string().contains(place), "{e}");
    }
    assert_eq!(io::Error::from(e).kind(), io::ErrorKind::NotFound);
    assert!(search(&[]).unwrap_err().to_string().contains("~/.config/qsocket/config.toml"));
}

#[test]
fn a_program_can_build_it() {
    let mut keys = Provision::generate(1, 1, 1).unwrap();
    let raida =
        Raida { network: 1, relays: RelayAddresses::from_base("[::1]:1000".parse().unwrap()).unwrap() };
    let (own, server) = (keys.clients.remove(0), keys.servers[0].principal());
    let me = own.principal();
    let other = Raida { network: 2, ..raida.clone() };
    assert_eq!(
        Config::new(other, Provision::generate(1, 1, 0).unwrap().clients.remove(0)).err(),
        Some(SettingError::KeyNetwork { found: 1, network: 2 })
    );
    let shared =
        |with| SharedKey::new(KeyId([1; 16]), with, EncryptionKey::import(&[7; 32]).unwrap()).unwrap();
    let config = Config::new(raida, own).unwrap().with_tuning(Tuning::default().with_parity(Parity::Grid));
    let config = config.with_encryption_key(shared(server)).unwrap();
    assert_eq!(
        config.clone().with_encryption_key(shared(me)).err(),
        Some(SettingError::OwnEncryptionKey(me))
    );
    assert_eq!(config.clone().with_encryption_key(shared(server)).err(), Some(SettingError::KeyIdTwice));
    assert_eq!(config.tuning().parity, Parity::Grid);
    assert_eq!(Tuning::default().with_idle_timeout(Duration::ZERO).idle_timeout(), MIN_IDLE_TIMEOUT);
}

/// A configuration with 25 `[[raida.relay]]` tables, four lines each, the first `n` of them of one operator.
fn tagged(n: u8, same: &str) -> String {
    let relays: String = (0..25)
        .map(|i| {
            let operator = if i < n { same.to_owned() } else { format!("operator {i}") };
            format!("[[raida.relay]]\naddress = \"10.0.0.{i}:443\"\noperator = \"{operator}\"\nregion = \"r{i}\"\n")
        })
        .collect();
    format!("key = \"client.key.toml\"\n[raida]\nnetwork = 1\n{relays}")
}

#[test]
fn relays_may_be_tables_with_operators() {
    let (_dir, path) = folder_with(tagged(3, "Example Ltd"));
    let config = Config::from_file(&path).unwrap();
    assert_eq!(config.raida().relays.get(PathId::new(7).unwrap()).to_string(), "10.0.0.7:443");
    assert_eq!(config.warnings(), [] as [String; 0]);
    // Neither tag is needed, and without any there is nothing to count.
    let text = tagged(0, "");
    let plain: Vec<_> =
        text.lines().filter(|l| !l.contains("operator =") && !l.contains("region =")).collect();
    let (_dir, path) = folder_with(plain.join("\n"));
    assert_eq!(Config::from_file(&path).unwrap().warnings(), [] as [String; 0]);
}

#[test]
fn many_relays_of_one_operator_are_a_warning_with_its_line() {
    for (n, line) in [(4, 18), (9, 38)] {
        let (_dir, path) = folder_with(tagged(n, "Example Ltd"));
        let config = Config::from_file(&path).unwrap();
        let [warning] = config.warnings() else { panic!("{:?}", config.warnings()) };
        let want = format!("{}:{line}: operator \"Example Ltd\" runs {n} relays (0, 1, 2, 3", path.display());
        assert!(warning.starts_with(&want), "{warning}");
    }
    let text = tagged(0, "").replace("operator = \"operator 24\"\n", "");
    let text = (0..10).fold(text, |t, i| t.replace(&format!("\"r{i}\""), "\"eu\""));
    let (_dir, path) = folder_with(text);
    let config = Config::from_file(&path).unwrap();
    let [untagged, region] = config.warnings() else { panic!("{:?}", config.warnings()) };
    assert!(untagged.contains(":100: nothing says who operates 1 of the relays (24)"), "{untagged}");
    assert!(region.contains(":43: region \"eu\" holds 10 relays"), "{region}");
}

/// The attack: one operator that could stop every opening alone, under two spellings.
#[test]
fn ten_relays_of_one_operator_are_refused_with_the_line_of_the_tenth() {
    let text = tagged(10, "Example Ltd").replacen("Example Ltd", " EXAMPLE ltd ", 1);
    let (line, problem) = refusal(text);
    assert_eq!(line, 42);
    assert!(
        problem.contains("runs 10 of the 25 relays") && problem.contains("could prevent openings alone"),
        "{problem}"
    );
    let (_, problem) = refusal(tagged(16, "Example Ltd"));
    assert!(problem.contains("could read connections, impersonate principals"), "{problem}");
}

#[test]
fn relay_tables_are_checked() {
    let text = tagged(0, "");
    for (from, to, line, what) in [
        ("network = 1", "network = 1\nbase = \"10.0.0.1:50000\"", 2, "write either `relays`"),
        ("10.0.0.1:443", "10.0.0.0:443", 4, "stands there twice"),
        ("\"10.0.0.1:443\"", "\"relay1\"", 9, "not an address"),
        ("operator = \"operator 1\"", "owner = \"x\"", 10, "unknown field"),
        ("address = \"10.0.0.1:443\"\n", "", 8, "missing field `address`"),
        (
            "[[raida.relay]]\naddress = \"10.0.0.24:443\"\noperator = \"operator 24\"\nregion = \"r24\"\n",
            "",
            4,
            "24 addresses where 25",
        ),
    ] {
        let (at, problem) = refusal(text.replacen(from, to, 1));
        assert!(problem.contains(what), "{problem}");
        assert_eq!(at, line, "{problem}");
    }
}

/// A folder with the keys of clients 1.0.1, 2.0.1 and 3.0.1 and of servers 1.0.2, 2.0.2 and 3.0.2, as `client-1.toml` and so
/// on, and the Encryption key `enc.toml` with 2.0.2.
fn folder_of_networks(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for network in 1..=3 {
        let raida = Provision::generate(network, 1, 1).unwrap();
        save_raida_key(dir.path().join(format!("client-{network}.toml")), &raida.clients[0]).unwrap();
        save_raida_key(dir.path().join(format!("server-{network}.toml")), &raida.servers[0]).unwrap();
    }
    let with = "2.0.2".parse().unwrap();
    let key = SharedKey::new(KeyId([5; 16]), with, EncryptionKey::import(&[0x5e; 32]).unwrap()).unwrap();
    save_encryption_key(dir.path().join("enc.toml"), &key).unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

/// One `[[raida]]` of four lines.
fn raida(role: &str, network: u16) -> String {
    format!(
        "[[raida]]\nkey = \"{role}-{network}.toml\"\nnetwork = {network}\nbase = \"127.0.0.1:5{network}000\"\n"
    )
}

#[test]
fn several_networks_are_kept_in_the_order_of_the_file() {
    let (_dir, path) = folder_of_networks(&format!(
        "encryption_keys = [\"enc.toml\"]\n{}{}[names]\n\
         \"both.example\" = [{{ server = \"1.0.2\", address = \"127.0.0.1:7000\" }},\n\
         {{ server = \"2.0.9\", address = \"127.0.0.2\" }}]\n\
         \"some.example\" = [{{ server = \"3.0.2\", address = \"127.0.0.1:7000\" }}, \
         {{ server = \"2.0.9\", address = \"127.0.0.2\" }}]\n\
         [listen]\ndeny = [\"1.0.5\", \"2.0.6\"]\n",
        raida("client", 2),
        raida("client", 1)
    ));
    let config = Config::from_file(&path).unwrap();
    let networks: Vec<_> = config.memberships().map(|m| m.principal().to_string()).collect();
    assert_eq!(networks, ["2.0.1", "1.0.1"]);
    assert_eq!(config.identity(), (config.in_network(2).unwrap().principal(), Role::Client));
    assert_eq!(config.in_network(1).unwrap().raida().relays.as_array()[0].port(), 51000);
    assert!(config.in_network(3).is_none());
    assert_eq!(config.encryption_keys()[0].with().to_string(), "2.0.2");
    let found = config.names().lookup("both.example", 53).unwrap();
    assert_eq!(found.in_network(1).unwrap().address.to_string(), "127.0.0.1:7000");
    assert_eq!(found.in_network(2).unwrap().address.to_string(), "127.0.0.2:53");
    assert_eq!(found.in_network(2).unwrap().server.serial, 9);
    // One table of names may serve those who are in other networks.
    assert!(config.names().lookup("some.example", 53).unwrap().in_network(3).is_some());
    // The same serial number elsewhere is somebody else.
    let decide = |p: &str| config.listen().access.check(p.parse().unwrap());
    assert_eq!(decide("1.0.5"), Err(Reason::BlackListed));
    assert_eq!(decide("2.0.5"), Ok(()));
    assert_eq!(decide("2.0.6"), Err(Reason::BlackListed));
}

#[test]
fn a_server_says_where_it_listens_for_further_networks() {
    let listen = "listen = \"127.0.0.1:9000\"\n";
    let text = format!("{}{}{listen}", raida("server", 1), raida("server", 2));
    let (_dir, path) = folder_of_networks(&text);
    let config = Config::from_file(path).unwrap();
    assert_eq!(config.in_network(2).unwrap().listen(), Some("127.0.0.1:9000".parse().unwrap()));
    assert_eq!(config.in_network(1).unwrap().listen(), None);
}

#[test]
fn a_server_registers_itself_in_each_network() {
    let one = "register = [{ address = \"9.9.9.9:443\", dialled_by = \"server\" }]\n";
    let two = "register = [{ address = \"9.9.9.9:443\" }, { address = \"9.9.9.9:8443\", dialled_by = \"server\" }]\n";
    let listen = "listen = \"127.0.0.1:9000\"\n";
    let at = |port, dialled_by| Registration { address: ([9, 9, 9, 9], port).into(), dialled_by };
    let text = format!("{}{one}{}{two}{listen}", raida("server", 1), raida("server", 2));
    let (_dir, path) = folder_of_networks(&text);
    let config = Config::from_file(path).unwrap();
    assert_eq!(config.first().registrations(), [at(443, DialledBy::Server)]);
    assert_eq!(config.first().opens_no_port(), Some(at(443, DialledBy::Server).address));
    let second = config.in_network(2).unwrap();
    assert_eq!(second.registrations(), [at(443, DialledBy::Relays), at(8443, DialledBy::Server)]);
    assert_eq!((second.opens_no_port(), second.dials_out()), (None, true));
    // Where nobody dials it, it listens nowhere.
    let (_dir, path) = folder_of_networks(&format!("{}{}{one}", raida("server", 1), raida("server", 2)));
    assert!(Config::from_file(path).is_ok());
    for (role, register, what) in [
        ("client", "register = [{ address = \"9.9.9.9:443\" }]", "`register` is for servers"),
        ("server", "register = [{ address = \"9.9.9.9:65520\" }]", "there are no 25 ports"),
        ("server", "register = [{ address = \"9.9.9.9\" }]", "write"),
        ("server", "register = [{ address = \"9.9.9.9:1\", dialled_by = \"nobody\" }]", "unknown variant"),
    ] {
        let (_dir, path) = folder_of_networks(&format!("{}{register}\n", raida(role, 1)));
        let error = Config::from_file(path).unwrap_err().to_string();
        assert!(error.contains("config.toml:5: ") && error.contains(what), "{error}");
    }
}

#[test]
fn errors_among_several_networks_name_their_line() {
    let listen = "listen = \"127.0.0.1:9000\"\n";
    let client = |n| raida("client", n);
    let server = |n| raida("server", n);
    let both = format!("{}{}", client(1), client(2));
    for (text, line, what) in [
        (format!("key = \"client-1.toml\"\n{both}"), 1, "move this line into its [[raida]]"),
        (format!("{}{}", client(1), client(1)), 7, "network 1 is there already"),
        (
            format!("{}{}", client(1), server(2)),
            6,
            "has the role server, that of the first network the role client",
        ),
        (
            format!("{}{}{listen}", server(1), client(2)),
            6,
            "has the role client, that of the first network the role server",
        ),
        (both.replace("client-2", "client-3"), 6, "the RAIDA key is for network 3, the relays are network 2"),
        (both.replace("key = \"client-2.toml\"", ""), 5, "missing `key`"),
        (both.replace("base = \"127.0.0.1:52000\"", ""), 5, "either `relays`"),
        (both.replace(":52000", ":0"), 8, "1 to 65511"),
        (both.replace("network = 2", "network = -2"), 7, "0 to 65535"),
        (both.replace("network = 2", "netwrk = 2"), 7, "unknown field `netwrk`"),
        (format!("{}{}", server(1), server(2)), 5, "write `listen = \"IP:PORT\"`"),
        (
            format!("{}{listen}", server(1)),
            5,
            "the first network is served at the address that the program binds",
        ),
        (format!("{both}{listen}"), 9, "`listen` is for servers"),
        (format!("{}{}{}", server(1), server(2), listen.replace("9000", "65530")), 9, "1 to 65511"),
        (format!("{}{}{}", server(1), server(2), listen.replace("127.0.0.1:", "")), 9, "IP:PORT"),
        (format!("{both}[listen]\ndeny = [\"1.0.5\", \"3.0.5\"]\n"), 10, "3.0.5 is not in network 1 or 2;"),
        (
            format!("{both}[names]\na = {{ server = \"3.0.2\", address = \"::1\" }}\n"),
            10,
            "3.0.2 is not in network 1 or 2;",
        ),
        (
            format!(
                "{both}[names]\na = [{{ server = \"1.0.2\", address = \"::1\" }},\n{{ server = \"1.0.3\", address = \"::1\" }}]\n"
            ),
            11,
            "a second server in network 1",
        ),
        (format!("{both}[names]\na = [{{ address = \"1.2.3.4\" }}]\n"), 10, "missing field `server`"),
        (
            format!("encryption_keys = [\"enc.toml\"]\n{}{}", client(1), client(3)),
            1,
            "2.0.2 is not in network 1 or 3;",
        ),
        ("raida = []\n".to_owned(), 1, "no network"),
    ] {
        let (_dir, path) = folder_of_networks(&text);
        match Config::from_file(&path) {
            Err(ConfigError::Settings(SettingsError::Setting { line: at, problem, .. })) => {
                assert!(problem.contains(what), "{problem:?} for {text}");
                assert_eq!(at, line, "{problem:?} for {text}");
            }
            other => panic!("{other:?} for {text}"),
        }
    }
    // A key file that is refused is told with the line that names it.
    let (dir, path) = folder_of_networks(&both);
    fs::set_permissions(dir.path().join("client-2.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    let e = Config::from_file(&path).unwrap_err().to_string();
    assert!(e.starts_with(&format!("{}:6: ", path.display())) && e.contains("run: chmod 600 "), "{e}");
}

#[test]
fn a_program_adds_networks_up_to_a_limit() {
    let membership = |network| {
        let relays = RelayAddresses::from_base("[::1]:1000".parse().unwrap()).unwrap();
        let mut keys = Provision::generate(network, 1, 1).unwrap();
        let raida = Raida { network, relays };
        (
            Membership::new(raida.clone(), keys.clients.remove(0)).unwrap(),
            Membership::new(raida, keys.servers.remove(0)).unwrap(),
        )
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::from(membership(1).0);
    for network in 2..=MAX_NETWORKS as u16 {
        config = config.with_membership(membership(network).0).unwrap();
    }
    assert_eq!(config.memberships().count(), MAX_NETWORKS);
    let refused = |config: &Config, m| config.clone().with_membership(m).unwrap_err();
    assert_eq!(refused(&config, membership(99).0), SettingError::TooManyNetworks);
    assert_eq!(refused(&config, membership(7).0), SettingError::NetworkTwice(7));
    let client = Config::from(membership(1).0);
    assert_eq!(refused(&client, membership(2).0.with_listen(listen)), SettingError::ListenOfClient);
    let roles = |first, found| SettingError::Roles { first, found };
    assert_eq!(refused(&client, membership(2).1), roles(Role::Client, Role::Server));
    let server = Config::from(membership(1).1);
    assert_eq!(refused(&server, membership(2).0), roles(Role::Server, Role::Client));
    assert_eq!(refused(&server, membership(2).1), SettingError::ListenMissing(2));
    assert!(server.with_membership(membership(2).1.with_listen(listen)).is_ok());
}

#[test]
fn a_folder_of_keys_is_read_and_its_refusal_names_the_line() {
    let (dir, path) = folder_with(format!("keys = \"store\"\n{MINIMAL}"));
    let refused = |want: &str| match Config::from_file(&path) {
        Err(e @ ConfigError::Keys { line: 1, .. }) => assert!(e.to_string().contains(want), "{e}"),
        other => panic!("{other:?}"),
    };
    refused("config.toml:1: ");
    let store = crate::keys::KeyStore::create(dir.path().join("store")).unwrap();
    let key = crate::keys::load_stored_key(dir.path().join("keys/enc.toml")).unwrap();
    store.install(&key).unwrap();
    let config = Config::from_file(&path).unwrap();
    assert_eq!(config.keys().unwrap().keyring().len(), 1);
    assert!(config.encryption_keys().is_empty());

    fs::write(store.encryption_file(key.id()), "kind = 1\n").unwrap();
    refused("05.toml:1: kind: write it in quotes");
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o750)).unwrap();
    refused("run: chmod 700");
    let e = io::Error::from(Config::from_file(&path).unwrap_err());
    assert_eq!(e.kind(), io::ErrorKind::PermissionDenied);
}

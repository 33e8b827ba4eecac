use super::*;

/// A relay that just listens.
pub(crate) fn relay(number: u8) -> RelayStatus {
    RelayStatus {
        relay: number,
        network: 1,
        listen: SocketAddr::from(([127, 0, 0, 1], 50_000 + u16::from(number))),
        operator: None,
        region: None,
        uptime_seconds: 59,
        listening: true,
        draining: false,
        principals: 0,
        banned: 0,
        last_reload: None,
        stats: Stats::default().into(),
    }
}

pub(crate) fn status(relays: impl IntoIterator<Item = RelayStatus>) -> Status {
    let relays = relays.into_iter().collect();
    Status { version: "1.2.3".to_owned(), process: Process::default(), relays }
}

impl Source for Status {
    fn status(&self) -> Status {
        self.clone()
    }
}

#[test]
fn a_process_is_ready_when_all_its_relays_take_connections() {
    assert_eq!(status([relay(0), relay(7)]).ready(), Ok(()));
    let (mut drains, mut deaf) = (relay(7), relay(3));
    (drains.draining, deaf.listening) = (true, false);
    assert_eq!(status([relay(0), drains]).ready().unwrap_err(), "relay 7 is draining");
    assert_eq!(status([relay(0), deaf]).ready().unwrap_err(), "relay 3 does not listen");
    assert_eq!(status([]).ready().unwrap_err(), "no relay runs");
}

#[test]
fn the_system_says_how_large_the_process_is() {
    let Process { resident_bytes, open_files } = Process::now();
    assert!(resident_bytes.unwrap() > 100 * 1024, "{resident_bytes:?}");
    let before = open_files.unwrap();
    let _held: Vec<_> = (0..200).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    // Other tests open and close files meanwhile.
    assert!(Process::now().open_files.unwrap() > before + 50, "{before}");
}

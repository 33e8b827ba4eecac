use super::*;
use qsocket_files::rng::OsRng;
use qsocket_proto::raida_key::{RaidaKey, Strength, equal};
use qsocket_proto::relay::Registration;
use raida_relay::principals::{Enrolled, MAX_PERMITS, Registered, Rotated};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn relay() -> PathId {
    PathId::new(3).unwrap()
}

fn who(serial: u32) -> Principal {
    Principal { network: 1, denomination: -5, serial }
}

fn new(serial: u32, role: Role) -> NewPrincipal {
    let key = RaidaKey::generate(who(serial), role, Strength::Bits256, &mut OsRng).unwrap();
    let number = key.into_number(relay());
    NewPrincipal { principal: who(serial), role, number, quota: Quota::default(), addresses: vec![] }
}

fn address(port: u16) -> Address {
    Address { service: ([192, 0, 2, 7], port).into(), dial: Some(([192, 0, 2, 7], port + 3).into()) }
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

async fn store(dir: &tempfile::TempDir) -> Store {
    Store::create(&dir.path().join("p #1?%.db"), 1, relay()).await.unwrap()
}

#[tokio::test]
async fn what_was_added_is_loaded_until_it_is_banned_or_removed() {
    let dir = dir();
    let store = store(&dir).await;
    let (client, mut server) = (new(u32::MAX, Role::Client), new(7, Role::Server));
    let none = Address { dial: None, ..address(81) };
    server.addresses = vec![address(80), none];
    server.quota = Quota { routes: 9, bytes_per_second: Some(5_000_000_000) };
    let mut revision = store.revision().await.unwrap();
    for new in [&client, &server] {
        store.add(new).await.unwrap();
        let next = store.revision().await.unwrap();
        assert!(next > revision);
        revision = next;
    }
    let Loaded { roster, banned, revision: loaded } = store.load().await.unwrap();
    assert_eq!((loaded, banned, roster.table.len()), (revision, 0, 2));
    let number = &roster.table[&(who(u32::MAX), Role::Client)];
    assert_eq!(number.expose(), client.number.expose());
    assert_eq!(roster.quotas[&(who(7), Role::Server)], server.quota);
    assert_eq!(roster.servers.len(), 2);
    assert_eq!(roster.servers[1], Server { principal: who(7), service: none.service, dial: None });

    let now = UNIX_EPOCH + Duration::from_secs(1000);
    assert_eq!(store.ban(who(7), Some(Role::Client), "", now).await.unwrap(), 0, "it is no client");
    assert_eq!(store.ban(who(7), None, "spam", now).await.unwrap(), 1);
    store.add(&server).await.unwrap();
    let Loaded { roster, banned, .. } = store.load().await.unwrap();
    assert_eq!((roster.table.len(), roster.servers.len(), banned), (1, 0, 1), "a new number is no pardon");
    let list = store.list().await.unwrap();
    assert_eq!(list[0].banned, Some(Ban { reason: "spam".into(), since: 1000 }));
    assert_eq!((list[0].bits, list[0].addresses.len()), (256, 2));
    assert_eq!(store.unban(who(7), None).await.unwrap(), 1);
    assert_eq!(store.load().await.unwrap().roster.table.len(), 2);
    assert_eq!(store.remove(who(7), None).await.unwrap(), 1);
    assert_eq!(store.remove(who(7), None).await.unwrap(), 0);
    let Loaded { roster, .. } = store.load().await.unwrap();
    assert_eq!((roster.table.len(), roster.servers.len()), (1, 0));
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let dir = dir();
    let store = store(&dir).await;
    let mut server = new(7, Role::Server);
    server.addresses = (80..85).map(address).collect();
    assert!(store.add(&server).await.unwrap_err().to_string().contains("at most 4"));
    let mut client = new(1, Role::Client);
    client.addresses = vec![address(80)];
    assert!(store.add(&client).await.unwrap_err().to_string().contains("only servers have addresses"));
    client.addresses.clear();
    client.principal.network = 2;
    assert!(store.add(&client).await.unwrap_err().to_string().contains("belongs to network 2"));
    let long = "x".repeat(MAX_REASON + 1);
    for reason in [&*long, "two\nlines"] {
        assert!(store.ban(who(1), None, reason, UNIX_EPOCH).await.is_err());
    }
    assert_eq!(store.list().await.unwrap(), []);
}

#[tokio::test]
async fn two_processes_work_on_one_store() {
    let dir = dir();
    let one = store(&dir).await;
    let path = dir.path().join("p #1?%.db");
    let two = Store::open(&path, 1, relay(), Access::Write).await.unwrap();
    let reader = Store::open(&path, 1, relay(), Access::Read).await.unwrap();
    let add = async |store: &Store, first: u32| {
        for i in 0..20 {
            store.add(&new(first + i, Role::Client)).await.unwrap();
        }
    };
    tokio::join!(add(&one, 0), add(&two, 100));
    assert_eq!(reader.load().await.unwrap().roster.table.len(), 40);
    assert_eq!(reader.revision().await.unwrap(), 41);
    assert!(reader.add(&new(999, Role::Client)).await.is_err(), "a reader does not write");
}

/// The attack: a second enrolment that takes over a principal between the look and the write of the first.
#[tokio::test]
async fn of_two_who_add_one_principal_at_once_one_wins() {
    let dir = dir();
    let one = store(&dir).await;
    let two = Store::open(&dir.path().join("p #1?%.db"), 1, relay(), Access::Write).await.unwrap();
    for i in 0..20 {
        let (a, b) = (new(i, Role::Client), new(i, Role::Client));
        let (first, second) = tokio::join!(one.add_new(&a), two.add_new(&b));
        assert!(first.unwrap() ^ second.unwrap());
    }
    assert_eq!(one.revision().await.unwrap(), 21);
    assert!(one.add_new(&new(0, Role::Server)).await.unwrap(), "another role is another entry");
}

#[tokio::test]
async fn a_removed_number_is_gone_from_the_file() {
    let dir = dir();
    let store = store(&dir).await;
    let client = new(1, Role::Client);
    store.add(&client).await.unwrap();
    let holds = |number: &[u8]| {
        let bytes = fs::read(dir.path().join("p #1?%.db")).unwrap();
        bytes.windows(number.len()).any(|w| w == number)
    };
    assert!(holds(client.number.expose()));
    store.remove(who(1), None).await.unwrap();
    assert!(!holds(client.number.expose()));
}

#[tokio::test]
async fn a_store_that_others_can_open_or_replace_is_refused_with_the_mend() {
    let dir = dir();
    store(&dir).await.close().await;
    let path = dir.path().join("p #1?%.db");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let open =
        async || Store::open(&path, 1, relay(), Access::Write).await.map(drop).map_err(|e| e.to_string());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    open().await.unwrap();

    mode(&path, 0o640);
    assert!(open().await.unwrap_err().contains("can be opened by others (mode 0640); run: chmod 600 "));
    mode(&path, 0o600);
    for open_folder in [0o720, 0o1777] {
        mode(dir.path(), open_folder);
        assert!(open().await.unwrap_err().contains("; run: chmod go-w "));
    }
    mode(dir.path(), 0o755);
    let journal = dir.path().join("p #1?%.db-journal");
    fs::write(&journal, "").unwrap();
    mode(&journal, 0o644);
    assert!(open().await.unwrap_err().contains("db-journal can be opened by others"));
    fs::remove_file(&journal).unwrap();

    let link = dir.path().join("link.db");
    symlink(&path, &link).unwrap();
    let linked = Store::open(&link, 1, relay(), Access::Read).await.unwrap_err().to_string();
    assert!(linked.contains("is a symbolic link; name the file"), "{linked}");
    let exists = Store::create(&path, 1, relay()).await.unwrap_err().to_string();
    assert!(exists.contains("exists already"), "{exists}");
    let missing = Store::open(&dir.path().join("none"), 1, relay(), Access::Read).await.unwrap_err();
    assert!(matches!(missing, StoreError::File(FileError::Missing { .. })));
    let folder = Store::open(dir.path(), 1, relay(), Access::Read).await.unwrap_err().to_string();
    assert!(folder.contains("chmod go-w") || folder.contains("is not a regular file"), "{folder}");
}

#[tokio::test]
async fn another_relays_store_and_what_is_no_store_are_refused() {
    let dir = dir();
    store(&dir).await.close().await;
    let path = dir.path().join("p #1?%.db");
    for (network, relay) in [(2, relay()), (1, PathId::new(4).unwrap())] {
        let error = Store::open(&path, network, relay, Access::Read).await.unwrap_err().to_string();
        assert!(error.contains("it is the store of relay 3 of network 1, not of relay"), "{error}");
    }
    fs::write(&path, "not a database, whatever its name says: ".repeat(100)).unwrap();
    assert!(Store::open(&path, 1, relay(), Access::Read).await.is_err());
}

#[test]
fn debug_shows_no_number() {
    let new = new(1, Role::Client);
    let text = format!("{new:?}");
    assert!(text.contains("Secret<32>(..)"), "{text}");
}

fn claim(port: u16) -> Registration {
    Registration { destination: ([9, 9, 9, 9], port).into(), dial: None }
}

#[tokio::test]
async fn what_servers_register_stays_until_its_operator_or_they_take_it_back() {
    let dir = dir();
    let store = store(&dir).await;
    let now = UNIX_EPOCH + Duration::from_secs(1000);
    let (mut one, two, client) = (new(7, Role::Server), new(8, Role::Server), new(9, Role::Client));
    one.addresses = vec![address(80)];
    for new in [&one, &two, &client] {
        store.add(new).await.unwrap();
    }
    let register =
        async |serial, claims: &[Registration]| store.register(who(serial), claims, now).await.unwrap();
    assert_eq!(register(9, &[claim(1)]).await, Registered::Unknown, "a client");
    assert_eq!(register(99, &[claim(1)]).await, Registered::Unknown);
    let operators = Registration { destination: address(80).service, dial: None };
    assert_eq!(register(8, &[operators]).await, Registered::Taken, "by an operator's hand");
    let revision = store.revision().await.unwrap();
    let mine = [claim(1), Registration { dial: Some(([9, 9, 9, 9], 9).into()), ..claim(2) }, operators];
    assert_eq!(register(7, &mine).await, Registered::Kept);
    assert!(store.revision().await.unwrap() > revision, "other processes of the relay see it");
    let revision = store.revision().await.unwrap();
    assert_eq!(register(7, &[mine[1], mine[0]]).await, Registered::Kept, "another process is told");
    assert_eq!(store.revision().await.unwrap(), revision, "nothing is written");
    assert_eq!(register(8, &[claim(3), claim(2)]).await, Registered::Taken);
    assert_eq!(register(7, &[claim(1), claim(2), claim(3), claim(4)]).await, Registered::TooMany);

    let all = |roster: &Roster| {
        roster.claims.iter().map(|s| (s.principal.serial, s.service.port(), s.dial)).collect::<Vec<_>>()
    };
    let Loaded { roster, .. } = store.load().await.unwrap();
    assert_eq!(all(&roster), [(7, 1, None), (7, 2, Some(([9, 9, 9, 9], 9).into()))]);
    assert_eq!(roster.servers.len(), 1, "the operator's is the operator's");
    // A new number keeps them, and a ban hides them without giving them away.
    store.add(&one).await.unwrap();
    store.ban(who(7), None, "", now).await.unwrap();
    assert_eq!(all(&store.load().await.unwrap().roster), []);
    assert_eq!(register(7, &[claim(5)]).await, Registered::Unknown, "banned");
    assert_eq!(register(8, &[claim(2)]).await, Registered::Taken);
    store.unban(who(7), None).await.unwrap();
    assert_eq!(all(&store.load().await.unwrap().roster).len(), 2);
    // The operator gives one to another server, and takes the other one back.
    let given = Address { service: claim(1).destination, dial: None };
    store.add(&NewPrincipal { addresses: vec![given], ..new(8, Role::Server) }).await.unwrap();
    assert_eq!(store.list().await.unwrap()[0].registered.len(), 1);
    assert_eq!(store.unregister(who(7), Some(claim(1).destination)).await.unwrap(), 0);
    assert_eq!(store.unregister(who(7), None).await.unwrap(), 1);
    assert_eq!(all(&store.load().await.unwrap().roster), []);
    assert_eq!(register(8, &[claim(2)]).await, Registered::Kept, "it is free");
    store.remove(who(8), None).await.unwrap();
    assert_eq!(register(7, &[claim(2)]).await, Registered::Kept, "who is gone holds nothing");
}

#[tokio::test]
async fn a_store_of_the_first_version_is_read_and_brought_to_this_one_by_who_writes() {
    let dir = dir();
    let store = store(&dir).await;
    let mut one = new(7, Role::Server);
    one.addresses = vec![address(80)];
    store.add(&one).await.unwrap();
    for statement in [
        "DROP TABLE registrations",
        "DROP TABLE numbers",
        "DROP TABLE permits",
        "UPDATE meta SET value = 1 WHERE name = 'schema'",
    ] {
        sqlx::query(statement).execute(&store.pool).await.unwrap();
    }
    let path = store.path.clone();
    let reader = Store::open(&path, 1, relay(), Access::Read).await.unwrap();
    assert_eq!(reader.load().await.unwrap().roster.servers.len(), 1);
    let writer = Store::open(&path, 1, relay(), Access::Write).await.unwrap();
    assert_eq!(writer.register(who(7), &[claim(1)], UNIX_EPOCH).await.unwrap(), Registered::Kept);
    assert_eq!(reader.load().await.unwrap().roster.claims.len(), 1, "who had it open sees it too");
}

#[tokio::test]
async fn a_number_waits_across_processes_until_it_is_used_or_its_principal_gets_another() {
    let dir = dir();
    let store = store(&dir).await;
    for new in [new(7, Role::Server), new(8, Role::Client)] {
        store.add(&new).await.unwrap();
    }
    let number = |byte| AuthenticityNumber::new(&[byte; 32]).unwrap();
    let (who7, who8) = ((who(7), Role::Server), (who(8), Role::Client));
    let unknown = (who(7), Role::Client);
    assert_eq!(store.rotate(unknown, &number(1)).await.unwrap(), Rotated::Unknown, "another role");
    assert_eq!(store.settle(who7, &number(1)).await.unwrap(), Rotated::Unknown);
    for (who, byte) in [(who7, 1), (who7, 2), (who8, 3)] {
        assert_eq!(store.rotate(who, &number(byte)).await.unwrap(), Rotated::Kept);
    }
    // Whoever opens it next finds both.
    let again = Store::open(&store.path, 1, relay(), Access::Write).await.unwrap();
    let Loaded { roster, revision, .. } = again.load().await.unwrap();
    assert!(equal(&roster.next[&who7], &number(2)) && equal(&roster.next[&who8], &number(3)));
    let old = roster.table;
    assert_eq!(again.settle(who7, &number(1)).await.unwrap(), Rotated::Unknown, "another one waits");
    assert_eq!(again.settle(who7, &number(2)).await.unwrap(), Rotated::Kept);
    assert!(store.revision().await.unwrap() > revision, "other processes of the relay see it");
    let Loaded { roster, .. } = store.load().await.unwrap();
    assert!(equal(&roster.table[&who7], &number(2)) && equal(&roster.table[&who8], &old[&who8]));
    assert_eq!(roster.next.keys().collect::<Vec<_>>(), [&who8]);
    // A ban, and a number by the operator's hand.
    store.ban(who(8), None, "", UNIX_EPOCH).await.unwrap();
    assert!(store.load().await.unwrap().roster.next.is_empty());
    assert_eq!(store.settle(who8, &number(3)).await.unwrap(), Rotated::Unknown, "banned");
    assert_eq!(store.rotate(who8, &number(4)).await.unwrap(), Rotated::Unknown, "banned");
    store.unban(who(8), None).await.unwrap();
    store.add(&new(8, Role::Client)).await.unwrap();
    assert_eq!(store.settle(who8, &number(3)).await.unwrap(), Rotated::Unknown, "the operator gave another");
    store.rotate(who8, &number(5)).await.unwrap();
    store.remove(who(8), None).await.unwrap();
    store.add(&new(8, Role::Client)).await.unwrap();
    assert!(store.load().await.unwrap().roster.next.is_empty(), "who is gone left nothing");
}

#[tokio::test]
async fn a_permit_is_used_up_by_the_first_hop_and_outlives_the_process() {
    let dir = dir();
    let store = store(&dir).await;
    store.add(&new(5, Role::Client)).await.unwrap();
    let number = |byte| AuthenticityNumber::new(&[byte; 32]).unwrap();
    let (sponsor, fresh) = (who(5), (who(42), Role::Server));
    let permit = |(principal, role), until| Permit { principal, role, sponsor, until, drawn: false };
    let enrol = |at: u64, by: Principal, who, byte| {
        let (store, number) = (store.clone(), number(byte));
        async move { store.enrol(at, by, who, &number).await.unwrap() }
    };
    assert_eq!(enrol(10, sponsor, fresh, 1).await, Enrolled::NotPermitted, "none");
    store.permit(permit(fresh, 100), 0).await.unwrap();
    assert_eq!(enrol(100, sponsor, fresh, 1).await, Enrolled::NotPermitted, "over");
    assert_eq!(enrol(10, who(6), fresh, 1).await, Enrolled::NotPermitted, "another sponsor");
    assert_eq!(enrol(10, sponsor, (who(42), Role::Client), 1).await, Enrolled::NotPermitted, "another role");
    assert!(store.load().await.unwrap().roster.table.len() == 1, "nothing changed");

    assert_eq!(enrol(10, sponsor, fresh, 1).await, Enrolled::Kept);
    assert_eq!(enrol(11, sponsor, fresh, 2).await, Enrolled::Kept, "an answer that got lost");
    // Whoever opens it next awaits the principal too, with the last number.
    let again = Store::open(&store.path, 1, relay(), Access::Write).await.unwrap();
    let roster = again.load().await.unwrap().roster;
    assert!(roster.awaited.contains(&fresh) && equal(&roster.table[&fresh], &number(2)));
    assert_eq!(again.arrive(fresh, &number(1)).await.unwrap(), Enrolled::NotPermitted, "another one counts");
    store.ban(who(42), None, "", UNIX_EPOCH).await.unwrap();
    assert_eq!(enrol(12, sponsor, fresh, 3).await, Enrolled::NotPermitted, "banned");
    assert_eq!(again.arrive(fresh, &number(2)).await.unwrap(), Enrolled::NotPermitted, "banned");
    store.unban(who(42), None).await.unwrap();
    assert_eq!(again.arrive(fresh, &number(2)).await.unwrap(), Enrolled::Kept);
    assert_eq!(enrol(12, sponsor, fresh, 3).await, Enrolled::NotPermitted, "used up");
    assert_eq!(store.permits().await.unwrap(), []);
    assert!(store.load().await.unwrap().roster.awaited.is_empty());

    // Who is known is not permitted, nor replaced by a permit from before.
    let refused = store.permit(permit(fresh, 100), 0).await.unwrap_err().to_string();
    assert!(refused.contains("knows 1.-5.42 in this role already"), "{refused}");
    let known = (who(43), Role::Server);
    store.permit(permit(known, 100), 0).await.unwrap();
    assert_eq!(enrol(10, sponsor, known, 4).await, Enrolled::Kept);
    store.add(&new(43, Role::Server)).await.unwrap();
    assert_eq!(enrol(10, sponsor, known, 5).await, Enrolled::NotPermitted, "the operator's hand ends it");
    // Taken back, and removed.
    let gone = (who(44), Role::Client);
    store.permit(permit(gone, 100), 0).await.unwrap();
    assert_eq!(store.unpermit(gone.0, Some(Role::Server)).await.unwrap(), 0);
    assert_eq!(store.unpermit(gone.0, Some(Role::Client)).await.unwrap(), 1);
    assert_eq!(enrol(10, sponsor, gone, 6).await, Enrolled::NotPermitted);
    store.permit(permit(gone, 100), 0).await.unwrap();
    assert_eq!(enrol(10, sponsor, gone, 6).await, Enrolled::Kept);
    store.remove(gone.0, None).await.unwrap();
    assert_eq!(enrol(10, sponsor, gone, 6).await, Enrolled::NotPermitted);

    // As many as there may be; those that are over give way.
    let mut db = store.begin().await.unwrap();
    for serial in 0..MAX_PERMITS {
        let insert = sqlx::query("INSERT INTO permits VALUES (1, -5, $1, 1, 1, -5, 5, 50, 0)");
        insert.bind(1000 + serial as i64).execute(&mut *db).await.unwrap();
    }
    store.commit(db).await.unwrap();
    let more = permit((who(9), Role::Client), 100);
    assert!(store.permit(more, 49).await.unwrap_err().to_string().contains("the most there may be"));
    store.permit(more, 50).await.unwrap();
    assert_eq!(store.permits().await.unwrap().len(), 1);
}

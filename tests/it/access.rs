//! A directory at a listener and at a client: what it refuses, and what it takes back while it is used.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::network::{Network, Setup};
use qsocket::access::policy::{Object, Policy, Rule, Subject};
use qsocket::access::{Action, Directory, LiveDirectory};
use qsocket::{ConnectError, Principal, QSocketStream, Refusal, refusal};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// After this a test counts as hung.
const HANG: Duration = Duration::from_secs(60);

/// The bound that the documentation states for taking back.
const SOON: Duration = Duration::from_secs(1);

/// Alice has the client's key, `web` the server's. Alice may dial `wiki`, `web` may host `wiki` and `mail`.
fn policy(client: Principal, server: Principal) -> Policy {
    let mut policy = Policy::new();
    for (user, principal) in [("alice", client), ("web", server)] {
        policy.add_user(user).unwrap();
        policy.add_principal(user, principal).unwrap();
    }
    for (resource, service) in
        [("wiki", "wiki.example"), ("mail", "mail.example"), ("shell", "shell.example")]
    {
        policy.add_resource(resource).unwrap();
        policy.add_service(resource, service.parse().unwrap()).unwrap();
    }
    policy.grant(rule("reads", "alice", &["wiki"], Action::Dial)).unwrap();
    policy.grant(rule("serves", "web", &["wiki", "mail"], Action::Host)).unwrap();
    policy
}

fn rule(name: &str, to: &str, on: &[&str], may: Action) -> Rule {
    let to: Subject = to.parse().unwrap();
    let on: Vec<Object> = on.iter().map(|name| name.parse().unwrap()).collect();
    Rule::new(name, [to], on, [may])
}

/// A network whose server has a directory.
async fn guarded() -> io::Result<(Network, Arc<LiveDirectory>)> {
    let mut directory = None;
    let network = Network::with(|client, server| {
        let made = LiveDirectory::new(policy(client, server));
        directory = Some(made.clone());
        Setup { server_directory: Some(made), ..Setup::default() }
    });
    Ok((network.await?, directory.expect("made by the closure")))
}

/// A stream for `resource`, with both its ends, over which a byte has gone each way.
async fn pair(network: &Network, resource: &str) -> io::Result<(QSocketStream, QSocketStream)> {
    let (client, accepted) =
        tokio::join!(network.client.connect_to(network.target, resource), network.listener.accept());
    let (mut client, mut server) = (client?, accepted?.0);
    client.write_all(b"q").await?;
    server.read_exact(&mut [0]).await?;
    server.write_all(b"a").await?;
    client.read_exact(&mut [0]).await?;
    Ok((client, server))
}

/// Why a stream that the client opened ends, as its reads tell.
async fn told(network: &Network, resource: &str) -> io::Result<io::Error> {
    let mut stream = network.client.connect_to(network.target, resource).await?;
    let read = timeout(HANG, stream.read(&mut [0])).await?;
    Ok(read.expect_err("the stream was not refused"))
}

/// How a read ends that waits while `change` happens, and after what time.
async fn cut(stream: &mut QSocketStream, change: impl FnOnce()) -> io::Result<(io::Error, Duration)> {
    let begun = Instant::now();
    change();
    let read = timeout(HANG, stream.read(&mut [0])).await?;
    Ok((read.expect_err("the stream goes on"), begun.elapsed()))
}

#[tokio::test]
async fn a_listener_gives_only_streams_that_are_granted() -> io::Result<()> {
    let (network, directory) = guarded().await?;
    let (_client, server) = pair(&network, "wiki.example:443").await?;
    let permit = server.permit();
    assert_eq!(permit.user.as_ref().map(|user| &*user.name), Some("alice"));
    assert_eq!((permit.resource.as_deref(), permit.rule.as_deref()), (Some("wiki"), Some("reads")));
    assert_eq!(server.resource(), "wiki.example:443");

    // Not granted, not known, and granted for a service that this server does not host: told alike.
    directory.edit(|policy| policy.grant(rule("logs in", "alice", &["shell"], Action::Dial))).unwrap();
    for resource in ["mail.example:25", "nowhere.example:1", "", "shell.example:22"] {
        let error = told(&network, resource).await?;
        assert_eq!(refusal(&error), Some(Refusal::NotPermitted), "{resource}: {error}");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{resource}");
    }
    // Nothing of it reached the application: the next stream is the next granted one.
    let (_client, server) = pair(&network, "wiki.example:80").await?;
    assert_eq!(server.resource(), "wiki.example:80");
    Ok(())
}

#[tokio::test]
async fn a_client_whose_principal_is_nobodys_gets_no_connection() -> io::Result<()> {
    let (network, directory) = guarded().await?;
    directory.edit(|policy| policy.remove_user("alice")).unwrap();
    let error = network.client.connect_to(network.target, "wiki.example:443").await.unwrap_err();
    assert_eq!(refusal(&error), Some(Refusal::NotPermitted), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_grant_that_is_taken_back_ends_its_streams_and_no_others() -> io::Result<()> {
    let (network, directory) = guarded().await?;
    directory.edit(|policy| policy.grant(rule("writes", "alice", &["mail"], Action::Dial))).unwrap();
    let (mut wiki, mut wiki_server) = pair(&network, "wiki.example:443").await?;
    let (mut mail, mut mail_server) = pair(&network, "mail.example:25").await?;
    // Unread bytes, which are not read any more.
    wiki.write_all(b"half a request").await?;

    let (error, took) =
        cut(&mut wiki, || _ = directory.edit(|policy| policy.remove_grant("reads").ok_or(()))).await?;
    assert_eq!(
        (refusal(&error), error.kind()),
        (Some(Refusal::Revoked), ErrorKind::ConnectionRefused),
        "{error}"
    );
    assert!(took < SOON, "{took:?}");
    let error = wiki_server.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(
        (refusal(&error), error.kind()),
        (Some(Refusal::Revoked), ErrorKind::PermissionDenied),
        "{error}"
    );
    assert_eq!(wiki_server.write(b"x").await.unwrap_err().kind(), ErrorKind::PermissionDenied);

    mail.write_all(b"goes on").await?;
    mail.shutdown().await?;
    let mut text = String::new();
    mail_server.read_to_string(&mut text).await?;
    assert_eq!(text, "goes on");
    assert_eq!(refusal(&told(&network, "wiki.example:443").await?), Some(Refusal::NotPermitted));
    Ok(())
}

#[tokio::test]
async fn a_black_listed_user_loses_the_connection() -> io::Result<()> {
    let (network, directory) = guarded().await?;
    let (mut client, mut server) = pair(&network, "wiki.example:443").await?;
    let alice: Subject = "alice".parse().unwrap();
    let (error, took) =
        cut(&mut client, || directory.edit(|policy| policy.black_list_add(alice.clone())).unwrap()).await?;
    assert_eq!(refusal(&error), Some(Refusal::Revoked), "{error}");
    assert!(took < SOON, "{took:?}");
    assert_eq!(server.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let error = network.client.connect_to(network.target, "wiki.example:443").await.unwrap_err();
    assert_eq!(refusal(&error), Some(Refusal::BlackListed), "{error}");

    directory.edit(|policy| policy.black_list_remove(&alice).then_some(()).ok_or(())).unwrap();
    pair(&network, "wiki.example:443").await.map(drop)
}

#[tokio::test]
async fn a_server_that_may_not_host_any_more_lets_go() -> io::Result<()> {
    let (network, directory) = guarded().await?;
    let (mut client, _server) = pair(&network, "wiki.example:443").await?;
    let (error, took) =
        cut(&mut client, || _ = directory.edit(|policy| policy.remove_grant("serves").ok_or(()))).await?;
    assert_eq!(refusal(&error), Some(Refusal::Revoked), "{error}");
    assert!(took < SOON, "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_grant_ends_in_the_middle_of_a_stream() -> io::Result<()> {
    const TERM: Duration = Duration::from_secs(2);
    let (network, directory) = guarded().await?;
    let until = SystemTime::now() + TERM;
    directory
        .edit(|policy| {
            policy.remove_grant("reads");
            policy.grant(rule("reads for a while", "alice", &["wiki"], Action::Dial).until(until))
        })
        .unwrap();
    let (mut client, server) = pair(&network, "wiki.example:443").await?;
    assert_eq!(server.permit().until, Some(until));
    let (error, _) = cut(&mut client, || ()).await?;
    assert_eq!(refusal(&error), Some(Refusal::Revoked), "{error}");
    let late = SystemTime::now().duration_since(until).expect("not before its end");
    assert!(late < SOON, "{late:?}");
    Ok(())
}

#[tokio::test]
async fn a_longer_grant_takes_over() -> io::Result<()> {
    let (network, directory) = guarded().await?;
    let until = SystemTime::now() + Duration::from_secs(1);
    directory
        .edit(|policy| {
            policy.remove_grant("reads");
            policy.grant(rule("short", "alice", &["wiki"], Action::Dial).until(until))
        })
        .unwrap();
    let (mut client, mut server) = pair(&network, "wiki.example:443").await?;
    directory.edit(|policy| policy.grant(rule("long", "alice", &["wiki"], Action::Dial))).unwrap();
    // Nothing tells that a stream goes on but its going on: bytes until well behind the end of the short one.
    while SystemTime::now() < until + SOON {
        client.write_all(b"x").await?;
        server.read_exact(&mut [0]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_clients_own_directory_says_who_may_host() -> io::Result<()> {
    let mut directory = None;
    let network = Network::with(|client, server| {
        let made = LiveDirectory::new(policy(client, server));
        directory = Some(made.clone());
        Setup { client_directory: Some(made), ..Setup::default() }
    })
    .await?;
    let directory = directory.expect("made by the closure");
    let (mut client, _server) = pair(&network, "wiki.example:443").await?;
    let error = network.client.connect_to(network.target, "shell.example:22").await.unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    assert!(matches!(inner, Some(ConnectError::NotPermitted(_))), "{error}");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let (error, took) =
        cut(&mut client, || _ = directory.edit(|policy| policy.remove_grant("serves").ok_or(()))).await?;
    assert_eq!(
        (refusal(&error), error.kind()),
        (Some(Refusal::Revoked), ErrorKind::PermissionDenied),
        "{error}"
    );
    assert!(took < SOON, "{took:?}");
    Ok(())
}

fn write(path: &Path, client: Principal, server: Principal, grants: &str) {
    let text = format!(
        "[users]\nalice = [\"{client}\"]\nweb = [\"{server}\"]\n\n[resources]\nwiki = [\"wiki.example\"]\n\n{grants}\
         [[grants]]\nto = [\"web\"]\non = [\"wiki\"]\nmay = [\"host\"]\n"
    );
    // Beside it and then into its place, so that no look finds half a file.
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

#[tokio::test]
async fn a_changed_file_is_enforced_and_a_bad_one_is_not() -> io::Result<()> {
    const READS: &str = "[[grants]]\nto = [\"alice\"]\non = [\"wiki\"]\nmay = [\"dial\"]\n\n";
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("access.toml");
    let mut made = None;
    let network = Network::with(|client, server| {
        write(&path, client, server, READS);
        let directory = LiveDirectory::from_file(&path).unwrap();
        made = Some((client, server, directory.clone()));
        Setup { server_directory: Some(directory), ..Setup::default() }
    })
    .await?;
    let (alice, web, directory) = made.expect("made by the closure");
    let (mut client, mut server) = pair(&network, "wiki.example:443").await?;

    // A file with a mistake revokes nothing. Reading it here as well says that it was looked at.
    fs::write(path.with_extension("new"), "[users]\nalice = 7\n")?;
    fs::rename(path.with_extension("new"), &path)?;
    assert!(directory.reload().is_err());
    client.write_all(b"x").await?;
    server.read_exact(&mut [0]).await?;

    let (error, took) = cut(&mut client, || write(&path, alice, web, "")).await?;
    assert_eq!(refusal(&error), Some(Refusal::Revoked), "{error}");
    assert!(took < SOON, "{took:?}");

    write(&path, alice, web, READS);
    let mut changes = directory.changes().expect("a live directory changes");
    timeout(HANG, async {
        while directory.policy().grants().count() < 2 {
            changes.changed().await.unwrap()
        }
    })
    .await?;
    pair(&network, "wiki.example:443").await.map(drop)
}

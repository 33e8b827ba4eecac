//! Keys out of a folder that changes while endpoints use it.

use crate::network::{Network, Setup};
use qsocket::keys::{EncryptionKey, KeyId, KeyInfo, KeyStore, LiveKeys, NoUsableKey, Origin, StoredKey};
use qsocket::testing::Raida;
use qsocket::{ConnectError, Principal, Refusal, refusal};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A client and a server with an empty folder of keys each.
struct Pair {
    network: Network,
    client: Arc<LiveKeys>,
    server: Arc<LiveKeys>,
    _dir: TempDir,
}

impl Pair {
    async fn over(raida: Raida) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let folder = |name: &str| LiveKeys::of(KeyStore::create(dir.path().join(name))?);
        let (client, server) = (folder("client")?, folder("server")?);
        let setup = Setup {
            client_folder: Some(client.clone()),
            server_folder: Some(server.clone()),
            ..Setup::default()
        };
        let network = Network::over(raida, |_, _| setup).await?;
        Ok(Self { network, client, server, _dir: dir })
    }

    fn key(&self, n: u8, with: Principal) -> StoredKey {
        let key = EncryptionKey::import(&[n; 32]).expect("not zero");
        StoredKey::new(KeyInfo::new(KeyId([n; 16]), with, Origin::PreShared), key).expect("not zero")
    }

    fn principals(&self) -> (Principal, Principal) {
        (self.network.client.principal(), self.network.listener.endpoint().principal())
    }

    /// Installs a key at both ends.
    fn install(&self, n: u8) -> io::Result<()> {
        let (client, server) = self.principals();
        self.client.store().install(&self.key(n, server))?;
        self.server.store().install(&self.key(n, client))?;
        Ok(())
    }

    fn reload(&self) -> io::Result<()> {
        self.client.reload()?;
        Ok(self.server.reload()?)
    }

    /// The key of a new connection, as both ends see it.
    async fn connect(&self) -> io::Result<Option<u8>> {
        let Network { client, target, listener, .. } = &self.network;
        let (here, there) = tokio::join!(client.connect_fresh(*target, "test"), async {
            tokio::time::timeout(Duration::from_secs(30), listener.accept()).await.ok()
        });
        let here = here?;
        let (there, _) = there.expect("the stream that was opened")?;
        let ids = [here.stats().encryption_key, there.stats().encryption_key];
        assert_eq!(ids[0], ids[1]);
        Ok(ids[0].map(|id| id.0[0]))
    }

    /// Why no connection is made.
    async fn refused(&self) -> io::Error {
        let Network { client, target, .. } = &self.network;
        client.connect_fresh(*target, "test").await.expect_err("a refusal")
    }
}

fn no_usable_key(error: &io::Error) -> Option<NoUsableKey> {
    match error.get_ref()?.downcast_ref()? {
        ConnectError::NoUsableKey(e) => Some(*e),
        _ => None,
    }
}

#[tokio::test]
async fn a_key_that_both_install_while_running_is_in_the_next_connection() -> io::Result<()> {
    let pair = Pair::over(Raida::start_on_loopback()?).await?;
    assert_eq!(pair.connect().await?, None);
    pair.install(1)?;
    pair.reload()?;
    assert_eq!(pair.connect().await?, Some(1));
    let (_, server) = pair.principals();

    // A rotation: the server gets the new key first, and accepts both.
    let (client, _) = pair.principals();
    pair.server.store().install(&pair.key(2, client))?;
    pair.reload()?;
    assert_eq!(pair.connect().await?, Some(1));
    pair.client.store().rotate(&pair.key(2, server), None)?;
    pair.reload()?;
    assert_eq!(pair.connect().await?, Some(2));

    // The server retires the old one as well: a client that still uses it is served until the end, and not longer.
    pair.server.store().rotate(&pair.key(2, client), Some(SystemTime::now() + Duration::from_secs(3600)))?;
    pair.client.store().remove(KeyId([2; 16]))?;
    pair.client.store().remove(KeyId([1; 16]))?;
    pair.client.store().install(&pair.key(1, server))?;
    pair.reload()?;
    assert_eq!(pair.connect().await?, Some(1));
    pair.server.store().remove(KeyId([1; 16]))?;
    pair.reload()?;
    assert_eq!(refusal(&pair.refused().await), Some(Refusal::UnknownEncryptionKey));
    Ok(())
}

#[tokio::test]
async fn a_key_that_was_revoked_opens_nothing_and_neither_does_none() -> io::Result<()> {
    let pair = Pair::over(Raida::start_on_loopback()?).await?;
    let (_, server) = pair.principals();
    pair.install(1)?;
    pair.server.store().revoke(KeyId([1; 16]))?;
    pair.reload()?;
    assert_eq!(refusal(&pair.refused().await), Some(Refusal::UnknownEncryptionKey));
    // The client lost its key altogether.
    pair.client.store().remove(KeyId([1; 16]))?;
    pair.reload()?;
    assert_eq!(refusal(&pair.refused().await), Some(Refusal::EncryptionKeyRequired));

    // The client knows by itself that its key is revoked, and does not go on without.
    pair.client.store().install(&pair.key(3, server))?;
    pair.client.store().revoke(KeyId([3; 16]))?;
    pair.server.store().remove(KeyId([1; 16]))?;
    pair.reload()?;
    let error = pair.refused().await;
    assert_eq!(no_usable_key(&error), Some(NoUsableKey { with: server }), "{error}");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    pair.client.store().remove(KeyId([3; 16]))?;
    pair.reload()?;
    assert_eq!(pair.connect().await?, None);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_folder_is_looked_after_without_being_asked() -> io::Result<()> {
    let pair = Pair::over(Raida::start()?).await?;
    assert_eq!(pair.connect().await?, None);
    pair.install(1)?;
    let seen = async {
        loop {
            match pair.connect().await {
                Ok(Some(1)) => return io::Result::Ok(()),
                Ok(_) => {}
                // Each end looks by itself. The server may know of the key first, and then asks for it.
                Err(error) if refusal(&error) == Some(Refusal::EncryptionKeyRequired) => {}
                Err(error) => return Err(error),
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await?
}

/// Streams share a connection, and a key that is installed meanwhile has the next one get another.
#[tokio::test]
async fn a_stream_that_is_opened_later_has_the_key_that_counts_by_then() -> io::Result<()> {
    let pair = Pair::over(Raida::start_on_loopback()?).await?;
    let Network { client, target, listener, .. } = &pair.network;
    let open = async || {
        let (here, there) = tokio::join!(client.connect_to(*target, "test"), listener.accept());
        io::Result::Ok((here?, there?.0))
    };
    let key = |stream: &qsocket::QSocketStream| stream.stats().encryption_key.map(|id| id.0[0]);
    let (mut first, mut its_peer) = open().await?;
    let (second, _) = open().await?;
    assert_eq!((key(&first), key(&second)), (None, None));
    pair.install(1)?;
    pair.reload()?;
    let (third, there) = open().await?;
    assert_eq!((key(&third), key(&there)), (Some(1), Some(1)));
    let (fourth, _) = open().await?;
    assert_eq!(key(&fourth), Some(1));

    // The streams from before go on, and with the last of them their connection ends.
    first.write_all(b"still here").await?;
    first.shutdown().await?;
    let mut got = String::new();
    its_peer.read_to_string(&mut got).await?;
    assert_eq!((&*got, key(&first)), ("still here", None));
    drop(second);
    its_peer.shutdown().await?;
    let mut health = its_peer.health();
    drop(first);
    tokio::time::timeout(Duration::from_secs(30), health.wait_for(|health| health.well() == 0))
        .await
        .expect("the old connection ends")
        .expect("its stream is still held");

    // None may be used any more: new streams are refused at once, those that run are not touched.
    pair.client.store().revoke(KeyId([1; 16]))?;
    pair.client.reload()?;
    let error = client.connect_to(*target, "test").await.expect_err("a refusal");
    assert!(no_usable_key(&error).is_some(), "{error}");
    assert_eq!(key(&third), Some(1));
    Ok(())
}

//! TLS that a proxy opens and seals again on its way: what a relay is compared with.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsStream;

use super::plain::Wire;
use super::tls::{self, KeyExchange, Pem, SERVER, Tls};
use crate::compare::peer::Peer;
use crate::party;

/// Mutual TLS 1.3 to HAProxy, and from there to the server, both with AES-256-GCM.
///
/// The key exchange is the one that HAProxy of Debian 12 has; it counts for nothing in a bulk transfer.
pub(crate) struct ViaHaProxy {
    tls: Tls,
    pem: Pem,
    proxy: HaProxy,
}

/// The process, once it runs. Ended with the last of these.
#[derive(Debug, Clone, Default)]
pub(crate) struct HaProxy(Arc<Mutex<Option<Running>>>);

#[derive(Debug)]
struct Running {
    child: Child,
    _folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It listens within a fraction of this.
const START: Duration = Duration::from_secs(10);

/// Between two looks whether it listens.
const LOOK: Duration = Duration::from_millis(20);

impl HaProxy {
    /// CPU time of the process.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        party::cpu(running.as_ref().context("HAProxy does not run")?.child.id())
    }

    /// Starts it in front of `server`, and waits until it listens.
    async fn start(&self, pem: &Pem, server: SocketAddr) -> Result<SocketAddr> {
        let folder = TempDir::new()?;
        // Free now; if somebody takes it meanwhile, HAProxy says so and ends.
        let address = Wire::LOOPBACK.bind()?.1;
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("authority.pem"), &pem.authority)?;
        std::fs::write(path("server.pem"), &pem.server)?;
        std::fs::write(path("client.pem"), &pem.client)?;
        let at = folder.path().display();
        let settings = format!(
            "global\n  nbthread 1\n  \
             ssl-default-bind-options ssl-min-ver TLSv1.3\n  \
             ssl-default-server-options ssl-min-ver TLSv1.3\n  \
             ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384\n  \
             ssl-default-server-ciphersuites TLS_AES_256_GCM_SHA384\n\
             defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 10m\n  timeout server 10m\n\
             frontend near\n  \
             bind {address} ssl crt {at}/server.pem ca-file {at}/authority.pem verify required\n  \
             default_backend far\n\
             backend far\n  \
             server far {server} ssl crt {at}/client.pem ca-file {at}/authority.pem verify required \
             verifyhost {SERVER} sni str({SERVER})\n"
        );
        let file = path("haproxy.cfg");
        std::fs::write(&file, settings)?;
        let absent = "HAProxy is absent: apt-get install --no-install-recommends haproxy";
        let version = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status();
        ensure!(version.context(absent)?.success(), "HAProxy does not run");
        // It ends with the thread that starts it, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "haproxy", "-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .context("setpriv (util-linux)")?;
        let mut running = Running { child, _folder: folder };
        let start = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = running.child.try_wait()? {
                bail!("HAProxy ended: {status}");
            }
            ensure!(start.elapsed() < START, "HAProxy does not listen");
            tokio::time::sleep(LOOK).await;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(address)
    }
}

impl ViaHaProxy {
    /// The peer, and a handle on the process that it starts.
    pub(crate) fn new() -> Result<(Self, HaProxy)> {
        let ends = tls::ends(KeyExchange::Classical)?;
        let pem = Pem {
            authority: ends.pem.authority.clone(),
            server: ends.pem.server.clone(),
            client: ends.pem.client.clone(),
        };
        let proxy = HaProxy::default();
        let tls = Tls::on(Wire::LOOPBACK, "HAProxy, TLS to TLS", KeyExchange::Classical, ends);
        Ok((Self { tls, pem, proxy: proxy.clone() }, proxy))
    }
}

impl Peer for ViaHaProxy {
    type Address = SocketAddr;
    type Listener = TcpListener;
    type Endpoint = (SocketAddr, ServerName<'static>);
    type Stream = TlsStream<TcpStream>;

    fn label(&self) -> &'static str {
        self.tls.label()
    }

    async fn bind(&self) -> Result<(TcpListener, SocketAddr)> {
        let (listener, server) = self.tls.bind().await?;
        Ok((listener, self.proxy.start(&self.pem, server).await?))
    }

    async fn accept(&self, listener: &mut TcpListener) -> Result<Self::Stream> {
        self.tls.accept(listener).await
    }

    async fn endpoint(&self, proxy: SocketAddr) -> Result<Self::Endpoint> {
        self.tls.endpoint(proxy).await
    }

    async fn connect(&self, endpoint: &mut Self::Endpoint) -> Result<Self::Stream> {
        self.tls.connect(endpoint).await
    }

    async fn open(&self, endpoint: &mut Self::Endpoint) -> Result<Option<Self::Stream>> {
        self.tls.open(endpoint).await
    }
}

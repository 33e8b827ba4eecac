//! An unchanged `dig` asks the stub.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::support::{LocalStub, TcpServer, example_zone, program, soon};

struct Setup {
    dig: std::path::PathBuf,
    stub: LocalStub,
    _server: TcpServer,
}

async fn setup() -> Option<Setup> {
    let dig = program("dig", "dnsutils")?;
    let server = TcpServer::start(example_zone()).await;
    let stub = LocalStub::to(server.address).await;
    Some(Setup { dig, stub, _server: server })
}

/// What `dig` prints, for arguments as on a command line. Settings of the user's own are left out (`-r`).
pub(crate) async fn dig(program: &Path, stub: SocketAddr, arguments: &str) -> String {
    let run = Command::new(program)
        .args(["-r", "@127.0.0.1", "-p", &stub.port().to_string(), "+tries=1", "+time=10"])
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = soon(run).await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "dig {arguments}: {printed}");
    printed
}

impl Setup {
    async fn dig(&self, arguments: &str) -> String {
        dig(&self.dig, self.stub.address, arguments).await
    }
}

pub(crate) fn sorted(printed: &str) -> Vec<&str> {
    let mut lines: Vec<_> = printed.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn over_udp_and_over_tcp() {
    let Some(setup) = setup().await else { return };
    for transport in ["+notcp", "+tcp"] {
        let addresses = setup.dig(&format!("www.raida.example A +short {transport}")).await;
        assert_eq!(sorted(&addresses), ["192.0.2.80", "198.51.100.80"]);
        let mail = setup.dig(&format!("raida.example MX +short {transport}")).await;
        assert_eq!(sorted(&mail), ["10 mail.raida.example.", "20 mail2.raida.example."]);
        let missing = setup.dig(&format!("nowhere.raida.example A {transport}")).await;
        assert!(missing.contains("status: NXDOMAIN"), "{missing}");
        let quoted = setup.dig(&format!("quoted.raida.example TXT +short {transport}")).await;
        assert_eq!(quoted.trim(), r#""semi;colon" "back\\slash" "a \"quote\"""#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_is_asked_again_over_tcp() {
    let Some(setup) = setup().await else { return };
    let cut = setup.dig("large.raida.example TXT +ignore").await;
    assert!(cut.contains(" tc") && cut.contains("ANSWER: 0,"), "{cut}");
    let whole = setup.dig("large.raida.example TXT").await;
    assert!(whole.contains("Truncated, retrying in TCP mode") && whole.contains("ANSWER: 18,"), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn edns_sizes_are_obeyed() {
    let Some(setup) = setup().await else { return };
    // About 1 KiB: too much for 512 bytes, with or without EDNS, and little enough for 1232.
    for (size, fits) in [("+noedns", false), ("+bufsize=512", false), ("+bufsize=1232", true)] {
        let printed = setup.dig(&format!("medium.raida.example TXT +ignore {size}")).await;
        assert_eq!(printed.contains("ANSWER: 4,"), fits, "{size}: {printed}");
        assert_eq!(printed.contains(" tc"), !fits, "{size}: {printed}");
        assert_eq!(printed.contains("OPT PSEUDOSECTION"), size != "+noedns", "{size}: {printed}");
    }
    // Larger than the stub sends over UDP at all.
    let printed = setup.dig("large.raida.example TXT +ignore +bufsize=65535").await;
    assert!(printed.contains(" tc"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    let Some(setup) = setup().await else { return };
    let asked: Vec<_> = (0..24)
        .map(|i| {
            let transport = if i % 3 == 0 { "+tcp" } else { "+notcp" };
            let arguments = format!("host-{i}.any.raida.example A +short {transport}");
            let (program, stub) = (setup.dig.clone(), setup.stub.address);
            tokio::spawn(async move { dig(&program, stub, &arguments).await })
        })
        .collect();
    for task in asked {
        assert_eq!(task.await.unwrap().trim(), "203.0.113.7");
    }
}

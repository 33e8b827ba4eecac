//! The wiki, asked by three users, while its policy changes.

use std::time::{Duration, Instant};

use crate::world::{NAME, Output, Program, World, run};

/// The bound that `docs/access.md` states for a change of the policy, and time for curl on a busy machine.
const SOON: Duration = Duration::from_secs(10);

const POLICY: &str = include_str!("../../wiki/access.toml");

const ANN: usize = 1;
const BOB: usize = 2;
const EVE: usize = 3;

struct Wiki {
    world: World,
    /// One for each user.
    proxies: Vec<Program>,
    _server: Program,
}

impl Wiki {
    async fn start() -> Self {
        let world = World::start(3);
        world.set_policy(POLICY);
        let server = world.server("wiki", |address| vec![address.to_string().into()]).await;
        let mut proxies = Vec::new();
        for user in [ANN, BOB, EVE] {
            proxies.push(Program::proxy(&world, user).await);
        }
        Self { world, proxies, _server: server }
    }

    /// The answer to a user, with the status behind it and the reason for a refusal.
    async fn ask(&self, user: usize, path: &str, more: &[&str]) -> Option<Output> {
        let proxy = self.proxies[user - 1].address.to_string();
        let url = format!("http://{NAME}{path}");
        let told = "%{http_code} %header{x-qsocket-reason}";
        let arguments =
            [&["--silent", "--write-out", told, "--socks5-hostname", &proxy, &url], more].concat();
        run("curl", "curl", &arguments).await
    }

    async fn told(&self, user: usize, path: &str, more: &[&str]) -> String {
        let output = self.ask(user, path, more).await.unwrap();
        assert_eq!(output.code, 0, "{}", output.err);
        output.out
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_decides_for_each_request() {
    let wiki = Wiki::start().await;
    let put = ["--request", "PUT", "--data", "All is well."];
    if wiki.ask(ANN, "/", &[]).await.is_none() {
        return;
    }
    assert_eq!(wiki.told(ANN, "/", &[]).await, "ann of editors, staff; may read by staff reads\n200 ");
    assert_eq!(wiki.told(BOB, "/", &[]).await, "bob of staff; may read by staff reads\n200 ");

    assert_eq!(wiki.told(ANN, "/pages/start", &put).await, "204 ");
    assert!(wiki.told(BOB, "/pages/start", &put).await.ends_with("403 not-permitted"));
    assert!(wiki.told(BOB, "/report", &[]).await.ends_with("403 not-permitted"));
    assert_eq!(wiki.told(BOB, "/pages/start", &[]).await, "All is well. (ann)\n200 ");
    assert_eq!(wiki.told(BOB, "/pages", &[]).await, "start\n200 ");
    assert_eq!(wiki.told(ANN, "/report", &[]).await, "1 pages\n200 ");
    // Eve gets no stream, so that no handler sees her.
    let eve = wiki.ask(EVE, "/", &[]).await.unwrap();
    assert!(eve.code != 0 && eve.out.trim_end() == "000", "{eve:?}");

    // Bob becomes an editor, and Ann loses everything.
    let policy = POLICY.replace("editors = [\"ann\"]", "editors = [\"bob\"]");
    wiki.world.set_policy(&policy.replace("[\"ann\", \"bob\"]", "[\"bob\"]"));
    let changed = Instant::now();
    while wiki.told(BOB, "/pages/start", &put).await != "204 " {
        assert!(changed.elapsed() < SOON, "bob is still no editor");
    }
    assert_eq!(wiki.told(BOB, "/pages/start", &[]).await, "All is well. (bob)\n200 ");
    let ann = wiki.ask(ANN, "/", &[]).await.unwrap();
    assert!(ann.code != 0 && ann.out.trim_end() == "000", "{ann:?}");
}

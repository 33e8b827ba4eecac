//! The web site, fetched by curl and by a browser.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::world::{NAME, Output, Program, World, run};

/// The site of the example, and a large file.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("site");
    for file in fs::read_dir(site).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    fs::write(folder.path().join("large"), large()).unwrap();
    folder
}

/// More than a window and many blocks.
fn large() -> Vec<u8> {
    (0..5_000_000).map(|n| (n % 251) as u8).collect()
}

struct Site {
    folder: tempfile::TempDir,
    proxy: Program,
    _server: Program,
    _world: World,
}

impl Site {
    async fn start() -> Self {
        let (world, folder) = (World::start(1), folder());
        let server = world
            .server("site", |address| {
                let listen: [OsString; 2] = ["--listen".into(), address.to_string().into()];
                [folder.path().into()].into_iter().chain(listen).collect()
            })
            .await;
        let proxy = Program::proxy(&world, 1).await;
        Self { folder, proxy, _server: server, _world: world }
    }

    async fn curl(&self, arguments: &[&str]) -> Option<Output> {
        let proxy = self.proxy.address.to_string();
        let arguments = [&["--silent", "--show-error", "--socks5-hostname", &proxy], arguments].concat();
        run("curl", "curl", &arguments).await
    }
}

/// What a page refers to, as a browser would find it.
fn links(page: &str) -> Vec<&str> {
    let of = |attribute| page.split(attribute).skip(1).map(|rest| rest.split_once('"').unwrap().0);
    of("href=\"").chain(of("src=\"")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_follows_the_links_of_a_page() {
    let site = Site::start().await;
    let url = |path: &str| format!("http://{NAME}/{path}");
    let Some(index) = site.curl(&[&url("")]).await else { return };
    assert_eq!(index.code, 0, "{}", index.err);
    assert_eq!(index.out, fs::read_to_string(site.folder.path().join("index.html")).unwrap());

    // As a browser does: everything over one connection that is kept.
    let fetched = tempfile::tempdir().unwrap();
    let mut files = links(&index.out);
    assert_eq!(files, ["style.css", "script.js"]);
    files.extend(["grid.json", "large"]);
    let mut arguments =
        vec!["--write-out".to_owned(), "%{http_code} %{num_connects} %{content_type}\n".to_owned()];
    for file in &files {
        arguments.extend(["--output".to_owned(), fetched.path().join(file).display().to_string(), url(file)]);
    }
    let output = site.curl(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    let expected =
        "200 1 text/css\n200 0 text/javascript\n200 0 application/json\n200 0 application/octet-stream\n";
    assert_eq!(output, Output { code: 0, out: expected.to_owned(), err: String::new() });
    for file in files {
        let [ours, theirs] =
            [fetched.path(), site.folder.path()].map(|folder| fs::read(folder.join(file)).unwrap());
        assert!(ours == theirs, "{file}: {} of {} bytes", ours.len(), theirs.len());
    }

    let head = site.curl(&["--head", &url("large")]).await.unwrap();
    assert!(head.out.contains("content-length: 5000000"), "{head:?}");
    let modified = head.out.lines().find_map(|line| line.strip_prefix("last-modified: ")).unwrap();
    for (arguments, code) in [(["--range", "251-260"], "206"), (["--time-cond", modified], "304")] {
        let (part, url) = (fetched.path().join("part").display().to_string(), url("large"));
        let rest = ["--output", &part, "--write-out", "%{http_code}", &url];
        assert_eq!(site.curl(&[&arguments[..], &rest].concat()).await.unwrap().out, code);
        if code == "206" {
            assert_eq!(fs::read(&part).unwrap(), (0..10).collect::<Vec<u8>>());
        }
    }
    for outside in ["missing", "../server-1.key.toml", "%2e%2e/server-1.key.toml"] {
        let arguments = ["--path-as-is", "--write-out", "%{http_code}", &url(outside)];
        assert_eq!(site.curl(&arguments).await.unwrap().out, "404", "{outside}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_the_page_and_runs_its_script() {
    let site = Site::start().await;
    let profile = tempfile::tempdir().unwrap();
    let proxy = format!("--proxy-server=socks5://{}", site.proxy.address);
    let profile = format!("--user-data-dir={}", profile.path().display());
    let url = format!("http://{NAME}/");
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        // Nothing is looked up here: names go to the proxy.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        // Until nothing is waited for any more, so that the script has run.
        "--virtual-time-budget=60000",
        "--dump-dom",
        &proxy,
        &profile,
        &url,
    ];
    let Some(page) = run("chromium", "chromium", &arguments).await else { return };
    assert_eq!(page.code, 0, "{}", page.err);
    assert!(page.out.contains("25 relays carried this page."), "{}\n{}", page.out, page.err);
    assert_eq!(page.out.matches("<td>").count(), 25, "{}", page.out);
}

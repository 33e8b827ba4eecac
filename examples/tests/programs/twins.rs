//! The web service before and after: with TLS, and over QSocket.

use crate::world::{NAME, Program, World, example, run};

#[tokio::test(flavor = "multi_thread")]
async fn both_say_the_same() {
    let world = World::start(1);
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name| world.folder().join(name);
    std::fs::write(file("cert.pem"), certificate.cert.pem()).unwrap();
    std::fs::write(file("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    let (tls, _) = Program::start(1, |ports| {
        let mut command = example("axum_tls");
        command.arg(ports[0].to_string()).current_dir(world.folder());
        command
    })
    .await;
    let _server = world.server("axum_qsocket", |address| vec![address.to_string().into()]).await;
    let proxy = Program::proxy(&world, 1).await;

    let authority = file("cert.pem").display().to_string();
    let proxy = proxy.address.to_string();
    for (path, status, text) in
        [("/", "200", "Hello!\n"), ("/Ada", "200", "Hello, Ada!\n"), ("/Ada/missing", "404", "")]
    {
        let urls =
            [format!("https://localhost:{}{path}", tls.address.port()), format!("http://{NAME}{path}")];
        for (url, way) in urls.iter().zip([["--cacert", &authority], ["--socks5-hostname", &proxy]]) {
            let arguments = ["--silent", "--write-out", "%{http_code}", way[0], way[1], url];
            let Some(output) = run("curl", "curl", &arguments).await else { return };
            assert_eq!((output.code, output.out), (0, format!("{text}{status}")), "{url}: {}", output.err);
        }
    }
}

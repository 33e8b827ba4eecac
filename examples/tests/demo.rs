//! The demonstration, as its example runs it.

use qsocket_examples::demo::Demo;
use qsocket_examples::demo::grid::Style;

#[tokio::test(flavor = "multi_thread")]
async fn every_query_is_answered_while_relays_fail() {
    let demo = Demo::start(0).await.unwrap();
    let mut shown = Vec::new();
    let summary = demo.run(&mut shown, Style::Plain).await.unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(summary.asked > 300 && summary.answered == summary.asked, "{summary:?}\n{shown}");
    assert!(summary.recovered.stripes > 0 && summary.recovered.mds > 0, "{summary:?}\n{shown}");

    let grids: Vec<_> = shown.split("\n\n").skip(1).take(6).collect();
    let count = |mark| grids.iter().map(|grid| grid.matches(mark).count()).collect::<Vec<_>>();
    assert_eq!(count("LOST"), [0, 0, 7, 14, 22, 0], "{shown}");
    assert_eq!(count("HANGS"), [0, 2, 2, 2, 2, 0], "{shown}");
    assert_eq!(count("alive")[0], 25, "{shown}");
    assert_eq!(count("alive")[5], 25, "{shown}");
    assert!(!shown.contains('\x1b'));
    demo.stop().await.unwrap();
}

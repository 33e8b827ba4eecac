//! `docs/recipes.md` shows code that runs: each block stands, word for word, in the first Rust file that
//! its section names.

use std::fs;
use std::path::Path;

const PAGE: &str = "docs/recipes.md";

#[test]
fn the_page_shows_what_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let sections: Vec<_> = page.split("\n## ").skip(1).collect();
    let mut blocks = 0;
    for section in sections {
        let title = section.lines().next().unwrap();
        for block in section.split("\n```rust\n").skip(1) {
            let block = block.split_once("\n```\n").unwrap().0;
            let links = section.split("](../").skip(1).map(|link| link.split_once(')').unwrap().0);
            let file = links.into_iter().find(|file| file.ends_with(".rs")).expect(title);
            let source = fs::read_to_string(root.join(file)).expect(file);
            assert!(source.contains(block), "{title}: not in {file}:\n{block}");
            blocks += 1;
        }
    }
    assert!(blocks >= 9, "{PAGE} has {blocks} blocks");
}

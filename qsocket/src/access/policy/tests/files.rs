use super::*;
use crate::access::{Directory, LiveDirectory};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

const FILE: &str = r#"
[users]
alice = ["1.0.1"]
bob = ["1.0.2", "2.0.2"]
web = ["1.0.7"]

[user_groups]
staff = ["alice", "bob"]

[resources]
wiki = ["wiki.example", "wiki.example:8080"]
reports = []

[resource_groups]
internal = ["wiki", "reports"]

[lists]
black = ["1.0.666"]

[[grants]]
name = "staff dials"
to = ["group:staff"]
on = ["group:internal"]
may = ["dial"]
until = 2027-01-31T00:00:00+01:00

[[grants]]
to = ["web"]
on = ["wiki"]
may = ["host"]

[[denials]]
name = "no reports for bob"
to = ["bob"]
on = ["reports"]
may = ["dial", "host"]
"#;

fn write(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("access.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    (folder, path)
}

#[test]
fn a_file_says_all_of_it() {
    let (_folder, path) = write(FILE);
    let policy = Policy::from_file(&path).unwrap();
    let decide = |who, action, id| policy.decide(p(who), action, Resource::Id(id), at(100));
    let permit = decide(1, Action::Dial, "reports").unwrap();
    assert_eq!(permit.rule.as_deref(), Some("staff dials"));
    // 2027-01-30T23:00:00Z
    assert_eq!(permit.until, Some(at(1_801_350_000)));
    assert_eq!(decide(2, Action::Dial, "reports").unwrap_err().rule.as_deref(), Some("no reports for bob"));
    assert_eq!(decide(7, Action::Host, "wiki").unwrap().rule.as_deref(), Some("grant in line 27"));
    assert_eq!(decide(666, Action::Dial, "wiki").unwrap_err().reason, Reason::BlackListed);
    assert_eq!(policy.white_list(), None);
    assert_eq!(policy.principals("bob").unwrap().len(), 2);
}

#[test]
fn an_empty_file_permits_nothing_and_an_empty_white_list_nobody() {
    let (_folder, path) = write("");
    assert_eq!(Policy::from_file(&path).unwrap(), Policy::new());
    let (_folder, path) = write(&FILE.replace("[lists]", "[lists]\nwhite = []"));
    let policy = Policy::from_file(&path).unwrap();
    assert_eq!(reason(&policy, 1, Action::Dial, "wiki"), Err(Reason::NotWhiteListed));
}

#[test]
fn mistakes_are_told_with_their_line_and_what_to_write() {
    for (from, to, line, part) in [
        ("[users]", "[user]", 2, "unknown field"),
        ("alice = [\"1.0.1\"]", "alice = [\"1.0\"]", 3, "network.denomination.serial"),
        ("alice = [\"1.0.1\"]", "alice = [\"1.0.2\"]", 4, "1.0.2 belongs to user \"alice\""),
        ("alice = [\"1.0.1\"]", "\"1.0.1\" = []", 3, "is not a name"),
        ("staff = [\"alice\", \"bob\"]", "staff = [\"alice\", \"bib\"]", 8, "there is no user \"bib\""),
        ("\"wiki.example:8080\"", "\"wiki example\"", 11, "HOST or HOST:PORT"),
        ("\"wiki.example:8080\"", "\"wiki.example\"", 11, "a name leads to one resource"),
        ("[\"wiki\", \"reports\"]", "[\"wiki\", \"report\"]", 15, "there is no resource \"report\""),
        ("[\"1.0.666\"]", "[\"group:stuff\"]", 18, "there is no user group \"stuff\""),
        ("black = ", "white = [\"alicia\"]\nblack = ", 18, "there is no user \"alicia\""),
        ("name = \"staff dials\"", "nam = \"staff dials\"", 21, "unknown field"),
        ("name = \"staff dials\"", "name = \"no reports for bob\"", 33, "use another name"),
        ("to = [\"group:staff\"]", "to = []", 21, "is about nothing"),
        ("on = [\"group:internal\"]", "on = [\"internal\"]", 23, "there is no resource \"internal\""),
        ("may = [\"dial\"]", "may = [\"read\"]", 24, "write \"dial\" or \"host\""),
        ("T00:00:00+01:00", "T00:00:00", 25, "offset from UTC"),
        ("may = [\"host\"]", "", 27, "missing field"),
    ] {
        assert!(FILE.contains(from), "{from}");
        let (_folder, path) = write(&FILE.replacen(from, to, 1));
        let error = Policy::from_file(&path).unwrap_err().to_string();
        let place = format!("{}:{line}: ", path.display());
        assert!(error.starts_with(&place) && error.contains(part), "{from} -> {to}: {error}");
    }
}

#[test]
fn a_file_that_everybody_may_write_is_refused() {
    let (_folder, path) = write(FILE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = Policy::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("chmod o-w"), "{error}");
}

#[test]
fn a_changed_file_is_taken_and_a_bad_one_is_not() {
    let (folder, path) = write(FILE);
    let directory = LiveDirectory::from_file(&path).unwrap();
    let changes = directory.changes().unwrap();
    let alice = |directory: &LiveDirectory| {
        directory.decide(p(1), Action::Dial, Resource::Named("wiki.example:80"), at(100)).is_ok()
    };
    assert!(alice(&directory) && !directory.reload_if_changed().unwrap());

    // Replaced by a rename, as careful editors do.
    let replace = |text: &str| {
        let new = folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
    };
    replace(&FILE.replace("\"1.0.666\"", "\"alice\""));
    assert!(directory.reload_if_changed().unwrap() && changes.has_changed().unwrap());
    assert!(!alice(&directory));
    replace(FILE);
    assert!(directory.reload_if_changed().unwrap() && alice(&directory));

    let in_force = directory.policy();
    replace("[users]\nalice = 3\n");
    assert!(directory.reload_if_changed().unwrap_err().to_string().contains(":2: "));
    assert_eq!(directory.policy(), in_force);
    assert!(!directory.reload_if_changed().unwrap(), "one state of a file is one error");
    assert!(directory.reload().is_err(), "who asks is told again");

    fs::remove_file(&path).unwrap();
    assert!(directory.reload_if_changed().is_err());
    assert!(alice(&directory), "a file that is gone revokes nothing");
    replace(&FILE.replace("1.0.1", "1.0.11"));
    assert!(directory.reload_if_changed().unwrap() && !alice(&directory));
}

#[test]
fn an_edit_holds_whole_or_not_at_all() {
    let (_folder, path) = write(FILE);
    let directory = LiveDirectory::from_file(&path).unwrap();
    let before = directory.policy();
    let failed = directory.edit(|policy| {
        policy.remove_user("alice")?;
        policy.remove_user("nobody")
    });
    assert!(failed.is_err());
    assert_eq!(directory.policy(), before);
    assert!(!directory.changes().unwrap().has_changed().unwrap());
    directory.edit(|policy| policy.remove_user("alice")).unwrap();
    assert_eq!(directory.admit(p(1)).unwrap_err().reason, Reason::UnknownUser);
}

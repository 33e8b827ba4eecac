use super::*;
use crate::keys::{MAX_FILE_BYTES, load_raida_key};
use crate::rng::OsRng;
use qsocket_proto::ids::{Principal, Role};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

const P: Principal = Principal { network: 1, denomination: -2, serial: 1042 };

fn request() -> Request {
    Request::new(P, Role::Server, PathId::new(7).unwrap(), &mut OsRng)
}

/// A request as text, whose half is easy to find.
fn text() -> String {
    let (id, half) = ("0a".repeat(16), "5ec2e7".repeat(10) + "5ec2");
    format!(
        "kind = \"enrolment-request\"\nversion = 1\nprincipal = \"1.-2.1042\"\nrole = \"server\"\nrelay = 7\n\
         request = \"{id}\"\nhalf = \"{half}\"\n"
    )
}

fn refusal(text: &str) -> (usize, String) {
    match read_request(text.as_bytes()) {
        Err(e @ KeyFileError::Content { line, .. }) => (line, e.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn written_files_load_and_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let (r, a) = (dir.path().join("r"), dir.path().join("a"));
    let request = request();
    let (answer, number) = request.answer(&mut OsRng);
    save_request(&r, &request).unwrap();
    save_answer(&a, &answer).unwrap();
    for path in [&r, &a] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o600);
    }
    let (read, back) = (load_request(&r).unwrap(), load_answer(&a).unwrap());
    assert_eq!((read.subject, back.subject), (request.subject, request.subject));
    assert_eq!(read.finish(&back).unwrap().expose(), number.expose());
    assert_eq!(read_request(&fs::read(&r).unwrap()[..]).unwrap().subject, request.subject);
    assert_eq!(answer_text(&answer).as_bytes(), fs::read(&a).unwrap());
}

#[test]
fn files_that_others_can_open_and_links_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    save_request(&path, &request()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let e = load_request(&path).unwrap_err();
    assert!(e.to_string().ends_with(&format!("run: chmod 600 {}", path.display())), "{e}");
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(load_request(&link), Err(KeyFileError::Symlink { .. })));
    assert!(matches!(load_answer(&link), Err(KeyFileError::Symlink { .. })));
    assert!(matches!(erase(&link), Err(KeyFileError::Symlink { .. })));
    assert!(path.exists());
}

#[test]
fn fields_are_checked_one_by_one() {
    let half = "5ec2e7".repeat(10) + "5ec2";
    for (from, to, line, what) in [
        ("enrolment-request", "enrolment-answer".to_owned(), 1, "it goes to the principal"),
        ("enrolment-request", "raida-key".to_owned(), 1, "RAIDA key"),
        ("version = 1", "version = 2".to_owned(), 2, "version = 1"),
        ("1.-2.1042", "1.1042".to_owned(), 3, "network.denomination.serial"),
        ("\"server\"", "\"both\"".to_owned(), 4, "\"client\" or \"server\""),
        ("relay = 7", "relay = 25".to_owned(), 5, "0 to 24"),
        ("relay = 7", "relay = -1".to_owned(), 5, "0 to 24"),
        ("0a0a", "0a".to_owned(), 6, "request: 30 characters where 32"),
        (&half, half[2..].to_owned(), 7, "half: 62 characters where 64"),
        (&half, "00".repeat(32), 7, "all zero"),
        ("half", "hallf".to_owned(), 7, "unknown field"),
        ("relay = 7\n", String::new(), 6, "`relay` is missing"),
    ] {
        let (at, problem) = refusal(&text().replacen(from, &to, 1));
        assert!(problem.contains(what) && problem.starts_with("standard input:"), "{problem}");
        assert_eq!(at, line, "{problem}");
    }
}

#[test]
fn errors_repeat_no_half() {
    for (from, to) in [
        ("half = \"", "half = "),
        ("half = \"", "\""),
        ("half = \"", "half = \"x"),
        ("request = \"0a0a", "request = \"5ec2e75ec2e7"),
        ("role = \"server\"", "role = \"5ec2e7\""),
        ("principal = \"1.-2.1042\"", "principal = \"5ec2e7\""),
    ] {
        let e = read_request(text().replacen(from, to, 1).as_bytes()).expect_err(to);
        for shown in [e.to_string(), format!("{e:?}"), format!("{:?}", io::Error::from(e))] {
            assert!(!shown.contains("5ec2"), "{shown}");
        }
    }
}

#[test]
fn a_pipe_that_does_not_end_is_refused() {
    assert!(matches!(read_request(io::repeat(b'#')), Err(KeyFileError::TooLarge { .. })));
    let long = "#".repeat(MAX_FILE_BYTES - text().len() - 1) + "\n" + &text();
    assert!(read_request(long.as_bytes()).is_ok());
}

#[test]
fn kinds_are_not_taken_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    save_request(&path, &request()).unwrap();
    assert!(load_answer(&path).unwrap_err().to_string().contains("goes to the relay's operator"));
    assert!(load_raida_key(&path).unwrap_err().to_string().contains("goes to the relay's operator"));
}

#[test]
fn erased_files_are_zeros_and_then_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("r"), dir.path().join("other name"));
    save_request(&path, &request()).unwrap();
    fs::hard_link(&path, &other).unwrap();
    let before = fs::read(&other).unwrap().len();
    erase(&path).unwrap();
    assert!(!path.exists());
    assert_eq!(fs::read(&other).unwrap(), vec![0; before]);
    assert!(matches!(erase(&path), Err(KeyFileError::Io { .. })));
}

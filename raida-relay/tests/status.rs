//! The program against admin ports that are made by hand: what it prints, and what it asks of the system for itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

const STATUS: &str = r#"{"version":"9.8.7","process":{"resident_bytes":1048576,"open_files":9},"relays":[{"relay":7,
"network":1,"listen":"192.0.2.1:50007","operator":null,"region":null,"uptime_seconds":61,"listening":true,
"draining":false,"principals":3,"banned":0,"last_reload":null,"stats":{"connections":2,"hops":{"clients":1,"servers":1},
"routes":5,"queued_bytes":0,"to_servers":{"bytes":1024,"frames":1},"to_clients":{"bytes":0,"frames":0},
"dropped_bytes":0,"refused":{"rate":4},"dials":1,"dial_failures":0,"dial_failures_in_a_row":0}}]}"#;

fn ask(at: SocketAddr, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raida-relay"));
    command.args(["status", "--admin", &at.to_string()]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Answers one request with [`STATUS`], and returns what the program did with it.
fn answered(more: &[&str]) -> Output {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let asking = ask(port.local_addr().unwrap(), more);
    let (mut stream, _) = port.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"GET /status HTTP/1.1\r\n"));
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{STATUS}", STATUS.len()).unwrap();
    asking.wait_with_output().unwrap()
}

#[test]
fn the_status_is_printed_as_a_table_or_as_json() {
    let table = answered(&[]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(table.status.success() && text.starts_with("raida-relay 9.8.7, 1.0 MiB in memory\n"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("7      listening  192.0.2.1:50007  1 min"), "{text}");

    let json = answered(&["--json"]);
    let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&json.stdout), value(STATUS.as_bytes()));
}

#[test]
fn nobody_there_is_exit_code_1_and_says_what_to_do() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = port.local_addr().unwrap();
    drop(port);
    let Output { status, stdout, stderr } = ask(at, &[]).wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stdout.len()), (Some(1), 0), "{stderr}");
    assert!(stderr.contains("raida-relay run") && stderr.contains(&at.to_string()), "{stderr}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_leaves_no_core_dump() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut asking = ask(port.local_addr().unwrap(), &[]);
    // It waits for an answer from here on.
    let taken = port.accept().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", asking.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
    drop(taken);
    assert_eq!(asking.wait().unwrap().code(), Some(1));
}

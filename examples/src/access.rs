//! Questions to a policy file, asked and answered on the command line.

use std::io::{self, Write};
use std::time::SystemTime;

use qsocket::access::{Action, Policy, Resource};

/// How to call it.
pub const USAGE: &str = "usage: access check FILE
       access explain FILE WHO ACTION WHAT

FILE    a policy file
WHO     a user, or a principal such as 1.0.1042
ACTION  dial or host
WHAT    a name that clients connect to, such as wiki.example:443, or id:RESOURCE

Exit codes: 0 allowed, or the file is good; 1 refused; 2 a mistake, which is told.";

/// Answers, and returns the exit code.
pub fn run(args: impl IntoIterator<Item = String>, out: &mut impl Write, err: &mut impl Write) -> u8 {
    let args: Vec<String> = args.into_iter().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let answer = match *args {
        ["-h" | "--help"] => writeln!(out, "{USAGE}").map(|()| 0).map_err(|e| e.to_string()),
        ["check", file] => check(file, out),
        ["explain", file, who, action, what] => explain(file, who, action, what, out),
        _ => Err(USAGE.to_owned()),
    };
    answer.unwrap_or_else(|problem| {
        // Nobody is left to tell that nobody can be told.
        let _ = writeln!(err, "{problem}");
        2
    })
}

fn check(file: &str, out: &mut impl Write) -> Result<u8, String> {
    let policy = Policy::from_file(file).map_err(|e| e.to_string())?;
    let now = SystemTime::now();
    let over = policy.grants().filter(|rule| rule.ends().is_some_and(|end| end <= now)).count();
    let (grants, denials) = (policy.grants().count(), policy.denials().count());
    told(writeln!(out, "{file} is good: {grants} grants, {over} of them over; {denials} denials"))?;
    Ok(0)
}

fn explain(file: &str, who: &str, action: &str, what: &str, out: &mut impl Write) -> Result<u8, String> {
    let policy = Policy::from_file(file).map_err(|e| e.to_string())?;
    let action = Action::ALL.into_iter().find(|known| known.as_str() == action);
    let action = action.ok_or("the action is dial or host")?;
    let what = what.strip_prefix("id:").map_or(Resource::Named(what), Resource::Id);
    let now = SystemTime::now();
    let explained = match who.parse() {
        Ok(principal) => vec![policy.explain(principal, action, what, now)],
        Err(_) => policy.explain_user(who, action, what, now).map_err(|e| e.to_string())?,
    };
    if explained.is_empty() {
        return Err(format!("{who} has no principal, so nobody can act as {who}"));
    }
    for explanation in &explained {
        told(writeln!(out, "{explanation}"))?;
    }
    Ok(explained.iter().any(|explanation| explanation.decision.is_err()).into())
}

fn told(written: io::Result<()>) -> Result<(), String> {
    written.map_err(|e| format!("cannot write: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program prints, and its exit code, for the policy file of the documentation.
    fn access(args: &[&str]) -> (u8, String) {
        let page = include_str!("../../docs/access.md");
        let policy = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.toml");
        std::fs::write(&file, policy).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let args = args.iter().map(|arg| if *arg == "FILE" { file.clone() } else { (*arg).to_owned() });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(args, &mut out, &mut err);
        out.append(&mut err);
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_file_of_the_documentation_is_good_and_explained() {
        let (code, text) = access(&["check", "FILE"]);
        assert!(code == 0 && text.contains("2 grants") && text.contains("1 denials"), "{text}");
        let (code, text) = access(&["explain", "FILE", "1.0.7", "host", "id:billing"]);
        assert!(code == 0 && text.starts_with("1.0.7 may host the resource \"billing\""), "{text}");
        let (code, text) = access(&["explain", "FILE", "bob", "dial", "id:reports"]);
        assert_eq!(code, 1, "{text}");
        assert_eq!(text.matches("by no reports for bob").count(), 2, "one for each principal: {text}");
        let (code, text) = access(&["explain", "FILE", "web", "dial", "wiki.example:443"]);
        assert!(code == 1 && text.contains("white list: does not name it"), "{text}");
    }

    #[test]
    fn mistakes_are_told() {
        for (args, part) in [
            (&["explain", "FILE", "dora", "dial", "x"][..], "no user \"dora\""),
            (&["explain", "FILE", "mallory", "dial", "x"], "mallory has no principal"),
            (&["explain", "FILE", "bob", "read", "x"], "dial or host"),
            (&["check", "/nowhere/access.toml"], "/nowhere/access.toml"),
            (&["check"], "usage:"),
        ] {
            let (code, text) = access(args);
            assert!(code == 2 && text.contains(part), "{args:?}: {text}");
        }
    }
}

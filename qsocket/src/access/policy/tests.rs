mod edits;
mod files;

use super::*;
use std::time::Duration;

fn p(serial: u32) -> Principal {
    Principal { network: 1, denomination: 0, serial }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

fn rule(name: &str, to: &[&str], on: &[&str], may: &[Action]) -> Rule {
    let on: Vec<Object> = on.iter().map(|text| text.parse().unwrap()).collect();
    Rule::new(name, to.iter().map(|text| subject(text)), on, may.iter().copied())
}

/// alice (1, staff), bob (2, staff and night), web (7, which hosts); wiki and billing are internal.
fn office() -> Policy {
    let mut policy = Policy::new();
    for (user, principal) in [("alice", p(1)), ("bob", p(2)), ("web", p(7))] {
        policy.add_user(user).unwrap();
        policy.add_principal(user, principal).unwrap();
    }
    for (group, users) in [("staff", &["alice", "bob"][..]), ("night", &["bob"])] {
        policy.add_group(group).unwrap();
        users.iter().for_each(|user| policy.join(group, user).unwrap());
    }
    policy.add_resource_group("internal").unwrap();
    for (resource, services) in
        [("wiki", &["wiki.example", "[2001:db8::1]:80"][..]), ("billing", &["wiki.example:444"])]
    {
        policy.add_resource(resource).unwrap();
        policy.gather("internal", resource).unwrap();
        services.iter().for_each(|name| policy.add_service(resource, name.parse().unwrap()).unwrap());
    }
    policy.grant(rule("staff-dials", &["group:staff"], &["group:internal"], &[Action::Dial])).unwrap();
    policy.grant(rule("web-hosts", &["web"], &["wiki"], &[Action::Host])).unwrap();
    policy
}

fn reason(policy: &Policy, who: u32, action: Action, id: &str) -> Result<(), Reason> {
    policy.decide(p(who), action, Resource::Id(id), at(100)).map(drop).map_err(|denial| denial.reason)
}

#[test]
fn by_default_nobody_may_do_anything() {
    let policy = Policy::new();
    assert_eq!(policy.admit(p(1)), Err(Reason::UnknownUser.into()));
    assert_eq!(reason(&policy, 1, Action::Dial, "wiki"), Err(Reason::UnknownUser));
    let mut policy = office();
    policy.add_user("carol").unwrap();
    policy.add_principal("carol", p(3)).unwrap();
    assert_eq!(policy.admit(p(3)), Ok(()));
    assert_eq!(reason(&policy, 3, Action::Dial, "wiki"), Err(Reason::NotGranted));
}

#[test]
fn a_permit_says_who_what_and_by_which_rule() {
    let permit = office().decide(p(2), Action::Dial, Resource::Named("wiki.example:443"), at(0)).unwrap();
    assert_eq!(permit.user, Some(User::new("bob", ["staff", "night"])));
    assert_eq!((permit.resource.as_deref(), permit.rule.as_deref()), (Some("wiki"), Some("staff-dials")));
    assert_eq!(permit.until, None);
    assert!(permit.user.unwrap().is_in("night"));
}

#[test]
fn names_lead_to_resources_as_clients_write_them() {
    let policy = office();
    let led = |name: &str| {
        let permit = policy.decide(p(1), Action::Dial, Resource::Named(name), at(0));
        permit.map(|permit| permit.resource.unwrap().to_string()).map_err(|denial| denial.reason)
    };
    for name in ["wiki.example:443", "WIKI.example.:80", "wiki.example", "[2001:db8:0::1]:80"] {
        assert_eq!(led(name).as_deref(), Ok("wiki"), "{name}");
    }
    assert_eq!(led("wiki.example:444").as_deref(), Ok("billing"));
    for name in
        ["", "wiki", "wiki.example:0", "wiki.example:x", "[2001:db8::1]:81", "a wiki.example", "\u{202e}"]
    {
        assert_eq!(led(name), Err(Reason::UnknownResource), "{name}");
    }
}

#[test]
fn dialling_and_hosting_are_granted_apart() {
    let policy = office();
    assert_eq!(reason(&policy, 7, Action::Host, "wiki"), Ok(()));
    assert_eq!(reason(&policy, 7, Action::Host, "billing"), Err(Reason::NotGranted));
    assert_eq!(reason(&policy, 7, Action::Dial, "wiki"), Err(Reason::NotGranted));
    assert_eq!(reason(&policy, 1, Action::Host, "wiki"), Err(Reason::NotGranted));
}

#[test]
fn the_first_wrong_answer_decides() {
    let mut policy = office();
    let now = |policy: &Policy, who| reason(policy, who, Action::Dial, "wiki");
    assert_eq!(now(&policy, 1), Ok(()));
    policy.deny(rule("no-night", &["group:night"], &["wiki"], &[Action::Dial])).unwrap();
    assert_eq!((now(&policy, 1), now(&policy, 2)), (Ok(()), Err(Reason::Denied)));
    // A list is asked before rules, whatever they grant.
    policy.set_white_list(Some([subject("bob"), subject("1.0.9")].into())).unwrap();
    assert_eq!((now(&policy, 1), now(&policy, 2)), (Err(Reason::NotWhiteListed), Err(Reason::Denied)));
    assert_eq!(now(&policy, 9), Err(Reason::UnknownUser));
    assert_eq!(reason(&policy, 7, Action::Host, "wiki"), Ok(()), "the white list is about dialling");
    policy.black_list_add(subject("group:staff")).unwrap();
    policy.black_list_add(subject("1.0.7")).unwrap();
    for who in [1, 2] {
        assert_eq!(now(&policy, who), Err(Reason::BlackListed));
        assert_eq!(policy.admit(p(who)).unwrap_err().reason, Reason::BlackListed);
    }
    assert_eq!(reason(&policy, 7, Action::Host, "wiki"), Err(Reason::BlackListed));
}

#[test]
fn a_grant_ends_and_the_longest_counts() {
    let mut policy = office();
    policy.remove_grant("staff-dials").unwrap();
    let short = rule("a-short", &["alice"], &["wiki"], &[Action::Dial]).until(at(50));
    let long = rule("long", &["group:staff"], &["wiki"], &[Action::Dial]).until(at(60));
    policy.grant(short).unwrap();
    policy.grant(long).unwrap();
    let decide =
        |policy: &Policy, seconds| policy.decide(p(1), Action::Dial, Resource::Id("wiki"), at(seconds));
    let permit = decide(&policy, 10).unwrap();
    assert_eq!((permit.rule.as_deref(), permit.until), (Some("long"), Some(at(60))));
    assert!(decide(&policy, 59).is_ok());
    let denial = decide(&policy, 60).unwrap_err();
    assert_eq!((denial.reason, denial.rule.as_deref()), (Reason::Expired, Some("long")));
    // A denial ends too.
    policy.grant(rule("for ever", &["alice"], &["wiki"], &[Action::Dial])).unwrap();
    policy.deny(rule("holiday", &["alice"], &["wiki"], &[Action::Dial]).until(at(70))).unwrap();
    assert_eq!(decide(&policy, 69).unwrap_err().reason, Reason::Denied);
    assert_eq!(decide(&policy, 70).unwrap().until, None);
}

#[test]
fn an_explanation_shows_every_question_and_the_rule() {
    let mut policy = office();
    let asked = |policy: &Policy| {
        policy.explain_user("bob", Action::Dial, Resource::Named("wiki.example:443"), at(0)).unwrap()[0]
            .to_string()
    };
    assert_eq!(
        asked(&policy),
        "1.0.2 may dial the name \"wiki.example:443\", by \"staff-dials\"\n  \
         1 black list: does not name it\n  \
         2 white list: there is none\n  \
         3 user: bob, in night, staff\n  \
         4 resource: the name \"wiki.example:443\" belongs to wiki\n  \
         5 denials: none\n  \
         6 grants: \"staff-dials\" grants it"
    );
    policy.deny(rule("no-night", &["group:night"], &["group:internal"], &Action::ALL)).unwrap();
    assert_eq!(
        asked(&policy),
        "1.0.2 may not dial the name \"wiki.example:443\": a rule denies it, by no-night\n  \
         1 black list: does not name it\n  \
         2 white list: there is none\n  \
         3 user: bob, in night, staff\n  \
         4 resource: the name \"wiki.example:443\" belongs to wiki\n  \
         5 denials: \"no-night\" denies it"
    );
    policy.remove_grant("web-hosts").unwrap();
    policy.grant(rule("web-hosted", &["web"], &["wiki"], &[Action::Host]).until(at(1_000_000_000))).unwrap();
    let hosts = policy.explain(p(7), Action::Host, Resource::Id("wiki"), at(5)).to_string();
    assert!(hosts.ends_with("6 grants: \"web-hosted\" grants it until 2001-09-09T01:46:40Z"), "{hosts}");
    assert!(policy.explain_user("nobody", Action::Dial, Resource::Id("wiki"), at(0)).is_err());
}

#[test]
fn what_a_peer_is_told_does_not_say_what_exists() {
    let told: Vec<_> = Reason::ALL.into_iter().map(Reason::refusal).collect();
    use qsocket_proto::open::Refusal::{BlackListed, NotPermitted, NotWhiteListed};
    let [unknown_user, unknown_resource, denied, expired, not_granted] = [NotPermitted; 5];
    let expected =
        [BlackListed, NotWhiteListed, unknown_user, unknown_resource, denied, expired, not_granted];
    assert_eq!(told, expected);
}

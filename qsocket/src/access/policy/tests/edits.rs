//! No sequence of edits grants what no rule grants.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const USERS: [&str; 3] = ["alice", "bob", "carol"];
const GROUPS: [&str; 2] = ["staff", "night"];
const RESOURCES: [&str; 3] = ["wiki", "billing", "shell"];
const RESOURCE_GROUPS: [&str; 2] = ["internal", "public"];
const RULES: [&str; 4] = ["one", "two", "three", "four"];
const SERVICES: [&str; 3] = ["a.example", "a.example:1", "b.example:1"];
/// Nobody's from the start; edits give them to users.
const PRINCIPALS: [u32; 4] = [1, 2, 3, 4];
/// When the questions are asked, and when rules end: before, exactly then, after.
const NOW: u64 = 100;
const ENDS: [Option<u64>; 4] = [None, Some(99), Some(100), Some(101)];

#[derive(Clone, Debug)]
enum Edit {
    AddUser(usize),
    RemoveUser(usize),
    AddPrincipal(usize, usize),
    RemovePrincipal(usize),
    AddGroup(usize),
    RemoveGroup(usize),
    Join(usize, usize),
    Leave(usize, usize),
    AddResource(usize),
    RemoveResource(usize),
    AddService(usize, usize),
    RemoveService(usize),
    AddResourceGroup(usize),
    RemoveResourceGroup(usize),
    Gather(usize, usize),
    Scatter(usize, usize),
    White(Option<Vec<Subject>>),
    Black(Subject),
    Pardon(Subject),
    Grant(Rule),
    Deny(Rule),
    RemoveGrant(usize),
    RemoveDenial(usize),
}

fn subjects() -> impl Strategy<Value = Subject> {
    prop_oneof![
        (0..USERS.len()).prop_map(|i| Subject::User(USERS[i].into())),
        (0..GROUPS.len()).prop_map(|i| Subject::Group(GROUPS[i].into())),
        (0..PRINCIPALS.len()).prop_map(|i| Subject::Principal(p(PRINCIPALS[i]))),
    ]
}

fn objects() -> impl Strategy<Value = Object> {
    prop_oneof![
        (0..RESOURCES.len()).prop_map(|i| Object::Resource(RESOURCES[i].into())),
        (0..RESOURCE_GROUPS.len()).prop_map(|i| Object::Group(RESOURCE_GROUPS[i].into())),
    ]
}

fn rules() -> impl Strategy<Value = Rule> {
    let may = prop_oneof![Just(vec![Action::Dial]), Just(vec![Action::Host]), Just(Action::ALL.to_vec())];
    let to = prop::collection::vec(subjects(), 1..3);
    let on = prop::collection::vec(objects(), 1..3);
    (0..RULES.len(), to, on, may, 0..ENDS.len()).prop_map(|(name, to, on, may, end)| {
        let rule = Rule::new(RULES[name], to, on, may);
        match ENDS[end] {
            None => rule,
            Some(end) => rule.until(at(end)),
        }
    })
}

fn edits() -> impl Strategy<Value = Edit> {
    let (u, g, r, rg) = (0..USERS.len(), 0..GROUPS.len(), 0..RESOURCES.len(), 0..RESOURCE_GROUPS.len());
    let (p, s, n) = (0..PRINCIPALS.len(), 0..SERVICES.len(), 0..RULES.len());
    // What builds is drawn more often than what takes away, so that there is something to take away.
    prop_oneof![
        4 => u.clone().prop_map(Edit::AddUser),
        1 => u.clone().prop_map(Edit::RemoveUser),
        6 => (u.clone(), p.clone()).prop_map(|(u, p)| Edit::AddPrincipal(u, p)),
        1 => p.prop_map(Edit::RemovePrincipal),
        3 => g.clone().prop_map(Edit::AddGroup),
        1 => g.clone().prop_map(Edit::RemoveGroup),
        5 => (g.clone(), u.clone()).prop_map(|(g, u)| Edit::Join(g, u)),
        1 => (g, u).prop_map(|(g, u)| Edit::Leave(g, u)),
        4 => r.clone().prop_map(Edit::AddResource),
        1 => r.clone().prop_map(Edit::RemoveResource),
        3 => (r.clone(), s.clone()).prop_map(|(r, s)| Edit::AddService(r, s)),
        1 => s.prop_map(Edit::RemoveService),
        3 => rg.clone().prop_map(Edit::AddResourceGroup),
        1 => rg.clone().prop_map(Edit::RemoveResourceGroup),
        5 => (rg.clone(), r.clone()).prop_map(|(g, r)| Edit::Gather(g, r)),
        1 => (rg, r).prop_map(|(g, r)| Edit::Scatter(g, r)),
        1 => prop::option::of(prop::collection::vec(subjects(), 0..4)).prop_map(Edit::White),
        1 => subjects().prop_map(Edit::Black),
        1 => subjects().prop_map(Edit::Pardon),
        8 => rules().prop_map(Edit::Grant),
        2 => rules().prop_map(Edit::Deny),
        1 => n.clone().prop_map(Edit::RemoveGrant),
        1 => n.prop_map(Edit::RemoveDenial),
    ]
}

/// For edits that cannot fail.
fn done<T>(_: T) -> Result<(), PolicyError> {
    Ok(())
}

fn apply(policy: &mut Policy, edit: &Edit) -> Result<(), PolicyError> {
    match edit.clone() {
        Edit::AddUser(u) => policy.add_user(USERS[u]),
        Edit::RemoveUser(u) => policy.remove_user(USERS[u]),
        Edit::AddPrincipal(u, i) => policy.add_principal(USERS[u], p(PRINCIPALS[i])),
        Edit::RemovePrincipal(i) => done(policy.remove_principal(p(PRINCIPALS[i]))),
        Edit::AddGroup(g) => policy.add_group(GROUPS[g]),
        Edit::RemoveGroup(g) => policy.remove_group(GROUPS[g]),
        Edit::Join(g, u) => policy.join(GROUPS[g], USERS[u]),
        Edit::Leave(g, u) => done(policy.leave(GROUPS[g], USERS[u])),
        Edit::AddResource(r) => policy.add_resource(RESOURCES[r]),
        Edit::RemoveResource(r) => policy.remove_resource(RESOURCES[r]),
        Edit::AddService(r, s) => policy.add_service(RESOURCES[r], SERVICES[s].parse().unwrap()),
        Edit::RemoveService(s) => done(policy.remove_service(&SERVICES[s].parse().unwrap())),
        Edit::AddResourceGroup(g) => policy.add_resource_group(RESOURCE_GROUPS[g]),
        Edit::RemoveResourceGroup(g) => policy.remove_resource_group(RESOURCE_GROUPS[g]),
        Edit::Gather(g, r) => policy.gather(RESOURCE_GROUPS[g], RESOURCES[r]),
        Edit::Scatter(g, r) => done(policy.scatter(RESOURCE_GROUPS[g], RESOURCES[r])),
        Edit::White(list) => policy.set_white_list(list.map(|list| list.into_iter().collect())),
        Edit::Black(subject) => policy.black_list_add(subject),
        Edit::Pardon(subject) => done(policy.black_list_remove(&subject)),
        Edit::Grant(rule) => policy.grant(rule),
        Edit::Deny(rule) => policy.deny(rule),
        Edit::RemoveGrant(n) => done(policy.remove_grant(RULES[n])),
        Edit::RemoveDenial(n) => done(policy.remove_denial(RULES[n])),
    }
}

type Question = (Principal, Action, &'static str);

fn questions() -> impl Iterator<Item = Question> {
    PRINCIPALS.into_iter().flat_map(|serial| {
        Action::ALL.into_iter().flat_map(move |action| RESOURCES.map(|id| (p(serial), action, id)))
    })
}

fn allowed(policy: &Policy) -> BTreeSet<Question> {
    questions()
        .filter(|(who, action, id)| policy.decide(*who, *action, Resource::Id(id), at(NOW)).is_ok())
        .collect()
}

/// Whether a subject means a principal, by the tables alone.
fn means(policy: &Policy, subject: &Subject, who: Principal) -> bool {
    let holds = |user: &str| policy.users.get(user).is_some_and(|member| member.principals.contains(&who));
    match subject {
        Subject::Principal(principal) => *principal == who,
        Subject::User(user) => holds(user),
        Subject::Group(group) => policy.groups.get(group).into_iter().flatten().any(|user| holds(user)),
    }
}

fn covers(policy: &Policy, rule: &Rule, (who, action, id): Question) -> bool {
    let object = |object: &Object| match object {
        Object::Resource(name) => **name == *id,
        Object::Group(group) => policy.resource_groups.get(group).is_some_and(|all| all.contains(id)),
    };
    rule.until.is_none_or(|until| until > at(NOW))
        && rule.may.contains(&action)
        && rule.to.iter().any(|subject| means(policy, subject, who))
        && rule.on.iter().any(object)
}

/// The answer by the words of the documentation, without any index.
fn oracle(policy: &Policy, question: Question) -> bool {
    let (who, action, id) = question;
    let on = |list: &BTreeSet<Subject>| list.iter().any(|subject| means(policy, subject, who));
    !on(&policy.black)
        && (action == Action::Host || policy.white.as_ref().is_none_or(on))
        && policy.users.values().any(|member| member.principals.contains(&who))
        && policy.resources.contains_key(id)
        && !policy.denials().any(|rule| covers(policy, rule, question))
        && policy.grants().any(|rule| covers(policy, rule, question))
}

/// Everything that is kept twice says the same, and rules name only what there is.
fn check_consistent(policy: &Policy) {
    let mut owners = BTreeMap::new();
    for (name, member) in &policy.users {
        owners.extend(member.principals.iter().map(|principal| (*principal, name.clone())));
        let groups: BTreeSet<_> = policy
            .groups
            .iter()
            .filter(|(_, users)| users.contains(name))
            .map(|(group, _)| group.clone())
            .collect();
        assert_eq!(member.groups, groups);
    }
    assert_eq!(policy.owners, owners);
    let mut services = BTreeMap::new();
    for (name, offer) in &policy.resources {
        services.extend(offer.services.iter().map(|service| (service.clone(), name.clone())));
        let groups: BTreeSet<_> = policy
            .resource_groups
            .iter()
            .filter(|(_, resources)| resources.contains(name))
            .map(|(group, _)| group.clone())
            .collect();
        assert_eq!(offer.groups, groups);
    }
    assert_eq!(policy.services, services);
    assert!(policy.groups.values().flatten().all(|user| policy.users.contains_key(user)));
    assert!(policy.resource_groups.values().flatten().all(|name| policy.resources.contains_key(name)));
    for rule in policy.grants().chain(policy.denials()) {
        assert!(!rule.to.is_empty() && !rule.on.is_empty() && !rule.may.is_empty());
        rule.to.iter().for_each(|subject| policy.check_subject(subject).unwrap());
        rule.on.iter().for_each(|object| policy.check_object(object).unwrap());
    }
    let listed = policy.black.iter().chain(policy.white.iter().flatten());
    listed.for_each(|subject| policy.check_subject(subject).unwrap());
}

/// Whether an edit may allow a question that was not allowed before.
fn may_allow(before: &Policy, after: &Policy, edit: &Edit, question: Question) -> bool {
    let (who, _, id) = question;
    match edit {
        // What takes away, and what makes something new that no rule names.
        Edit::RemoveUser(_)
        | Edit::RemovePrincipal(_)
        | Edit::RemoveGroup(_)
        | Edit::RemoveResource(_)
        | Edit::RemoveResourceGroup(_)
        | Edit::RemoveGrant(_)
        | Edit::Black(_)
        | Edit::Deny(_)
        | Edit::AddUser(_)
        | Edit::AddGroup(_)
        | Edit::AddResource(_)
        | Edit::AddResourceGroup(_)
        | Edit::AddService(..)
        | Edit::RemoveService(_) => false,
        Edit::AddPrincipal(_, i) => who == p(PRINCIPALS[*i]),
        Edit::Join(_, u) | Edit::Leave(_, u) => means(after, &Subject::User(USERS[*u].into()), who),
        Edit::Gather(_, r) | Edit::Scatter(_, r) => id == RESOURCES[*r],
        Edit::Grant(rule) => covers(after, rule, question),
        Edit::RemoveDenial(n) => {
            before.denials.get(RULES[*n]).is_some_and(|rule| covers(before, rule, question))
        }
        Edit::Pardon(subject) => means(before, subject, who),
        Edit::White(_) => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_sequence_of_edits_grants_what_no_rule_grants(edits in prop::collection::vec(edits(), 0..80)) {
        let mut policy = Policy::new();
        for edit in &edits {
            let before = policy.clone();
            if apply(&mut policy, edit).is_err() {
                prop_assert_eq!(&policy, &before, "a refused edit changed something: {:?}", edit);
                continue;
            }
            check_consistent(&policy);
            let (was, is) = (allowed(&before), allowed(&policy));
            for question in questions() {
                prop_assert_eq!(is.contains(&question), oracle(&policy, question), "{:?} after {:?}", question, edit);
                prop_assert!(
                    was.contains(&question) || !is.contains(&question) || may_allow(&before, &policy, edit, question),
                    "{:?} newly allows {:?}", edit, question
                );
            }
        }
    }
}

/// The property above is worth something only if its questions are answered both ways.
#[test]
fn random_edits_allow_and_refuse() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let sequence = prop::collection::vec(edits(), 80);
    let mut seen = 0;
    for _ in 0..64 {
        let mut policy = Policy::new();
        for edit in sequence.new_tree(&mut runner).unwrap().current() {
            // Refused edits are part of the game.
            let _ = apply(&mut policy, &edit);
        }
        seen += allowed(&policy).len();
    }
    let all = 64 * questions().count();
    assert!(seen > all / 50 && seen < all, "{seen} of {all}");
}

#[test]
fn what_is_new_begins_without_what_the_old_had() {
    let mut policy = office();
    policy.remove_user("alice").unwrap();
    policy.add_user("alice").unwrap();
    policy.add_principal("alice", p(1)).unwrap();
    assert_eq!(reason(&policy, 1, Action::Dial, "wiki"), Err(Reason::NotGranted));
    policy.remove_group("staff").unwrap();
    policy.add_group("staff").unwrap();
    policy.join("staff", "bob").unwrap();
    assert_eq!(reason(&policy, 2, Action::Dial, "wiki"), Err(Reason::NotGranted));
    assert!(policy.grants().all(|rule| rule.name() != "staff-dials"));
}

#[test]
fn who_is_barred_stays_barred_when_names_go() {
    let mut policy = office();
    policy.black_list_add(subject("group:night")).unwrap();
    policy.black_list_add(subject("alice")).unwrap();
    policy.remove_group("night").unwrap();
    assert_eq!(reason(&policy, 2, Action::Dial, "wiki"), Err(Reason::BlackListed));
    policy.remove_user("alice").unwrap();
    assert_eq!(reason(&policy, 1, Action::Dial, "wiki"), Err(Reason::BlackListed));
    policy.deny(rule("shut", &["group:staff"], &["group:internal"], &Action::ALL)).unwrap();
    policy.remove_group("staff").unwrap();
    policy.remove_resource_group("internal").unwrap();
    let shut = policy.denials().next().unwrap();
    let on: BTreeSet<Object> = ["wiki", "billing"].map(|name| name.parse().unwrap()).into();
    assert_eq!((shut.to(), shut.on()), (&[subject("bob")].into(), &on));
}

#[test]
fn edits_say_what_is_wrong() {
    let mut policy = office();
    let refused = |result: Result<(), PolicyError>, part: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(policy.add_user("alice"), "there is a user \"alice\" already");
    refused(policy.add_user("1.0.7"), "begin with a letter");
    refused(policy.add_user(&"x".repeat(MAX_NAME + 1)), "is not a name");
    refused(policy.add_principal("bob", p(1)), "1.0.1 belongs to user \"alice\"");
    refused(policy.join("staff", "dora"), "there is no user \"dora\"");
    refused(policy.join("day", "alice"), "there is no user group \"day\"");
    refused(policy.add_service("billing", "wiki.example".parse().unwrap()), "leads to resource \"wiki\"");
    refused(policy.grant(rule("staff-dials", &["alice"], &["wiki"], &Action::ALL)), "a rule \"staff-dials\"");
    refused(policy.deny(rule("staff-dials", &["alice"], &["wiki"], &Action::ALL)), "a rule \"staff-dials\"");
    refused(policy.grant(rule("x", &[], &["wiki"], &Action::ALL)), "is about nothing");
    refused(policy.grant(rule("x", &["alice"], &["cellar"], &Action::ALL)), "no resource \"cellar\"");
    refused(policy.grant(rule("\n", &["alice"], &["wiki"], &Action::ALL)), "is not a name of a rule");
    refused(policy.black_list_add(subject("group:day")), "no user group \"day\"");
    refused(policy.remove_resource_group("public"), "no resource group \"public\"");
}

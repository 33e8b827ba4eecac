//! Edits of a policy. Each leaves it consistent or as it was.

use super::names::{checked, checked_rule};
use super::{Kind, Member, Object, Offer, Policy, PolicyError, Rule, Service, Subject};
use qsocket_proto::ids::Principal;
use std::collections::BTreeSet;
use std::sync::Arc;

type Result<T = ()> = std::result::Result<T, PolicyError>;

// ---- users and their groups -------------------------------------------------------------------------------------

impl Policy {
    /// Adds a user, without principals, who therefore can do nothing yet.
    ///
    /// # Errors
    /// When the name is not one or is taken.
    pub fn add_user(&mut self, name: &str) -> Result {
        let name = checked(name)?;
        if self.users.contains_key(&name) {
            return Err(PolicyError::Taken(Kind::User, name));
        }
        self.users.insert(name, Member::default());
        Ok(())
    }

    /// Removes a user. Its principals are nobody's then, and stay on the black list if the user was.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn remove_user(&mut self, name: &str) -> Result {
        let Some(member) = self.users.remove(name) else { return Err(unknown(Kind::User, name)) };
        for principal in &member.principals {
            self.owners.remove(principal);
        }
        for group in &member.groups {
            if let Some(users) = self.groups.get_mut(group) {
                users.remove(name);
            }
        }
        let subject = Subject::User(name.into());
        if self.black.remove(&subject) {
            self.black.extend(member.principals.into_iter().map(Subject::Principal));
        }
        self.forget_subject(&subject, &BTreeSet::new());
        Ok(())
    }

    /// Gives a user a principal: a RAIDA key that it holds.
    ///
    /// # Errors
    /// When there is no such user, or the principal is a user's already.
    pub fn add_principal(&mut self, user: &str, principal: Principal) -> Result {
        let name = self.known(Kind::User, user)?;
        if let Some(owner) = self.owners.get(&principal) {
            return Err(PolicyError::Owned(principal, owner.clone()));
        }
        if let Some(member) = self.users.get_mut(user) {
            member.principals.insert(principal);
            self.owners.insert(principal, name);
        }
        Ok(())
    }

    /// Takes a principal from its user. True if it was one's.
    pub fn remove_principal(&mut self, principal: Principal) -> bool {
        let Some(owner) = self.owners.remove(&principal) else { return false };
        if let Some(member) = self.users.get_mut(&owner) {
            member.principals.remove(&principal);
        }
        true
    }

    /// Adds a group of users, with nobody in it.
    ///
    /// # Errors
    /// When the name is not one or is taken.
    pub fn add_group(&mut self, name: &str) -> Result {
        let name = checked(name)?;
        if self.groups.contains_key(&name) {
            return Err(PolicyError::Taken(Kind::Group, name));
        }
        self.groups.insert(name, BTreeSet::new());
        Ok(())
    }

    /// Removes a group of users. On the black list and in denials its members take its place.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn remove_group(&mut self, name: &str) -> Result {
        let Some(users) = self.groups.remove(name) else { return Err(unknown(Kind::Group, name)) };
        for user in &users {
            if let Some(member) = self.users.get_mut(user) {
                member.groups.remove(name);
            }
        }
        let members: BTreeSet<_> = users.into_iter().map(Subject::User).collect();
        let subject = Subject::Group(name.into());
        if self.black.remove(&subject) {
            self.black.extend(members.iter().cloned());
        }
        self.forget_subject(&subject, &members);
        Ok(())
    }

    /// Puts a user into a group.
    ///
    /// # Errors
    /// When there is no such group or user.
    pub fn join(&mut self, group: &str, user: &str) -> Result {
        let (group_name, user_name) = (self.known(Kind::Group, group)?, self.known(Kind::User, user)?);
        if let (Some(users), Some(member)) = (self.groups.get_mut(group), self.users.get_mut(user)) {
            users.insert(user_name);
            member.groups.insert(group_name);
        }
        Ok(())
    }

    /// Takes a user out of a group. True if it was in it. What named the group, black list and denials included, means
    /// the user no more.
    pub fn leave(&mut self, group: &str, user: &str) -> bool {
        if let Some(member) = self.users.get_mut(user) {
            member.groups.remove(group);
        }
        self.groups.get_mut(group).is_some_and(|users| users.remove(user))
    }

    // ---- resources and their groups -----------------------------------------------------------------------------

    /// Adds a resource to which no name leads yet.
    ///
    /// # Errors
    /// When the name is not one or is taken.
    pub fn add_resource(&mut self, name: &str) -> Result {
        let name = checked(name)?;
        if self.resources.contains_key(&name) {
            return Err(PolicyError::Taken(Kind::Resource, name));
        }
        self.resources.insert(name, Offer::default());
        Ok(())
    }

    /// Removes a resource, and with it what rules say about it.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn remove_resource(&mut self, name: &str) -> Result {
        let Some(offer) = self.resources.remove(name) else { return Err(unknown(Kind::Resource, name)) };
        for service in &offer.services {
            self.services.remove(service);
        }
        for group in &offer.groups {
            if let Some(resources) = self.resource_groups.get_mut(group) {
                resources.remove(name);
            }
        }
        self.forget_object(&Object::Resource(name.into()), &BTreeSet::new());
        Ok(())
    }

    /// Has a name lead to a resource: streams that are opened with it are for the resource.
    ///
    /// # Errors
    /// When there is no such resource, or the name leads to one already.
    pub fn add_service(&mut self, resource: &str, service: Service) -> Result {
        let name = self.known(Kind::Resource, resource)?;
        if let Some(led) = self.services.get(&service) {
            return Err(PolicyError::Led(service, led.clone()));
        }
        if let Some(offer) = self.resources.get_mut(resource) {
            offer.services.insert(service.clone());
            self.services.insert(service, name);
        }
        Ok(())
    }

    /// Has a name lead nowhere. True if it led to a resource.
    pub fn remove_service(&mut self, service: &Service) -> bool {
        let Some(resource) = self.services.remove(service) else { return false };
        if let Some(offer) = self.resources.get_mut(&resource) {
            offer.services.remove(service);
        }
        true
    }

    /// Adds a group of resources, with nothing in it.
    ///
    /// # Errors
    /// When the name is not one or is taken.
    pub fn add_resource_group(&mut self, name: &str) -> Result {
        let name = checked(name)?;
        if self.resource_groups.contains_key(&name) {
            return Err(PolicyError::Taken(Kind::ResourceGroup, name));
        }
        self.resource_groups.insert(name, BTreeSet::new());
        Ok(())
    }

    /// Removes a group of resources. In denials its resources take its place.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn remove_resource_group(&mut self, name: &str) -> Result {
        let Some(resources) = self.resource_groups.remove(name) else {
            return Err(unknown(Kind::ResourceGroup, name));
        };
        for resource in &resources {
            if let Some(offer) = self.resources.get_mut(resource) {
                offer.groups.remove(name);
            }
        }
        let members = resources.into_iter().map(Object::Resource).collect();
        self.forget_object(&Object::Group(name.into()), &members);
        Ok(())
    }

    /// Puts a resource into a group.
    ///
    /// # Errors
    /// When there is no such group or resource.
    pub fn gather(&mut self, group: &str, resource: &str) -> Result {
        let group_name = self.known(Kind::ResourceGroup, group)?;
        let resource_name = self.known(Kind::Resource, resource)?;
        if let (Some(resources), Some(offer)) =
            (self.resource_groups.get_mut(group), self.resources.get_mut(resource))
        {
            resources.insert(resource_name);
            offer.groups.insert(group_name);
        }
        Ok(())
    }

    /// Takes a resource out of a group. True if it was in it. What named the group means the resource no more.
    pub fn scatter(&mut self, group: &str, resource: &str) -> bool {
        if let Some(offer) = self.resources.get_mut(resource) {
            offer.groups.remove(group);
        }
        self.resource_groups.get_mut(group).is_some_and(|resources| resources.remove(resource))
    }

    // ---- lists --------------------------------------------------------------------------------------------------

    /// Makes these the white list, or has none. An empty one admits nobody.
    ///
    /// # Errors
    /// When a user or a group in it does not exist.
    pub fn set_white_list(&mut self, list: Option<BTreeSet<Subject>>) -> Result {
        list.iter().flatten().try_for_each(|subject| self.check_subject(subject))?;
        self.white = list;
        Ok(())
    }

    /// Puts somebody on the black list.
    ///
    /// # Errors
    /// When the user or the group does not exist. A principal need not be anybody's.
    pub fn black_list_add(&mut self, subject: Subject) -> Result {
        self.check_subject(&subject)?;
        self.black.insert(subject);
        Ok(())
    }

    /// Takes somebody from the black list. True if it was on it.
    pub fn black_list_remove(&mut self, subject: &Subject) -> bool {
        self.black.remove(subject)
    }

    // ---- rules --------------------------------------------------------------------------------------------------

    /// Adds a grant.
    ///
    /// # Errors
    /// When it names what does not exist or nothing at all, or another rule has its name.
    pub fn grant(&mut self, rule: Rule) -> Result {
        self.check_rule(&rule)?;
        self.grants.insert(rule);
        Ok(())
    }

    /// Adds a denial, which wins over every grant.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub fn deny(&mut self, rule: Rule) -> Result {
        self.check_rule(&rule)?;
        self.denials.insert(rule);
        Ok(())
    }

    /// Removes the grant of this name.
    pub fn remove_grant(&mut self, name: &str) -> Option<Rule> {
        self.grants.remove(name)
    }

    /// Removes the denial of this name.
    pub fn remove_denial(&mut self, name: &str) -> Option<Rule> {
        self.denials.remove(name)
    }

    // ---- what edits share ---------------------------------------------------------------------------------------

    fn check_rule(&self, rule: &Rule) -> Result {
        checked_rule(&rule.name)?;
        if self.grants.get(&rule.name).or_else(|| self.denials.get(&rule.name)).is_some() {
            return Err(PolicyError::Taken(Kind::Rule, rule.name.clone()));
        }
        if rule.to.is_empty() || rule.on.is_empty() || rule.may.is_empty() {
            return Err(PolicyError::Empty(rule.name.clone()));
        }
        rule.to.iter().try_for_each(|subject| self.check_subject(subject))?;
        rule.on.iter().try_for_each(|object| self.check_object(object))
    }

    pub(super) fn check_subject(&self, subject: &Subject) -> Result {
        match subject {
            Subject::Principal(_) => Ok(()),
            Subject::User(name) => self.known(Kind::User, name).map(drop),
            Subject::Group(name) => self.known(Kind::Group, name).map(drop),
        }
    }

    pub(super) fn check_object(&self, object: &Object) -> Result {
        match object {
            Object::Resource(name) => self.known(Kind::Resource, name).map(drop),
            Object::Group(name) => self.known(Kind::ResourceGroup, name).map(drop),
        }
    }

    /// The name as it is kept.
    fn known(&self, kind: Kind, name: &str) -> Result<Arc<str>> {
        let key = match kind {
            Kind::User => self.users.get_key_value(name).map(|(key, _)| key),
            Kind::Group => self.groups.get_key_value(name).map(|(key, _)| key),
            Kind::Resource => self.resources.get_key_value(name).map(|(key, _)| key),
            Kind::ResourceGroup => self.resource_groups.get_key_value(name).map(|(key, _)| key),
            Kind::Rule => None,
        };
        key.cloned().ok_or_else(|| unknown(kind, name))
    }

    /// Has lists and rules forget somebody; in denials `instead` takes the place.
    fn forget_subject(&mut self, subject: &Subject, instead: &BTreeSet<Subject>) {
        self.white.iter_mut().for_each(|list| _ = list.remove(subject));
        self.grants.rewrite(|rule| _ = rule.to.remove(subject));
        self.denials.rewrite(|rule| {
            if rule.to.remove(subject) {
                rule.to.extend(instead.iter().cloned());
            }
        });
    }

    /// Has rules forget something; in denials `instead` takes the place.
    fn forget_object(&mut self, object: &Object, instead: &BTreeSet<Object>) {
        self.grants.rewrite(|rule| _ = rule.on.remove(object));
        self.denials.rewrite(|rule| {
            if rule.on.remove(object) {
                rule.on.extend(instead.iter().cloned());
            }
        });
    }
}

fn unknown(kind: Kind, name: &str) -> PolicyError {
    PolicyError::Unknown(kind, name.into())
}

//! Ids of services: given once, kept for ever.

use ahash::AHashMap;
use anyhow::Context as _;
use benocs_model::names::ServiceRules;
use benocs_model::names::service::{Belongs, text_of};
use benocs_model::network::{Service, Services};
use benocs_runtime::state::Tree;

/// What a name got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Id(u32),
    /// The root, or nothing that has a service.
    Nothing,
    /// No more services get an id.
    Full,
}

pub(crate) struct Namer {
    rules: ServiceRules,
    /// Id by position of the rule; 0 where it was not yet asked for.
    by_rule: AHashMap<String, u32>,
    by_domain: AHashMap<Box<[u8]>, u32>,
    services: Vec<Service>,
    by_name: AHashMap<String, usize>,
    next: u32,
    services_max: usize,
    tree: Tree,
    pub changed: bool,
}

impl Namer {
    pub fn new(rules: ServiceRules, services_max: usize, tree: Tree) -> anyhow::Result<Self> {
        let mut services: Vec<Service> = tree.entries::<Service>().map(|(_, service)| service).collect();
        services.sort_unstable_by_key(|service| service.id);
        let next = services.last().map_or(1, |service| service.id + 1);
        let by_name = services.iter().enumerate().map(|(at, service)| (service.name.clone(), at)).collect();
        let changed = !services.is_empty();
        let mut namer = Self {
            rules: ServiceRules::default(),
            by_rule: AHashMap::new(),
            by_domain: AHashMap::new(),
            services,
            by_name,
            next,
            services_max,
            tree,
            changed,
        };
        namer.set_rules(rules)?;
        Ok(namer)
    }

    /// Rules may change: ids stay with the services' names, provider and category follow the rules.
    pub fn set_rules(&mut self, rules: ServiceRules) -> anyhow::Result<()> {
        self.by_rule.clear();
        self.by_domain.clear();
        for rule in rules.rules() {
            let Some(service) = self.by_name.get(&rule.service).and_then(|at| self.services.get_mut(*at)) else {
                continue;
            };
            if (&service.provider, &service.category) != (&rule.provider, &rule.category) {
                (service.provider, service.category) = (rule.provider.clone(), rule.category.clone());
                self.tree.put(service.name.as_bytes(), service)?;
                self.changed = true;
            }
        }
        self.rules = rules;
        Ok(())
    }

    /// Of a name in lower-case wire form.
    pub fn service(&mut self, wire: &[u8]) -> anyhow::Result<Given> {
        let service = match self.rules.belongs(wire) {
            None => return Ok(Given::Nothing),
            Some(Belongs::Rule(rule)) => match self.by_rule.get(&rule.service) {
                Some(id) => return Ok(Given::Id(*id)),
                None => Service {
                    id: 0,
                    name: rule.service.clone(),
                    provider: rule.provider.clone(),
                    category: rule.category.clone(),
                },
            },
            Some(Belongs::Domain(domain)) => match self.by_domain.get(domain) {
                Some(id) => return Ok(Given::Id(*id)),
                None => {
                    let name = text_of(domain);
                    let given = self.give(Service { id: 0, name, provider: None, category: None })?;
                    if let Given::Id(id) = given {
                        self.by_domain.insert(domain.into(), id);
                    }
                    return Ok(given);
                }
            },
        };
        let name = service.name.clone();
        let given = self.give(service)?;
        if let Given::Id(id) = given {
            self.by_rule.insert(name, id);
        }
        Ok(given)
    }

    fn give(&mut self, service: Service) -> anyhow::Result<Given> {
        if let Some(known) = self.by_name.get(&service.name).and_then(|at| self.services.get(*at)) {
            return Ok(Given::Id(known.id));
        }
        if self.services.len() >= self.services_max {
            return Ok(Given::Full);
        }
        let service = Service { id: self.next, ..service };
        // An id that would be given to another after a restart would be worse than none.
        self.tree.put(service.name.as_bytes(), &service).context("cannot keep a service's id")?;
        self.next += 1;
        let id = service.id;
        self.by_name.insert(service.name.clone(), self.services.len());
        self.services.push(service);
        self.changed = true;
        Ok(Given::Id(id))
    }

    pub fn len(&self) -> usize {
        self.services.len()
    }

    pub fn table(&self, generation: u64) -> Services {
        Services { generation, rows: self.services.clone() }
    }
}

#[cfg(test)]
mod tests {
    use benocs_model::names::Rule;
    use benocs_model::names::service::wire_of;
    use benocs_model::names::suffix::SuffixList;
    use benocs_runtime::state::State;

    use super::*;

    fn rules(provider: &str) -> ServiceRules {
        let rule = Rule {
            service: "Films".to_owned(),
            provider: Some(provider.to_owned()),
            category: None,
            domains: vec!["films.example".to_owned(), "films-cdn.example".to_owned()],
        };
        ServiceRules::new(vec![rule], SuffixList::default()).expect("sound rules")
    }

    fn give(namer: &mut Namer, name: &str) -> Given {
        namer.service(&wire_of(name).expect("a name")).expect("state can be written")
    }

    #[test]
    fn ids_are_kept_over_restarts_and_changes_of_rules() {
        let state = State::temporary().expect("state");
        let tree = || state.tree("services").expect("a tree");
        let mut first = Namer::new(rules("one"), 3, tree()).expect("a namer");
        assert!(!first.changed);
        assert_eq!(give(&mut first, "www.films.example"), Given::Id(1));
        assert_eq!(give(&mut first, "a.films-cdn.example"), Given::Id(1));
        assert_eq!(give(&mut first, "www.news.example"), Given::Id(2));
        assert_eq!(give(&mut first, "."), Given::Nothing);
        let mut second = Namer::new(rules("two"), 3, tree()).expect("a namer");
        assert_eq!(give(&mut second, "shop.example"), Given::Id(3));
        assert_eq!(give(&mut second, "cdn.news.example"), Given::Id(2));
        assert_eq!(give(&mut second, "films.example"), Given::Id(1));
        assert_eq!(give(&mut second, "fourth.example"), Given::Full);
        let table = second.table(7);
        assert_eq!(table.rows[0].provider.as_deref(), Some("two"), "provider follows the rules");
        assert_eq!(table.rows.iter().map(|service| service.id).collect::<Vec<_>>(), [1, 2, 3]);
    }
}

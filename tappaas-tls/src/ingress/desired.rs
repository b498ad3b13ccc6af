use std::collections::BTreeMap;

use tappaas_core::{
    Result,
    backend::{Route, RouteId},
};

use crate::{
    routes::{Change, Routes},
    table::Table,
};

/// How many changed routes are remembered one by one; beyond that the edge is told the whole table.
const CHANGED_MAX: usize = 10_000;

/// The routes that were applied. The edge follows.
#[derive(Debug)]
pub(super) struct Desired {
    routes: Routes,
    /// The routes changed since the generation `known`, and the last one that changed each.
    changed: BTreeMap<RouteId, u64>,
    known: u64,
}

impl Desired {
    /// Begins with what the edge serves already.
    ///
    /// # Errors
    /// What [`Table::check`] refuses.
    pub(super) fn adopt(table: Table) -> Result<Self> {
        Ok(Self {
            known: table.generation,
            routes: Routes::of(table)?,
            changed: BTreeMap::new(),
        })
    }

    /// Takes a route, unless it is there already.
    ///
    /// # Errors
    /// As the contract of [`IngressProvider::apply`](tappaas_core::backend::IngressProvider::apply) says.
    pub(super) fn apply(&mut self, route: &Route) -> Result<()> {
        crate::table::check(route)?;
        match self.routes.get(&route.id) {
            Some(last) if !route.supersedes(last)? => Ok(()),
            _ => self.change(&route.id, vec![route.clone()], Vec::new()),
        }
    }

    pub(super) fn remove(&mut self, id: &RouteId) -> Result<()> {
        match self.routes.get(id) {
            Some(_) => self.change(id, Vec::new(), vec![id.clone()]),
            None => Ok(()),
        }
    }

    pub(super) fn ids(&self) -> Vec<RouteId> {
        self.routes.ids().cloned().collect()
    }

    pub(super) fn generation(&self) -> u64 {
        self.routes.generation()
    }

    pub(super) fn table(&self) -> Table {
        self.routes.table()
    }

    /// What changed since `generation`; `None` if that is not known any more.
    pub(super) fn since(&self, generation: u64) -> Option<Change> {
        if generation < self.known {
            return None;
        }
        let changed = self.changed.iter().filter(|(_, at)| **at > generation);
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for (id, _) in changed {
            match self.routes.get(id) {
                Some(route) => put.push(route.clone()),
                None => gone.push(id.clone()),
            }
        }
        Some(Change {
            from: generation,
            to: self.generation(),
            put,
            gone,
        })
    }

    /// Forgets how `generation` came about: the edge has it.
    pub(super) fn told(&mut self, generation: u64) {
        self.changed.retain(|_, at| *at > generation);
        self.known = self.known.max(generation);
    }

    fn change(&mut self, id: &RouteId, put: Vec<Route>, gone: Vec<RouteId>) -> Result<()> {
        let from = self.generation();
        let change = Change {
            from,
            to: from + 1,
            put,
            gone,
        };
        self.routes.check(&change)?;
        self.routes.make(change);
        self.changed.insert(id.clone(), from + 1);
        if self.changed.len() > CHANGED_MAX {
            self.changed.clear();
            self.known = from + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{forward, route};

    fn a_route(name: &str) -> Route {
        let host = format!("{name}.example");
        route(name, &[&host], "/", forward(&["127.0.0.1:1"]))
    }

    #[test]
    fn an_edge_that_is_told_what_changed_has_what_is_desired() {
        let mut desired = Desired::adopt(Table::default()).unwrap();
        let mut edge = Routes::default();
        for names in [&["a", "b"][..], &["c"], &[]] {
            for name in names {
                desired.apply(&a_route(name)).unwrap();
            }
            desired.remove(&a_route("a").id).unwrap();
            let change = desired.since(edge.generation()).unwrap();
            if change.to > change.from {
                edge.check(&change).unwrap();
                edge.make(change);
            }
            desired.told(edge.generation());
            assert_eq!(edge.table(), desired.table());
        }
        assert_eq!(desired.since(edge.generation()).unwrap().put, []);
    }

    #[test]
    fn what_is_not_known_any_more_takes_the_whole_table() {
        let mut desired = Desired::adopt(Table::default()).unwrap();
        for n in 0..=CHANGED_MAX {
            desired.apply(&a_route(&format!("a{n}"))).unwrap();
        }
        assert_eq!(desired.since(0), None);
        assert_eq!(desired.since(desired.generation()).unwrap().put, []);
    }
}

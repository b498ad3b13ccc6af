use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
};

use serde::{Deserialize, Serialize};
use tappaas_core::{
    Error, Result,
    backend::{Route, RouteId},
};

use crate::table::{self, ROUTES_MAX, Table};

/// The routes of a table, with an index by which a few of them change without a look at the others.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    generation: u64,
    routes: BTreeMap<RouteId, Route>,
    doors: HashMap<Door, RouteId>,
}

/// The way from one table to a later one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Change {
    /// The generation of the table that this one changes; no other can be changed by it.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Routes that are new or replace those of the same id.
    pub(crate) put: Vec<Route>,
    pub(crate) gone: Vec<RouteId>,
}

/// Where requests come in, as a key that outlives its route.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Door {
    Http(String, String),
    Inner(SocketAddr),
}

impl Routes {
    /// # Errors
    /// What [`Table::check`] refuses.
    pub(crate) fn of(table: Table) -> Result<Self> {
        table.check()?;
        let mut routes = Self {
            generation: table.generation,
            ..Self::default()
        };
        for route in table.routes {
            routes.insert(route);
        }
        Ok(routes)
    }

    pub(crate) fn table(&self) -> Table {
        Table {
            generation: self.generation,
            routes: self.routes.values().cloned().collect(),
        }
    }

    /// The table that a [checked](Self::check) change leads to.
    pub(crate) fn after(&self, change: &Change) -> Table {
        let Change { to, put, gone, .. } = change;
        let changed = |id: &RouteId| gone.contains(id) || put.iter().any(|route| route.id == *id);
        let kept = self.routes.values().filter(|route| !changed(&route.id));
        Table {
            generation: *to,
            routes: kept.chain(put).cloned().collect(),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn get(&self, id: &RouteId) -> Option<&Route> {
        self.routes.get(id)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &RouteId> {
        self.routes.keys()
    }

    /// The inner addresses.
    pub(crate) fn inner(&self) -> impl Iterator<Item = SocketAddr> {
        self.doors.keys().filter_map(|door| match door {
            Door::Inner(address) => Some(*address),
            Door::Http(..) => None,
        })
    }

    /// Refuses a change that cannot be made whole.
    ///
    /// # Errors
    /// `Conflict` if it is about another generation, and of each route what [`Table::check`] refuses.
    pub(crate) fn check(&self, change: &Change) -> Result<()> {
        if change.from != self.generation || change.to <= change.from {
            return Err(Error::conflict(format!(
                "a change from generation {} to {}: generation {} is in use",
                change.from, change.to, self.generation
            )));
        }
        let put: HashSet<_> = change.put.iter().map(|route| &route.id).collect();
        if put.len() < change.put.len() || change.gone.iter().any(|id| put.contains(id)) {
            return Err(Error::invalid("a change names a route twice"));
        }
        let new = put
            .iter()
            .filter(|id| !self.routes.contains_key(id))
            .count();
        if self.routes.len() + new > ROUTES_MAX + change.gone.len() {
            return Err(Error::exhausted(format!(
                "a table has at most {ROUTES_MAX} routes"
            )));
        }
        let gone: HashSet<_> = change.gone.iter().collect();
        let stays = |id: &RouteId| !put.contains(id) && !gone.contains(id);
        let mut taken = HashSet::new();
        for route in &change.put {
            table::check(route)?;
            for door in table::doors(route) {
                let holder = self.doors.get(&Door::from(&door));
                if holder.is_some_and(stays) || !taken.insert(door.clone()) {
                    return Err(table::collision(&door));
                }
            }
        }
        Ok(())
    }

    /// Makes a change that was [checked](Self::check).
    pub(crate) fn make(&mut self, change: Change) {
        let replaced = change.put.iter().map(|route| &route.id);
        for id in change.gone.iter().chain(replaced) {
            if let Some(route) = self.routes.remove(id) {
                for door in table::doors(&route) {
                    self.doors.remove(&Door::from(&door));
                }
            }
        }
        for route in change.put {
            self.insert(route);
        }
        self.generation = change.to;
    }

    fn insert(&mut self, route: Route) {
        for door in table::doors(&route) {
            self.doors.insert(Door::from(&door), route.id.clone());
        }
        self.routes.insert(route.id.clone(), route);
    }
}

impl From<&table::Door<'_>> for Door {
    fn from(door: &table::Door<'_>) -> Self {
        match door {
            table::Door::Http(host, path) => Self::Http((*host).to_owned(), (*path).to_owned()),
            table::Door::Inner(address) => Self::Inner(*address),
        }
    }
}

#[cfg(test)]
mod tests {
    use tappaas_core::ErrorKind;

    use super::*;
    use crate::testing::{forward, route};

    fn a_route(name: &str, host: &str) -> Route {
        route(name, &[host], "/", forward(&["127.0.0.1:1"]))
    }

    fn change(from: u64, put: &[&Route], gone: &[&Route]) -> Change {
        Change {
            from,
            to: from + 1,
            put: put.iter().map(|route| (*route).clone()).collect(),
            gone: gone.iter().map(|route| route.id.clone()).collect(),
        }
    }

    fn made(routes: &mut Routes, change: Change) -> std::result::Result<(), ErrorKind> {
        routes.check(&change).map_err(|error| error.kind())?;
        routes.make(change);
        Ok(())
    }

    #[test]
    fn changes_lead_to_the_same_routes_as_a_whole_table() {
        let [a, b, c] = ["a", "b", "c"].map(|name| a_route(name, &format!("{name}.example")));
        let mut routes = Routes::of(Table {
            generation: 3,
            routes: vec![a.clone(), b],
        })
        .unwrap();
        let b_moved = a_route("b", "moved.example");
        let change = change(3, &[&b_moved, &c], &[&a]);
        let after = routes.after(&change);
        made(&mut routes, change).unwrap();
        assert_eq!(after, routes.table());
        let table = Table {
            generation: 4,
            routes: vec![b_moved, c],
        };
        assert_eq!(routes.table(), table);
        assert_eq!(routes.doors, Routes::of(table).unwrap().doors);
    }

    #[test]
    fn a_change_of_another_table_is_refused_and_changes_nothing() {
        let mut routes = Routes::default();
        let a = a_route("a", "a.example");
        assert_eq!(
            made(&mut routes, change(1, &[&a], &[])),
            Err(ErrorKind::Conflict)
        );
        made(&mut routes, change(0, &[&a], &[])).unwrap();
        assert_eq!(
            made(&mut routes, change(0, &[&a], &[])),
            Err(ErrorKind::Conflict)
        );
        assert_eq!(
            made(&mut routes, change(1, &[&a], &[&a])),
            Err(ErrorKind::Invalid)
        );
        assert_eq!((routes.generation(), routes.table().routes.len()), (1, 1));
    }

    #[test]
    fn a_door_is_free_for_another_as_soon_as_its_route_leaves_it() {
        let mut routes = Routes::default();
        let (a, b) = (a_route("a", "x.example"), a_route("b", "x.example"));
        made(&mut routes, change(0, &[&a], &[])).unwrap();
        let taken = change(1, &[&b], &[]);
        assert_eq!(made(&mut routes, taken), Err(ErrorKind::AlreadyExists));
        let both = change(
            1,
            &[&a_route("c", "y.example"), &a_route("d", "y.example")],
            &[],
        );
        assert_eq!(made(&mut routes, both), Err(ErrorKind::AlreadyExists));
        made(&mut routes, change(1, &[&b], &[&a])).unwrap();
        made(
            &mut routes,
            change(2, &[&a_route("b", "z.example"), &a], &[]),
        )
        .unwrap();
        assert_eq!(routes.table().routes.len(), 2);
    }
}

use std::collections::BTreeMap;

use tappaas_core::{
    Error, Result,
    backend::{Route, RouteId},
};

use crate::table::{self, ROUTES_MAX, Table};

/// The routes that were applied. The edge follows.
#[derive(Debug)]
pub(super) struct Desired {
    routes: BTreeMap<RouteId, Route>,
    pub(super) generation: u64,
}

impl Desired {
    /// Begins with what the edge serves already.
    pub(super) fn adopt(table: Table) -> Self {
        let routes = table
            .routes
            .into_iter()
            .map(|route| (route.id.clone(), route))
            .collect();
        Self {
            routes,
            generation: table.generation,
        }
    }

    /// Takes a route, unless it is there already.
    ///
    /// # Errors
    /// As the contract of [`IngressProvider::apply`](tappaas_core::backend::IngressProvider::apply) says.
    pub(super) fn apply(&mut self, route: &Route) -> Result<()> {
        table::check(route)?;
        match self.routes.get(&route.id) {
            Some(last) if !route.supersedes(last)? => return Ok(()),
            Some(_) => {}
            None if self.routes.len() >= ROUTES_MAX => {
                return Err(Error::exhausted(format!(
                    "there are {ROUTES_MAX} routes already"
                )));
            }
            None => {}
        }
        let doors = table::doors(route);
        let others = || self.routes.values().filter(|other| other.id != route.id);
        if let Some(taken) = others()
            .flat_map(table::doors)
            .find(|door| doors.contains(door))
        {
            return Err(table::collision(&taken));
        }
        self.routes.insert(route.id.clone(), route.clone());
        self.generation += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &RouteId) {
        if self.routes.remove(id).is_some() {
            self.generation += 1;
        }
    }

    pub(super) fn ids(&self) -> Vec<RouteId> {
        self.routes.keys().cloned().collect()
    }

    pub(super) fn table(&self) -> Table {
        Table {
            generation: self.generation,
            routes: self.routes.values().cloned().collect(),
        }
    }
}

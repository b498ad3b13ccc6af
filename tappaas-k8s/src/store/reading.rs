use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use tappaas_core::{Key, Kind, Object, Result, Revision, Scope};

use super::{
    KubernetesStore,
    form::{self, from_kubernetes},
};
use crate::failure::{failure, is, is_about, within};

/// Objects per request of a listing.
const CHUNK: u32 = 100;
/// How often a listing begins anew because its snapshot was given up in the middle.
const ATTEMPTS: u32 = 3;

impl KubernetesStore {
    pub(super) async fn read(&self, key: &Key) -> Result<Option<Object>> {
        let found = self.read_owned(key).await?;
        Ok(found.map(|(object, _)| object))
    }

    /// As [`KubernetesStore::read`], with the owners that others gave it, which core knows nothing of.
    pub(super) async fn read_owned(
        &self,
        key: &Key,
    ) -> Result<Option<(Object, Vec<OwnerReference>)>> {
        let place = self.place(key);
        let found = match within(self.api(key.kind, &place).get(&place.name)).await {
            Ok(found) => found,
            // It says of what kind the thing is that is not there, unless the kind itself is unknown.
            Err(error) if is_about(&error, 404, &form::plural(key.kind)) => return Ok(None),
            Err(error) => return Err(failure(format!("cannot read {key}"), error)),
        };
        // One in a namespace of that name that somebody else made is not the key's.
        match self.namespaces.key(key.kind, &found).await? {
            Some(found_key) if found_key == *key => {
                let owners = found.metadata.owner_references.clone();
                let object = from_kubernetes(key, found)?;
                Ok(Some((object, owners.unwrap_or_default())))
            }
            _ => Ok(None),
        }
    }

    /// The revision that the API server is at.
    pub(super) async fn reached(&self, kind: Kind) -> Result<Revision> {
        let one = self.api_everywhere(kind);
        let one = within(one.list_metadata(&ListParams::default().limit(1))).await;
        let one =
            one.map_err(|error| failure(format!("cannot list objects of kind {kind}"), error))?;
        form::revision(one.metadata.resource_version.as_deref())
    }

    /// Reads everything in a scope at one revision, in order of the keys.
    pub(super) async fn gather(
        &self,
        kind: Kind,
        scope: &Scope,
    ) -> Result<(Vec<Object>, Revision)> {
        let api = match scope.names().len() {
            3 if kind.depth() == 3 => self.api_in(kind, &self.namespaces.name(scope)),
            _ => self.api_everywhere(kind),
        };
        let mut attempt = 1;
        let (found, revision) = loop {
            match chunks(&api, ListParams::default()).await {
                Err(error) if is(&error, 410) && attempt < ATTEMPTS => attempt += 1,
                done => {
                    break done.map_err(|error| {
                        failure(format!("cannot list objects of kind {kind}"), error)
                    })?;
                }
            }
        };
        let mut objects = Vec::with_capacity(found.len());
        for object in found {
            if let Some(key) = self.namespaces.key(kind, &object).await?
                && scope.contains(&key.scope)
            {
                objects.push(from_kubernetes(&key, object)?);
            }
        }
        objects.sort_by_cached_key(Object::key);
        Ok((objects, form::revision(revision.as_deref())?))
    }
}

/// Reads everything that a request lists, at one revision.
pub(crate) async fn chunks(
    api: &Api<DynamicObject>,
    request: ListParams,
) -> kube::Result<(Vec<DynamicObject>, Option<String>)> {
    let mut objects = Vec::new();
    let mut request = request.limit(CHUNK);
    loop {
        let chunk = within(api.list(&request)).await?;
        objects.extend(chunk.items);
        match chunk.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => request = request.continue_token(&token),
            None => return Ok((objects, chunk.metadata.resource_version)),
        }
    }
}

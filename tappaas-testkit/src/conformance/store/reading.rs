use std::sync::Arc;

use serde_json::json;
use tappaas_core::{
    Cursor, ErrorKind, Kind, ListRequest, Name, Object, Precondition, Result, Scope, Store,
};

use super::fixture::{application, create, object, scopes, unchanged};
use crate::conformance::verdict::{Verdict, holds, refused, same};

/// `get` and `list` return what the last answered write left.
pub async fn reads_see_the_last_answered_write(store: Arc<dyn Store>) -> Verdict {
    let all = ListRequest::new(Kind::Application, Scope::cluster());
    same(store.list(&all).await?.objects, vec![], "an empty store")?;
    let mut object = create(&store, "a").await?;
    for n in 1..=20 {
        object.spec = json!({ "n": n });
        object = store.put(object.clone(), unchanged(&object)).await?;
        same(
            store.get(&object.key()).await?.as_ref(),
            Some(&object),
            "what was written",
        )?;
        let page = store.list(&all).await?;
        same(page.objects, vec![object.clone()], "the listing")?;
        holds(
            page.revision >= object.metadata.revision,
            "a listing is older than the object in it",
        )?;
    }
    store.delete(&object.key(), unchanged(&object)).await?;
    same(store.get(&object.key()).await?, None, "what was deleted")?;
    same(store.list(&all).await?.objects, vec![], "the listing")
}

/// `list` returns the objects in the scope in order of their keys.
pub async fn a_listing_is_ordered_and_keeps_to_its_scope(store: Arc<dyn Store>) -> Verdict {
    let [e, f, other] = scopes();
    let project = e.parent().ok_or("an environment lies in a project")?;
    let tenant = project.parent().ok_or("a project lies in a tenant")?;
    for (scope, name) in [
        (&f, "a"),
        (&e, "b-2"),
        (&other, "a"),
        (&e, "b"),
        (&e, "a"),
        (&e, "b2"),
        (&e, "a-b"),
    ] {
        put(&store, Kind::Application, scope, name).await?;
    }
    put(&store, Kind::Volume, &e, "c").await?;
    put(&store, Kind::Environment, &project, "e").await?;
    put(&store, Kind::HostClaim, &Scope::cluster(), "h").await?;
    let in_e = [
        "one/p/e a",
        "one/p/e a-b",
        "one/p/e b",
        "one/p/e b-2",
        "one/p/e b2",
    ];
    let in_project = [&in_e[..], &["one/p/f a"]].concat();
    let all = [&in_project[..], &["two/p/e a"]].concat();
    let near = Scope::tenant(Name::new("on")?);
    for (kind, scope, expected) in [
        (Kind::Application, &e, &in_e[..]),
        (Kind::Application, &project, &in_project),
        (Kind::Application, &tenant, &in_project),
        (Kind::Application, &Scope::cluster(), &all),
        (Kind::Application, &near, &[]),
        (Kind::Environment, &tenant, &["one/p e"]),
        (Kind::Environment, &e, &[]),
        (Kind::HostClaim, &Scope::cluster(), &[" h"]),
        (Kind::HostClaim, &tenant, &[]),
    ] {
        let page = store.list(&ListRequest::new(kind, scope.clone())).await?;
        let objects = page.objects.iter().map(|object| &object.metadata);
        let found: Vec<_> = objects
            .map(|m| format!("{} {}", m.scope(), m.name))
            .collect();
        let found: Vec<_> = found.iter().map(String::as_str).collect();
        same(found, expected.to_vec(), &format!("{kind} in `{scope}`"))?;
    }
    Ok(())
}

/// `list` comes in pages of at most the limit, and together they are everything, once.
pub async fn a_listing_comes_in_pages(store: Arc<dyn Store>) -> Verdict {
    let mut expected = Vec::new();
    for n in 0..23 {
        expected.push(create(&store, &format!("a-{n:02}")).await?);
    }
    for limit in [1, 5, 22, 23, 24, usize::MAX] {
        let pages = pages(&store, limit).await?;
        holds(
            pages.iter().all(|page| page.len() <= limit),
            "a page is larger than its limit",
        )?;
        same(pages.concat(), expected.clone(), "all pages together")?;
    }
    let mut request = ListRequest::new(Kind::Application, Scope::cluster());
    request.limit = 10;
    let first = store.list(&request).await?;
    request.after.clone_from(&first.next);
    let second = store.list(&request).await?;
    same(
        store.list(&request).await?.objects,
        second.objects,
        "a page that is asked for again",
    )
}

/// All pages of one listing show the same revision; a page asked for too late fails with `Expired`.
pub async fn all_pages_of_a_listing_show_one_revision(store: Arc<dyn Store>) -> Verdict {
    let mut expected = Vec::new();
    for n in 0..10 {
        expected.push(create(&store, &format!("a-{n}")).await?);
    }
    let mut request = ListRequest::new(Kind::Application, Scope::cluster());
    request.limit = 4;
    let first = store.list(&request).await?;
    let mut found = first.objects;
    store
        .delete(&expected[5].key(), Precondition::Present)
        .await?;
    store
        .put(application("a-6", json!("changed")), Precondition::Present)
        .await?;
    create(&store, "a-55").await?;
    request.after = first.next;
    while request.after.is_some() {
        let page = match store.list(&request).await {
            Err(error) if error.kind() == ErrorKind::Expired => return Ok(()),
            page => page?,
        };
        same(
            page.revision,
            first.revision,
            "the revision of a later page",
        )?;
        found.extend(page.objects);
        request.after = page.next;
    }
    same(found, expected, "all pages together")?;
    request.after = Some(Cursor("no such cursor".into()));
    refused(
        store.list(&request).await,
        ErrorKind::Expired,
        "a cursor that nobody knows",
    )
}

/// A limit of 0 is `Invalid`.
pub async fn a_listing_needs_a_limit(store: Arc<dyn Store>) -> Verdict {
    let mut request = ListRequest::new(Kind::Application, Scope::cluster());
    request.limit = 0;
    refused(
        store.list(&request).await,
        ErrorKind::Invalid,
        "a limit of 0",
    )
}

async fn put(store: &Arc<dyn Store>, kind: Kind, scope: &Scope, name: &str) -> Result<Object> {
    let object = object(kind, scope, name, json!({}));
    store.put(object, Precondition::Absent).await
}

async fn pages(store: &Arc<dyn Store>, limit: usize) -> Result<Vec<Vec<Object>>> {
    let mut request = ListRequest::new(Kind::Application, Scope::cluster());
    request.limit = limit;
    let mut pages = Vec::new();
    loop {
        let page = store.list(&request).await?;
        pages.push(page.objects);
        request.after = page.next;
        if request.after.is_none() {
            return Ok(pages);
        }
    }
}

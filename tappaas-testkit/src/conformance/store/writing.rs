use std::sync::Arc;

use serde_json::{Value, json};
use tappaas_core::{
    ErrorKind, Kind, Name, Object, Precondition, Revision, Scope, Store, Timestamp,
};

use super::fixture::{Watch, application, create, now, object, scopes, unchanged};
use crate::conformance::verdict::{Verdict, holds, refused, same};

/// Creating assigns `uid`, `created`, generation 1 and a revision, and ignores the given status.
pub async fn creating_assigns_identity_and_ignores_the_status(store: Arc<dyn Store>) -> Verdict {
    let mut given = application("a", json!({ "n": 1 }));
    given.status = json!({ "ready": true });
    given.metadata.labels.insert("team".into(), "blue".into());
    given.metadata.uid = "mine".into();
    given.metadata.generation = 7;
    given.metadata.revision = Revision::from_counter(1 << 60);
    given.metadata.deletion = Some(Timestamp::UNIX_EPOCH);
    let kept = store.put(given.clone(), Precondition::Absent).await?;
    let metadata = &kept.metadata;
    holds(
        !metadata.uid.is_empty() && metadata.uid != "mine",
        "no uid was assigned",
    )?;
    holds(
        metadata.created.is_some(),
        "no time of creation was assigned",
    )?;
    same(metadata.generation, 1, "generation")?;
    same(metadata.deletion, None, "deletion")?;
    holds(
        metadata.revision != given.metadata.revision,
        "the given revision was kept",
    )?;
    same(&kept.status, &Value::Null, "status")?;
    same(
        (&kept.spec, &metadata.labels),
        (&given.spec, &given.metadata.labels),
        "spec and labels",
    )?;
    let other = create(&store, "b").await?;
    holds(
        other.metadata.uid != metadata.uid,
        "two objects have one uid",
    )?;
    holds(
        other.metadata.revision > metadata.revision,
        "a later write has no higher revision",
    )?;
    same(
        store.get(&kept.key()).await?,
        Some(kept),
        "what is read back",
    )
}

/// `put` with `Absent` fails with `AlreadyExists` if the object is there.
pub async fn creating_what_is_there_fails(store: Arc<dyn Store>) -> Verdict {
    let first = create(&store, "a").await?;
    let again = store
        .put(application("a", json!({ "n": 1 })), Precondition::Absent)
        .await;
    refused(again, ErrorKind::AlreadyExists, "creating what is there")?;
    same(store.get(&first.key()).await?, Some(first), "the object")?;
    let elsewhere = object(Kind::Application, &scopes()[1], "a", json!({}));
    store.put(elsewhere, Precondition::Absent).await?;
    let other_kind = object(Kind::Volume, &scopes()[0], "a", json!({}));
    store.put(other_kind, Precondition::Absent).await?;
    Ok(())
}

/// `put` with `Revision` replaces metadata and spec, keeps the status, and fails with `Conflict` and `NotFound`.
pub async fn replacing_honours_the_revision_and_keeps_the_status(store: Arc<dyn Store>) -> Verdict {
    let mut first = create(&store, "a").await?;
    first.status = json!({ "ready": true });
    let mut new = store
        .put_status(first.clone(), Precondition::Present)
        .await?;
    refused(
        store.put(first.clone(), unchanged(&first)).await,
        ErrorKind::Conflict,
        "an old revision",
    )?;
    new.spec = json!({ "n": 1 });
    new.status = json!("forged");
    new.metadata.labels.insert("team".into(), "red".into());
    let kept = store.put(new.clone(), unchanged(&new)).await?;
    same(
        (&kept.spec, &kept.metadata.labels),
        (&new.spec, &new.metadata.labels),
        "spec and labels",
    )?;
    same(&kept.status, &json!({ "ready": true }), "status")?;
    holds(
        kept.metadata.revision > new.metadata.revision,
        "a change has no higher revision",
    )?;
    same(
        store.get(&kept.key()).await?,
        Some(kept.clone()),
        "what is read back",
    )?;
    let missing = store
        .put(application("b", json!({})), unchanged(&kept))
        .await;
    refused(missing, ErrorKind::NotFound, "replacing what is not there")
}

/// `put` with `Present` replaces whatever the revision is.
pub async fn replacing_whatever_is_there_needs_something_there(store: Arc<dyn Store>) -> Verdict {
    let first = create(&store, "a").await?;
    let kept = store
        .put(application("a", json!({ "n": 1 })), Precondition::Present)
        .await?;
    same(&kept.metadata.uid, &first.metadata.uid, "uid")?;
    same(kept.spec, json!({ "n": 1 }), "spec")?;
    let missing = store
        .put(application("b", json!({})), Precondition::Present)
        .await;
    refused(missing, ErrorKind::NotFound, "replacing what is not there")
}

/// `put` raises the generation by one if, and only if, the spec changed.
pub async fn the_generation_rises_with_the_spec_alone(store: Arc<dyn Store>) -> Verdict {
    let mut object = create(&store, "a").await?;
    object
        .metadata
        .annotations
        .insert("note".into(), "new".into());
    object = store.put(object.clone(), unchanged(&object)).await?;
    same(
        object.metadata.generation,
        1,
        "generation after a change of metadata",
    )?;
    object.status = json!(1);
    object = store.put_status(object.clone(), unchanged(&object)).await?;
    same(
        object.metadata.generation,
        1,
        "generation after a change of the status",
    )?;
    object.spec = json!({ "n": 1 });
    object.metadata.generation = 40;
    object = store.put(object.clone(), unchanged(&object)).await?;
    same(
        object.metadata.generation,
        2,
        "generation after a change of the spec",
    )
}

/// A write that changes nothing keeps the revision and sends no event.
pub async fn a_write_that_changes_nothing_leaves_no_trace(store: Arc<dyn Store>) -> Verdict {
    let mut object = create(&store, "a").await?;
    object.status = json!({ "ready": true });
    object.metadata.finalizers.push("hold".into());
    object = store.put(object.clone(), unchanged(&object)).await?;
    object.status = json!({ "ready": true });
    store.put_status(object.clone(), unchanged(&object)).await?;
    let object = store
        .delete(&object.key(), Precondition::Present)
        .await?
        .ok_or("the object is gone")?;
    let mut watch = Watch::from(
        &store,
        Kind::Application,
        now(&store, Kind::Application).await?,
    )
    .await?;
    same(
        store.put(object.clone(), unchanged(&object)).await?,
        object.clone(),
        "the same put again",
    )?;
    same(
        store
            .put_status(object.clone(), Precondition::Present)
            .await?,
        object.clone(),
        "the same status again",
    )?;
    let deleted = store.delete(&object.key(), Precondition::Present).await?;
    same(deleted, Some(object), "the same delete again")?;
    let marker = create(&store, "marker").await?;
    same(
        watch.next().await,
        Some(tappaas_core::Event::Applied(marker)),
        "the first event",
    )
}

/// `put` cannot change `uid`, `created` or `deletion`.
pub async fn identity_cannot_be_written(store: Arc<dyn Store>) -> Verdict {
    let first = create(&store, "a").await?;
    let mut forged = first.clone();
    forged.metadata.uid = "forged".into();
    forged.metadata.created = Some(Timestamp::UNIX_EPOCH);
    forged.metadata.deletion = Some(Timestamp::UNIX_EPOCH);
    forged.metadata.generation = 9;
    same(
        store.put(forged, Precondition::Present).await?,
        first.clone(),
        "what was kept of a forgery",
    )?;
    let mut blank = application("a", first.spec.clone());
    blank.metadata.labels.insert("new".into(), "label".into());
    let kept = store.put(blank, unchanged(&first)).await?;
    same(
        (
            &kept.metadata.uid,
            kept.metadata.created,
            kept.metadata.generation,
        ),
        (&first.metadata.uid, first.metadata.created, 1),
        "identity",
    )
}

/// `put_status` replaces the status alone; it needs the object.
pub async fn a_status_is_written_alone(store: Arc<dyn Store>) -> Verdict {
    let first = create(&store, "a").await?;
    let mut report = first.clone();
    report.status = json!({ "ready": true });
    report.spec = json!("forged");
    report
        .metadata
        .labels
        .insert("forged".into(), "label".into());
    let kept = store.put_status(report, unchanged(&first)).await?;
    let mut expected = first.clone();
    expected.status = json!({ "ready": true });
    expected.metadata.revision = kept.metadata.revision;
    same(&kept, &expected, "the object with its status")?;
    holds(
        kept.metadata.revision > first.metadata.revision,
        "a change has no higher revision",
    )?;
    same(
        store.get(&kept.key()).await?,
        Some(kept),
        "what is read back",
    )?;
    let missing = store
        .put_status(application("b", json!({})), Precondition::Present)
        .await;
    refused(
        missing,
        ErrorKind::NotFound,
        "the status of what is not there",
    )
}

/// `put_status` honours the precondition.
pub async fn a_status_honours_its_precondition(store: Arc<dyn Store>) -> Verdict {
    let first = create(&store, "a").await?;
    let report = |n: u64| Object {
        status: json!(n),
        ..first.clone()
    };
    let second = store.put_status(report(1), unchanged(&first)).await?;
    refused(
        store.put_status(report(2), unchanged(&first)).await,
        ErrorKind::Conflict,
        "an old revision",
    )?;
    same(
        store
            .put_status(report(3), unchanged(&second))
            .await?
            .status,
        json!(3),
        "status",
    )?;
    let absent = store
        .put_status(application("b", json!({})), unchanged(&second))
        .await;
    refused(
        absent,
        ErrorKind::NotFound,
        "the status of what is not there",
    )
}

/// What was put is read back equal, unknown fields and every JSON value included.
pub async fn every_json_value_survives(store: Arc<dyn Store>) -> Verdict {
    let spec = json!({
        "": null, "true": [true, false, null, [], {}, ""], "ünï\u{0}\u{7f}\"\\\n": "\u{10ffff} 🚀",
        "integers": [0, -1, i64::MAX, i64::MIN], "floats": [0.1, -0.5, 1e300, 5e-324, 1.7976931348623157e308, 0.30000000000000004],
        "nested": { "a": { "b": [{ "c": [1, [2, [3]]] }] } }, "long": "x".repeat(70_000),
    });
    let mut given = application("a", spec.clone());
    given.api_version = "tappaas.dev/v99".into();
    given
        .metadata
        .annotations
        .insert("an/annotation".into(), "any \"value\"\n".into());
    let mut kept = store.put(given, Precondition::Absent).await?;
    kept.status = spec.clone();
    let kept = store.put_status(kept.clone(), unchanged(&kept)).await?;
    let read = store.get(&kept.key()).await?.ok_or("the object is gone")?;
    same(&read.spec, &spec, "spec")?;
    same(&read.status, &spec, "status")?;
    same(&read, &kept, "the object")?;
    let again = store.put(read.clone(), unchanged(&read)).await?;
    same(
        again.metadata.generation,
        1,
        "generation after what was read was put back",
    )
}

/// An integer beyond 64 bits with a sign is kept, or refused as `Invalid`; a float without a fraction may come back as an integer.
pub async fn a_number_at_the_edge_is_kept_or_refused(store: Arc<dyn Store>) -> Verdict {
    for (name, float) in [("two", 2.0), ("nought", -0.0)] {
        let given = application(name, json!({ "n": float }));
        let kept = store.put(given, Precondition::Absent).await?;
        same(kept.spec["n"].as_f64(), Some(float), "a float")?;
    }
    let large = application("b", json!({ "n": u64::MAX }));
    match store.put(large.clone(), Precondition::Absent).await {
        Ok(kept) => same(kept.spec, large.spec, "a large integer"),
        refusal => {
            refused(refusal, ErrorKind::Invalid, "a large integer")?;
            same(store.get(&large.key()).await?, None, "what was refused")
        }
    }
}

/// An invalid key is `Invalid`.
pub async fn bad_keys_are_refused(store: Arc<dyn Store>) -> Verdict {
    let long = "x".repeat(64);
    for name in ["", "A", "a.b", "a/b", "-a", "a-", "a\0b", "ä", &long] {
        let bad = application(name, json!({}));
        let key = bad.key();
        refused(
            store.put(bad.clone(), Precondition::Absent).await,
            ErrorKind::Invalid,
            name,
        )?;
        refused(
            store.put_status(bad, Precondition::Present).await,
            ErrorKind::Invalid,
            name,
        )?;
        refused(
            store.delete(&key, Precondition::Present).await,
            ErrorKind::Invalid,
            name,
        )?;
        refused(store.get(&key).await, ErrorKind::Invalid, name)?;
    }
    let shallow = object(Kind::Application, &Scope::cluster(), "a", json!({}));
    refused(
        store.put(shallow, Precondition::Absent).await,
        ErrorKind::Invalid,
        "a scope that is not deep enough",
    )?;
    let deep = object(Kind::HostClaim, &scopes()[0], "a", json!({}));
    refused(
        store.put(deep, Precondition::Absent).await,
        ErrorKind::Invalid,
        "a scope that is too deep",
    )?;
    let mut torn = object(Kind::HostClaim, &Scope::cluster(), "a", json!({}));
    torn.metadata.project = Some(Name::new("p")?);
    refused(
        store.put(torn, Precondition::Absent).await,
        ErrorKind::Invalid,
        "a project without a tenant",
    )?;
    store
        .put(
            application(&"x".repeat(63), json!({})),
            Precondition::Absent,
        )
        .await?;
    Ok(())
}

/// An object above its size or nested too deep is `Invalid`.
pub async fn objects_too_large_or_too_deep_are_refused(store: Arc<dyn Store>) -> Verdict {
    let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let sized = |bytes| json!("x".repeat(bytes));
    let refuse = async |spec: Value, what| {
        let put = store
            .put(application("a", spec), Precondition::Absent)
            .await;
        refused(put, ErrorKind::Invalid, what)
    };
    refuse(sized(Object::SIZE_MAX), "an object that is too large").await?;
    refuse(nested(Object::DEPTH_MAX), "an object that is too deep").await?;
    let deepest = application("deep", nested(Object::DEPTH_MAX - 1));
    let deepest = store.put(deepest, Precondition::Absent).await?;
    same(
        store.get(&deepest.key()).await?,
        Some(deepest),
        "the deepest object",
    )?;
    let large = application("large", sized(Object::SIZE_MAX / 2));
    let mut large = store.put(large, Precondition::Absent).await?;
    // The bound is for the object as it is kept: spec and status together.
    large.status = sized(Object::SIZE_MAX / 2);
    refused(
        store.put_status(large.clone(), Precondition::Present).await,
        ErrorKind::Invalid,
        "a status that is too large",
    )?;
    large.status = sized(Object::SIZE_MAX / 4);
    let mut large = store.put_status(large, Precondition::Present).await?;
    large.spec = sized(Object::SIZE_MAX / 5 * 4);
    large.status = Value::Null;
    refused(
        store.put(large, Precondition::Present).await,
        ErrorKind::Invalid,
        "a spec that is too large beside its status",
    )
}

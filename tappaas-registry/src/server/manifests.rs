use axum::{
    Json,
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use tappaas_core::{
    Digest,
    backend::{Reference, Tag},
};

use super::{
    body::Incoming,
    failure::Failure,
    router::{CONTENT_DIGEST, Parts, headers},
};
use crate::{Error, RepositoryName, Store};

/// How many tags one `PUT` by digest may set.
const TAGS_MAX: usize = 32;
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// `GET` and `HEAD` of a manifest.
pub(super) async fn read(
    store: &Store,
    repository: &RepositoryName,
    reference: &Reference,
    parts: &Parts,
) -> Result<Response, Failure> {
    let manifest = store.manifest(repository, reference).await?;
    let manifest = manifest.ok_or_else(|| unknown(repository, reference))?;
    let mut headers = headers([
        (header::CONTENT_TYPE, manifest.media_type.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_DIGEST, manifest.digest.as_str()),
    ]);
    headers.insert(header::CONTENT_LENGTH, manifest.content.len().into());
    let body = if parts.method == http::Method::HEAD {
        Body::empty()
    } else {
        manifest.content.into()
    };
    Ok((StatusCode::OK, headers, body).into_response())
}

/// `PUT` of a manifest, by tag, or by digest and with any number of tags.
pub(super) async fn write(
    store: &Store,
    repository: &RepositoryName,
    reference: &Reference,
    parts: &Parts,
    mut body: Incoming,
) -> Result<Response, Failure> {
    let declared = parts
        .headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::to_str)
        .transpose();
    let declared = declared
        .map_err(|_| Error::ManifestInvalid("its `Content-Type` is not text".to_owned()))?;
    let content = body
        .whole(store.limits().manifest_bytes_max, "manifest")
        .await?;
    let tags = match reference {
        Reference::Tag(tag) => vec![tag.clone()],
        Reference::Digest(expected) => {
            require(expected, Digest::of(&content))?;
            more_tags(parts)?
        }
    };
    let digest = store
        .put_manifest(repository, declared, content, &tags)
        .await?;
    let location = format!("/v2/{repository}/manifests/{digest}");
    let mut headers = headers([
        (header::LOCATION, location.as_str()),
        (CONTENT_DIGEST, digest.as_str()),
    ]);
    if matches!(reference, Reference::Digest(_)) && !tags.is_empty() {
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        headers.extend(super::router::headers([(
            OCI_TAG,
            tags.join(", ").as_str(),
        )]));
    }
    Ok((StatusCode::CREATED, headers).into_response())
}

/// `DELETE` of a tag or manifest.
pub(super) async fn delete(
    store: &Store,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response, Failure> {
    if store.delete(repository, reference).await? {
        Ok(StatusCode::ACCEPTED.into_response())
    } else {
        Err(unknown(repository, reference))
    }
}

/// `GET …/tags/list`, in pages of at most what the limits say.
pub(super) async fn list_tags(
    store: &Store,
    repository: &RepositoryName,
    parts: &Parts,
) -> Result<Response, Failure> {
    let wanted = match parts.query("n").map(str::parse::<usize>) {
        None => usize::MAX,
        Some(Ok(wanted)) => wanted,
        Some(Err(_)) => {
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                "SIZE_INVALID",
                "`n` is not a number",
            ));
        }
    };
    let page = wanted.min(store.limits().page_max);
    // One more than wanted tells whether there is another page.
    let found = store
        .tags(repository, parts.query("last"), page.saturating_add(1))
        .await?;
    let mut tags = found.ok_or_else(|| Error::RepositoryUnknown(repository.clone()))?;
    let has_more = tags.len() > page;
    tags.truncate(page);
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    let mut response = Json(json!({"name": repository.as_str(), "tags": names})).into_response();
    if let (true, Some(last)) = (has_more, tags.last()) {
        let next = format!("</v2/{repository}/tags/list?n={page}&last={last}>; rel=\"next\"");
        response
            .headers_mut()
            .extend(headers([(header::LINK, next.as_str())]));
    }
    Ok(response)
}

fn more_tags(parts: &Parts) -> Result<Vec<Tag>, Failure> {
    let tags: Vec<&str> = parts.queries("tag").collect();
    if tags.len() > TAGS_MAX {
        let message = format!("more than {TAGS_MAX} tags in one request");
        return Err(Failure::new(
            StatusCode::URI_TOO_LONG,
            "MANIFEST_INVALID",
            message,
        ));
    }
    let parse = |tag: &str| {
        tag.parse()
            .map_err(|error| Failure::manifest_invalid(&error))
    };
    tags.into_iter().map(parse).collect()
}

fn require(expected: &Digest, actual: Digest) -> Result<(), Error> {
    if *expected == actual {
        return Ok(());
    }
    let expected = expected.clone();
    Err(Error::DigestMismatch { expected, actual })
}

fn unknown(repository: &RepositoryName, reference: &Reference) -> Failure {
    Error::ManifestUnknown {
        repository: repository.clone(),
        reference: reference.clone(),
    }
    .into()
}

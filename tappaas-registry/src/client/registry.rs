use std::{collections::BTreeSet, io};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use oci_distribution::errors::OciDistributionError;
use sha2::{Digest as _, Sha256};
use tappaas_core::{
    Digest, Error, ErrorKind, Result,
    backend::{Content, Reference, Registry as Backend, Repository, Tag},
};

use super::{
    config::{Config, Credential},
    failure::failed,
    remote::{Place, Remote, whole},
};
use crate::{
    copy::collect,
    layout::{MANIFEST_BYTES_MAX, MediaType, parse_manifest},
};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// How much of a blob is sent in one request. Each costs a round trip, and is in memory meanwhile.
const CHUNK_BYTES: usize = 4 << 20;
const PAGE: usize = 1000;
const PAGES_MAX: usize = 1000;

/// Any registry that speaks the OCI distribution API.
///
/// Which one is in a repository's name, `ghcr.io/team/app`; names without a host belong to [`Config::registry`]. A push that
/// breaks off may leave an unfinished upload that the registry drops in its own time. Deleting needs a registry that
/// allows it: others answer with [`ErrorKind::Unsupported`] or `Denied`.
#[derive(Debug)]
pub struct Registry {
    remote: Remote,
}

impl Registry {
    /// A client with these logins.
    ///
    /// # Errors
    /// `Invalid` if a registry that is not on this machine is to be spoken to in plain HTTP.
    pub fn new(config: Config, credentials: &[Credential]) -> Result<Self> {
        let remote = Remote::new(config, credentials)?;
        Ok(Self { remote })
    }

    async fn push_blob(
        &self,
        place: &Place,
        digest: &Digest,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        if self.has(place, &format!("blobs/{digest}")).await? {
            return Ok(());
        }
        self.remote.introduce(place).await;
        let chunks = verifying(bytes, digest.clone())
            .map_err(|error| OciDistributionError::IoError(io::Error::other(error)));
        let pushed = self
            .remote
            .oci
            .push_blob_stream(&place.oci(), chunks, digest.as_str(), None)
            .await;
        pushed
            .map(drop)
            .map_err(|error| failed("push to", &place.host, error))
    }

    async fn push_manifest(
        &self,
        place: &Place,
        digest: &Digest,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        let content = collect(verifying(bytes, digest.clone()), MANIFEST_BYTES_MAX).await?;
        let parsed = parse_manifest(&content, None)?;
        // Registries may take a manifest whose content they do not have. Ours is a promise that they do.
        let blobs = parsed.blobs.iter().map(|named| ("blobs", &named.digest));
        let manifests = parsed
            .manifests
            .iter()
            .map(|named| ("manifests", &named.digest));
        for (kind, named) in blobs.chain(manifests) {
            if !self.has(place, &format!("{kind}/{named}")).await? {
                let message = format!(
                    "manifest names {named}, which registry `{}` does not have; push that first",
                    place.host
                );
                return Err(Error::invalid(message));
            }
        }
        self.put_manifest(place, digest.as_str(), parsed.media_type.as_str(), content)
            .await
    }

    async fn put_manifest(
        &self,
        place: &Place,
        reference: &str,
        media_type: &str,
        content: Bytes,
    ) -> Result<()> {
        let media_type = HeaderValue::from_str(media_type).map_err(|_| {
            Error::internal("registry called a manifest's media type something unprintable")
        })?;
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]);
        let path = format!("manifests/{reference}");
        match self
            .remote
            .send(place, Method::PUT, &path, headers, content)
            .await?
        {
            Some(_) => Ok(()),
            None => Err(Error::not_found(format!(
                "registry `{}` has no place for `{}`",
                place.host, place.path
            ))),
        }
    }

    /// Reads a manifest by its digest, with its media type.
    async fn manifest(&self, place: &Place, digest: &Digest) -> Result<(Bytes, String)> {
        let path = format!("manifests/{digest}");
        let response = self
            .remote
            .send(place, Method::GET, &path, accept_manifests(), Bytes::new())
            .await?;
        let response = response.ok_or_else(|| unknown(place, digest))?;
        let media_type = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let media_type = media_type
            .unwrap_or(MediaType::Manifest.as_str())
            .to_owned();
        let content = whole(response).await?;
        if Digest::of(&content) == *digest {
            Ok((content, media_type))
        } else {
            Err(Error::internal(format!(
                "registry `{}` answers with something else than {digest}",
                place.host
            )))
        }
    }

    async fn has(&self, place: &Place, path: &str) -> Result<bool> {
        let found = self
            .remote
            .send(place, Method::HEAD, path, accept_manifests(), Bytes::new())
            .await?;
        Ok(found.is_some())
    }
}

#[async_trait]
impl Backend for Registry {
    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        let place = self.remote.place(repository)?;
        let path = format!("manifests/{reference}");
        let found = self
            .remote
            .send(
                &place,
                Method::HEAD,
                &path,
                accept_manifests(),
                Bytes::new(),
            )
            .await?;
        let Some(found) = found else {
            return Ok(None);
        };
        if let Reference::Digest(digest) = reference {
            return Ok(Some(digest.clone()));
        }
        let digest = found
            .headers()
            .get(CONTENT_DIGEST)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if digest.is_some() {
            return Ok(digest);
        }
        // Registries before version 1.1 of the specification need not say.
        match self
            .remote
            .send(&place, Method::GET, &path, accept_manifests(), Bytes::new())
            .await?
        {
            Some(response) => Ok(Some(Digest::of(whole(response).await?))),
            None => Ok(None),
        }
    }

    async fn pull(
        &self,
        repository: &Repository,
        content: &Content,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let place = self.remote.place(repository)?;
        match content {
            Content::Blob(digest) => {
                self.remote.introduce(&place).await;
                let host = place.host.clone();
                let pulled = self
                    .remote
                    .oci
                    .pull_blob_stream(&place.oci(), digest.as_str())
                    .await;
                // The library verifies what it reads.
                let chunks = pulled.map_err(|error| failed("pull from", &host, error))?;
                Ok(chunks
                    .map_err(move |error| failed("pull from", &host, error.into()))
                    .boxed())
            }
            Content::Manifest(digest) => {
                let (content, _) = self.manifest(&place, digest).await?;
                Ok(stream::iter([Ok(content)]).boxed())
            }
        }
    }

    async fn push(
        &self,
        repository: &Repository,
        content: &Content,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        let place = self.remote.place(repository)?;
        match content {
            Content::Blob(digest) => self.push_blob(&place, digest, bytes).await,
            Content::Manifest(digest) => self.push_manifest(&place, digest, bytes).await,
        }
    }

    async fn tag(&self, repository: &Repository, digest: &Digest, tag: &Tag) -> Result<()> {
        let place = self.remote.place(repository)?;
        let (content, media_type) = self.manifest(&place, digest).await?;
        self.put_manifest(&place, tag.as_str(), &media_type, content)
            .await
    }

    async fn list(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let place = self.remote.place(repository)?;
        let mut tags = BTreeSet::new();
        let mut path = format!("tags/list?n={PAGE}");
        for _ in 0..PAGES_MAX {
            let response = self
                .remote
                .send(&place, Method::GET, &path, HeaderMap::new(), Bytes::new())
                .await?;
            let Some(response) = response else {
                break;
            };
            let page: Page = serde_json::from_slice(&whole(response).await?).map_err(|error| {
                Error::internal(format!(
                    "registry `{}` lists tags in no known way",
                    place.host
                ))
                .with_source(error)
            })?;
            let page: Vec<Tag> = page
                .tags
                .unwrap_or_default()
                .into_iter()
                .filter_map(|tag| tag.parse().ok())
                .collect();
            let Some(last) = page.last() else {
                break;
            };
            path = format!("tags/list?n={PAGE}&last={last}");
            let known = tags.len();
            tags.extend(page);
            // A registry that does not know `last` would begin again for ever.
            if tags.len() == known {
                break;
            }
        }
        Ok(tags.into_iter().collect())
    }

    async fn delete(&self, repository: &Repository, reference: &Reference) -> Result<()> {
        let place = self.remote.place(repository)?;
        let path = format!("manifests/{reference}");
        let (nothing, no_headers) = (Bytes::new(), HeaderMap::new());
        let deleted = self
            .remote
            .send(&place, Method::DELETE, &path, no_headers, nothing)
            .await;
        match deleted {
            Ok(_) => Ok(()),
            // The specification lets a registry that does not delete tags say so in this way.
            Err(error) if error.kind() == ErrorKind::Invalid => Err(Error::unsupported(format!(
                "registry `{}` does not delete this",
                place.host
            ))
            .with_source(error)),
            Err(error) => Err(error),
        }
    }
}

#[derive(serde::Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

fn accept_manifests() -> HeaderMap {
    let types = MediaType::ALL.map(|kind| HeaderValue::from_static(kind.as_str()));
    types
        .into_iter()
        .map(|kind| (header::ACCEPT, kind))
        .collect()
}

fn unknown(place: &Place, digest: &Digest) -> Error {
    Error::not_found(format!(
        "registry `{}` has no {digest} in `{}`",
        place.host, place.path
    ))
}

/// Gathers chunks until one is worth a request, and ends in an error unless all of them hash to `digest`.
fn verifying(
    bytes: BoxStream<'static, Result<Bytes>>,
    digest: Digest,
) -> BoxStream<'static, Result<Bytes>> {
    let state = Some((bytes, Sha256::new()));
    stream::try_unfold((state, digest), |(state, digest)| async {
        let Some((mut bytes, mut hash)) = state else {
            return Ok(None);
        };
        let mut gathered = BytesMut::new();
        while gathered.len() < CHUNK_BYTES {
            let Some(chunk) = bytes.try_next().await? else {
                let actual = Digest::from_sha256(hash.finalize().into());
                if actual != digest {
                    let message = format!("content hashes to {actual}, but {digest} was announced");
                    return Err(Error::invalid(message));
                }
                return Ok(Some((gathered.freeze(), (None, digest))));
            };
            hash.update(&chunk);
            gathered.extend_from_slice(&chunk);
        }
        Ok(Some((gathered.freeze(), (Some((bytes, hash)), digest))))
    })
    .boxed()
}

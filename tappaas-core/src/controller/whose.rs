//! Whose an image or an archive in the platform's own registry is: its repository begins with the tenant.

use std::net::IpAddr;

use super::Context;
use crate::{
    Error, Name, Result,
    backend::{ImageName, Repository},
    model::Source,
};

impl Context {
    /// Refuses an image of the platform's own registry that another tenant has.
    ///
    /// # Errors
    /// `NotFound`, as if nobody had it.
    pub(crate) fn check_image(&self, tenant: &Name, image: &ImageName) -> Result<()> {
        match self.is_foreign(tenant, &image.repository) {
            true => Err(no_image(image)),
            false => Ok(()),
        }
    }

    /// What a tenant's build reads, with the image that a name means.
    ///
    /// # Errors
    /// `NotFound` if there is no such thing of this tenant's; `Invalid` if it cannot be one.
    pub(crate) async fn source(&self, tenant: &Name, source: &Source) -> Result<Source> {
        match source {
            Source::Reference(reference) => {
                let name: ImageName = reference.parse()?;
                self.check_image(tenant, &name)?;
                // With a digest nobody has to be asked, with a tag the registry is.
                let image = match name.fixed() {
                    Some(image) => image,
                    None => name.resolve(&*self.backends.registry).await?,
                };
                Ok(Source::Image {
                    reference: reference.clone(),
                    image,
                })
            }
            Source::Image { image, .. } if self.is_foreign(tenant, &image.repository) => {
                Err(no_image(image))
            }
            Source::Upload { repository, digest } if !self.is_own(tenant, repository) => {
                Err(Error::not_found(format!(
                    "no archive `{repository}@{digest}` in the registry"
                )))
            }
            Source::Image { .. } | Source::Upload { .. } | Source::Git { .. } => Ok(source.clone()),
        }
    }

    /// Whether a repository is of the platform's own registry, and another tenant's. Who builds nothing has no such registry.
    fn is_foreign(&self, tenant: &Name, repository: &Repository) -> bool {
        let builds = self.backends.builder.capabilities().sources;
        builds && self.settings.own_path(repository).is_some() && !self.is_own(tenant, repository)
    }

    /// Whether a repository is of the platform's own registry, and this tenant's.
    fn is_own(&self, tenant: &Name, repository: &Repository) -> bool {
        let first = |path: &str| Some(path.split_once('/')?.0 == tenant.as_str());
        self.settings.own_path(repository).and_then(first) == Some(true)
    }
}

/// The same, whether nobody has it or somebody else.
fn no_image(name: impl std::fmt::Display) -> Error {
    Error::not_found(format!("no image `{name}` in the registry"))
}

impl super::Settings {
    /// What a repository is called in the platform's own registry; `None` if it is in another one.
    fn own_path<'a>(&self, repository: &'a Repository) -> Option<&'a str> {
        let Some(host) = repository.registry() else {
            return self.registry.is_none().then(|| repository.path());
        };
        match &self.registry {
            Some(own) => {
                let within = own.registry().is_some_and(|own| is_same(own, host));
                let path = repository.path().strip_prefix(own.path())?;
                path.strip_prefix('/').filter(|_| within)
            }
            None => {
                let own = self.registry_names.iter().any(|name| is_same(name, host));
                own.then(|| repository.path())
            }
        }
    }
}

/// Whether two ways to write a registry's host lead to the same one.
fn is_same(one: &str, other: &str) -> bool {
    let place = |host: &str| {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            _ => (host, ""),
        };
        // What is no number leads nowhere, and is the same as nothing.
        let port = port.parse().ok();
        let port = port.filter(|port: &u16| ![80, 443].contains(port));
        (machine(name), port)
    };
    place(one) == place(other)
}

/// One spelling of a host's many.
fn machine(name: &str) -> String {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    match address
        .parse()
        .map(|address: IpAddr| address.to_canonical())
    {
        Ok(address) if address.is_loopback() => "localhost".to_owned(),
        Ok(address) => address.to_string(),
        Err(_) => name,
    }
}

#[cfg(test)]
mod tests {
    use crate::controller::Settings;

    #[test]
    fn the_own_registry_is_known_however_it_is_written() {
        let embedded = Settings {
            registry_names: ["images.example.com", "10.0.0.5:5000", "localhost:5000"]
                .map(str::to_owned)
                .into(),
            ..Settings::default()
        };
        let outside = Settings {
            registry: Some("registry.example/platform".parse().unwrap()),
            ..Settings::default()
        };
        for (settings, repository, path) in [
            (&embedded, "acme/web", Some("acme/web")),
            (&embedded, "images.example.com/acme/web", Some("acme/web")),
            (
                &embedded,
                "IMAGES.Example.com:443/acme/web",
                Some("acme/web"),
            ),
            (
                &embedded,
                "images.example.com.:80/acme/web",
                Some("acme/web"),
            ),
            (&embedded, "10.0.0.5:5000/acme/web", Some("acme/web")),
            (
                &embedded,
                "[::ffff:10.0.0.5]:5000/acme/web",
                Some("acme/web"),
            ),
            (&embedded, "127.0.0.9:5000/acme/web", Some("acme/web")),
            (&embedded, "[::1]:5000/acme/web", Some("acme/web")),
            (&embedded, "10.0.0.5:5001/acme/web", None),
            (&embedded, "images.example.com:5000/acme/web", None),
            (&embedded, "docker.io/acme/web", None),
            (
                &outside,
                "registry.example/platform/acme/web",
                Some("acme/web"),
            ),
            (&outside, "registry.example/platforms/acme/web", None),
            (&outside, "registry.example/other/web", None),
            (&outside, "acme/web", None),
        ] {
            let repository = repository.parse().unwrap();
            assert_eq!(settings.own_path(&repository), path, "{repository}");
        }
    }
}

//! Where the data directory is, and what is found in it. The only place that reads the environment.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// A server's data directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// The one that was asked for, else the default: a system folder as root, the XDG data home otherwise.
    pub(crate) fn find(asked: Option<&Path>) -> Result<Self> {
        let path = match asked {
            Some(path) => std::path::absolute(path)?,
            None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/tappaas"),
            None => data_home()?.join("tappaas"),
        };
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the API listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("api.sock")
    }

    /// Where the edge of a server listens for what it is told; it outlives the server.
    pub(crate) fn edge_socket(&self) -> PathBuf {
        self.0.join("edge/edge.sock")
    }

    /// The log of a server that was started in the background.
    pub(crate) fn server_log(&self) -> PathBuf {
        self.0.join("server.log")
    }

    /// Lets other users pass through the directory, though not look into it. Root's instances are such users: without a sandbox they
    /// start in a layer of their image, and with `user = "root"` they mount its layers in a user namespace of their own.
    pub(crate) fn let_pass(&self) -> Result<()> {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o711))
            .with_context(|| format!("cannot set the mode of {}", self.0.display()))
    }

    /// Makes the directory, readable by its owner alone, and refuses one that is somebody else's.
    pub(crate) fn make(&self) -> Result<()> {
        let shown = self.0.display();
        // The folders above it are like any other.
        let above = self.0.parent().map_or(Ok(()), fs::create_dir_all);
        let made = above.and_then(|()| {
            let mut own = fs::DirBuilder::new();
            own.recursive(true).mode(0o700).create(&self.0)
        });
        made.with_context(|| format!("cannot make {shown}"))?;
        let owner = fs::metadata(&self.0)
            .with_context(|| format!("cannot look at {shown}"))?
            .uid();
        if owner != rustix::process::geteuid().as_raw() {
            bail!("{shown} belongs to another user; name a directory of your own with --data-dir");
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program reads its environment here, and nowhere else"
)]
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// XDG Base Directory Specification: `$XDG_DATA_HOME`, else `$HOME/.local/share`.
fn data_home() -> Result<PathBuf> {
    let home = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let home = home.or_else(|| Some(variable("HOME")?.join(".local/share")));
    home.context("there is no home directory; name a directory with --data-dir")
}

/// XDG Base Directory Specification: `$XDG_CONFIG_HOME`, else `$HOME/.config`.
pub(crate) fn config_home() -> Result<PathBuf> {
    let home = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let home = home.or_else(|| Some(variable("HOME")?.join(".config")));
    home.context("there is no home directory: HOME is not set")
}

/// The program itself, which is also its helpers.
#[expect(
    clippy::disallowed_methods,
    reason = "the program passes itself on as the helper, and asks who it is here alone"
)]
pub(crate) fn program() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    // A program that was replaced while it ran is shown with this suffix; the new one is at the path.
    let text = program.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or_else(|| program.clone(), PathBuf::from))
}

/// What to log, as in `RUST_LOG`.
pub(crate) fn log_filter() -> Option<String> {
    variable("TAPPAAS_LOG").map(|value| value.to_string_lossy().into_owned())
}

/// Which of several operators this is, as its pod says.
pub(crate) fn identity() -> Option<String> {
    variable("TAPPAAS_IDENTITY").map(|value| value.to_string_lossy().into_owned())
}

/// The namespace that this operator is in, as its pod says.
pub(crate) fn namespace() -> Option<String> {
    variable("TAPPAAS_NAMESPACE").map(|value| value.to_string_lossy().into_owned())
}

/// Where `kubectl` would look, too, if anybody said so.
pub(crate) fn kubeconfig() -> Option<PathBuf> {
    variable("KUBECONFIG")
}

/// Settings of package managers that builds get passed on: where they download from.
pub(crate) fn build_environment() -> Vec<(String, String)> {
    const PASSED_ON: [&str; 14] = [
        "CARGO_HTTP_CAINFO",
        "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
        "GOFLAGS",
        "GONOSUMDB",
        "GONOSUMCHECK",
        "GOPROXY",
        "GOSUMDB",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "PIP_INDEX_URL",
        "PIP_TRUSTED_HOST",
        "SSL_CERT_FILE",
        "npm_config_registry",
    ];
    let set = PASSED_ON
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), variable(name)?.to_str()?.to_owned())));
    set.collect()
}

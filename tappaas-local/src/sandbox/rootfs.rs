//! The file system of a sandbox: an overlay of read-only layers and a small upper layer in memory, where mount points and generated
//! files go. It is mounted in the shim's mount namespace and vanishes with it.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, mount};

use crate::{
    fault::{Context, Result},
    sandbox::{Isolation, Root, Spec, User},
};

/// Mounts the root below the instance's folder `dir` and returns its path.
pub(crate) fn mount_root(spec: &Spec, dir: &Path) -> Result<PathBuf> {
    let scratch = dir.join("mnt");
    make_folder(&scratch)?;
    mount(
        "tmpfs",
        &scratch,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        SCRATCH,
    )
    .context(|| format!("mount a tmpfs at {}", scratch.display()))?;
    let at = |name: &str| scratch.join(name);
    match &spec.root.writable {
        None => ["upper", "work"]
            .iter()
            .try_for_each(|name| make_folder(&at(name)))?,
        Some(folder) => {
            for name in ["upper", "work"] {
                make_folder(&folder.join(name))?;
                link(&folder.join(name), &at(name))?;
            }
        }
    }
    make_folder(&at("root"))?;
    write_files(&spec.root, &at("upper"))?;
    let in_user_namespace =
        spec.isolation == Isolation::Rootless || matches!(spec.user, User::Root { .. });
    overlay(&spec.root.layers, &scratch, in_user_namespace)?;
    Ok(at("root"))
}

/// Enough for every generated file and mount point; nothing else can write there.
const SCRATCH: &std::ffi::CStr = c"size=8m,nr_inodes=8k,mode=755";

/// Layers are named by short links: the kernel takes at most one page of options, and paths may hold `:` or `,`.
fn overlay(layers: &[PathBuf], scratch: &Path, in_user_namespace: bool) -> Result<()> {
    let mut names = Vec::with_capacity(layers.len().max(1));
    for (index, layer) in layers.iter().enumerate() {
        let name = format!("l{index}");
        // The link would resolve to a missing folder silently, and the mount fail without naming it.
        fs::metadata(layer).context(|| format!("find the layer {}", layer.display()))?;
        link(layer, &scratch.join(&name))?;
        names.push(name);
    }
    if names.is_empty() {
        make_folder(&scratch.join("l0"))?;
        names.push("l0".to_owned());
    }
    let userxattr = if in_user_namespace { ",userxattr" } else { "" };
    let options = format!(
        "lowerdir={},upperdir=upper,workdir=work{userxattr}",
        names.join(":")
    );
    let options = std::ffi::CString::new(options).expect("the options hold no NUL");
    let before = std::env::current_dir().context(|| "find the current folder".to_owned())?;
    std::env::set_current_dir(scratch).context(|| format!("enter {}", scratch.display()))?;
    let mounted = mount("overlay", "root", "overlay", MountFlags::NODEV, &*options);
    std::env::set_current_dir(&before).context(|| format!("enter {}", before.display()))?;
    mounted.context(|| "mount the root file system as an overlay".to_owned())
}

/// Written into the upper layer before it is mounted: no link in an image can lead these writes astray.
fn write_files(root: &Root, upper: &Path) -> Result<()> {
    for (path, content) in &root.files {
        let path = upper.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(folder) = path.parent() {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder);
            made.context(|| format!("create {}", folder.display()))?;
        }
        // A root kept from an earlier run has them already.
        fs::remove_file(&path).ok();
        let written =
            fs::write(&path, content).and_then(|()| fs::set_permissions(&path, readable()));
        written.context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn readable() -> fs::Permissions {
    fs::Permissions::from_mode(0o644)
}

fn make_folder(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path);
    made.context(|| format!("create {}", path.display()))
}

fn link(to: &Path, at: &Path) -> Result<()> {
    symlink(to, at).context(|| format!("link {} at {}", to.display(), at.display()))
}

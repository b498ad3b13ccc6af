use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

/// An instance, as the files of its platform and the kernel tell of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Instance {
    pub(super) id: String,
    /// The last part of its key.
    pub(super) application: String,
    pub(super) release: u64,
    /// Nothing but its log is kept.
    pub(super) gone: bool,
    /// Its supervisor and its process, if both live: another one has another number or another time of its start.
    pub(super) lives: Option<[Identity; 2]>,
}

/// A process's number and the time of its start.
pub(super) type Identity = (i64, u64);

impl Instance {
    /// All of which there is an account.
    pub(super) fn all(data: &Path) -> Vec<Self> {
        let folder = data.join("local/instances");
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let ids = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned));
        let mut all: Vec<_> = ids.filter_map(|id| Self::read(&folder, &id)).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// Those of an application that live.
    pub(super) fn living(data: &Path, application: &str) -> BTreeMap<String, Self> {
        let all = Self::all(data).into_iter();
        let ours = all.filter(|one| one.application == application && one.lives.is_some());
        ours.map(|one| (one.id.clone(), one)).collect()
    }

    fn read(folder: &Path, id: &str) -> Option<Self> {
        let json =
            |path: &Path| -> Option<Value> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
        let about = json(&folder.join(format!("{id}.json")))?;
        let record = json(&folder.join(id).join("instance.json"));
        let [shim, process] = ["shim", "process"].map(|part| alive(&record.as_ref()?[part]));
        let application = about["workload"]["application"].as_str()?;
        Some(Self {
            id: id.to_owned(),
            application: application.rsplit('/').next()?.to_owned(),
            release: about["release"].as_u64()?,
            gone: about["gone"] == true,
            lives: shim.zip(process).map(<[Identity; 2]>::from),
        })
    }
}

/// The process that a record names, if the kernel knows it, and not as a dead one.
fn alive(identity: &Value) -> Option<Identity> {
    let (id, started) = (identity["pid"].as_i64()?, identity["start"].as_u64()?);
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let lives = !matches!(fields[0], "Z" | "X") && fields[19].parse() == Ok(started);
    lives.then_some((id, started))
}

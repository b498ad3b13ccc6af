use std::path::PathBuf;

use tappaas_core::Result;

use super::config::{Confinement, SchedulerConfig, unusable};
use crate::{
    doctor::Report,
    network::Networks,
    sandbox::{Enforced, Isolation},
};

/// How commands are confined on this machine, those of instances and those of builds alike.
#[derive(Clone, Debug)]
pub struct Confines {
    /// How strongly. With [`Isolation::None`] only what needs no command is built.
    pub isolation: Isolation,
    /// The networks that they are in, where root runs them.
    pub networks: Option<Networks>,
    /// The program that connects them with the outside, where a plain user runs them.
    pub pasta: Option<PathBuf>,
}

/// What was found out about them.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) confines: Confines,
    /// Which limits hold.
    pub(super) enforced: Enforced,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
}

impl Confines {
    /// What this machine allows, and the configuration asks for. Whoever has a [`Scheduler`](crate::Scheduler) asks that one.
    ///
    /// # Errors
    /// `Unsupported` if it allows no sandbox, saying the ways out.
    pub async fn find(config: &SchedulerConfig) -> Result<Self> {
        Ok(Found::of(config).await?.confines)
    }
}

impl Found {
    pub(super) async fn of(config: &SchedulerConfig) -> Result<Self> {
        if config.isolation == Confinement::None {
            let note = "applications run without a sandbox: they can do whatever this user can";
            return Ok(Self {
                confines: Confines {
                    isolation: Isolation::None,
                    networks: None,
                    pasta: config.network.pasta.clone(),
                },
                enforced: Enforced::default(),
                notes: vec![note.to_owned()],
            });
        }
        let scratch = config.data_dir.join("doctor");
        std::fs::create_dir_all(&scratch).map_err(|error| unusable(&scratch, error))?;
        let report = Report::of_this_machine(&config.helper, &scratch).await?;
        let isolation = report.isolation()?;
        let pasta = config.network.pasta.clone();
        Ok(Self {
            confines: Confines {
                isolation,
                networks: networks(isolation, config).await?,
                pasta: pasta.or_else(|| report.outside()),
            },
            notes: notes(&report),
            enforced: report.enforced,
        })
    }
}

fn notes(report: &Report) -> Vec<String> {
    let less = [&report.limits, &report.network]
        .into_iter()
        .filter(|finding| finding.remedy.is_some());
    let notes = less.map(|finding| match &finding.remedy {
        Some(remedy) => format!("{}; {remedy}", finding.detail),
        None => finding.detail.clone(),
    });
    notes.collect()
}

async fn networks(isolation: Isolation, config: &SchedulerConfig) -> Result<Option<Networks>> {
    match isolation {
        Isolation::Privileged => {
            let folder = config.data_dir.join("network");
            let networks = Networks::open(&folder, &config.network.settings()?).await?;
            Ok(Some(networks))
        }
        Isolation::Rootless | Isolation::None => Ok(None),
    }
}

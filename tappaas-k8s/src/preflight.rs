//! Whether a cluster has what a control plane needs, asked before anything is changed.

use futures::stream::{self, StreamExt as _};
use k8s_openapi::{
    api::authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    },
    api::rbac::v1::PolicyRule,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, api::PostParams};
use serde_json::Value;
use tappaas_core::{Error, ErrorKind, Result};

use crate::{
    definitions,
    failure::{failure, within},
    install::{command_rules, object_rules, workload_rules},
    scheduler::difference,
};

/// The oldest version whose API has all that is used: `1.MINOR`.
const MINOR_MIN: u32 = 33;
/// Questions under way at a time.
const ASKED: usize = 8;
/// Missing rights that are named; there may be more.
const NAMED: usize = 10;

/// What is asked of a cluster.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Needs<'a> {
    /// It keeps objects in this API group.
    pub group: Option<&'a str>,
    /// It runs workloads, serves routes and keeps volumes.
    pub workloads: bool,
    /// People run commands inside of instances.
    pub commands: bool,
}

impl<'a> Needs<'a> {
    /// What an operator needs.
    pub fn of_an_operator(group: &'a str) -> Self {
        Self {
            group: Some(group),
            workloads: true,
            commands: false,
        }
    }

    fn rules(self) -> Vec<PolicyRule> {
        let objects = self.group.into_iter().flat_map(object_rules);
        let workloads = self.workloads.then(workload_rules);
        let commands = self.commands.then(command_rules);
        objects
            .chain(workloads.into_iter().flatten())
            .chain(commands.into_iter().flatten())
            .collect()
    }
}

/// Checks that the cluster is new enough, has this program's definitions if it is to keep objects, and allows what is asked of it.
///
/// # Errors
/// `Unsupported` if it is too old, or its definitions are; `Denied` with each missing right, as verb and resource; `Unavailable` if it does
/// not answer.
pub async fn preflight(client: &Client, needs: Needs<'_>) -> Result<()> {
    check_version(client).await?;
    if let Some(group) = needs.group {
        check_definitions(client, group).await?;
    }
    check_rights(client, needs).await
}

async fn check_version(client: &Client) -> Result<()> {
    let version = within(client.apiserver_version()).await;
    let version =
        version.map_err(|error| failure("cannot ask for the cluster's version", error))?;
    let digits = |text: &str| {
        text.trim_end_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .ok()
    };
    match (digits(&version.major), digits(&version.minor)) {
        (Some(1), Some(minor)) if minor < MINOR_MIN => Err(Error::unsupported(format!(
            "the cluster is Kubernetes {}; 1.{MINOR_MIN} is the oldest that works",
            version.git_version
        ))),
        (Some(1), Some(_)) => Ok(()),
        _ => Err(Error::unsupported(format!(
            "the cluster is Kubernetes {}, which this program does not know",
            version.git_version
        ))),
    }
}

async fn check_definitions(client: &Client, group: &str) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for wanted in definitions(group) {
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let found = within(api.get_opt(&name)).await;
        let found =
            found.map_err(|error| failure(format!("cannot read definition {name}"), error))?;
        let advice = "what `tappaas install --print` prints has it";
        let Some(found) = found else {
            return Err(Error::unsupported(format!(
                "the cluster has no definition {name}: {advice}"
            )));
        };
        if let Some(field) = difference("spec", &spec(&wanted), &spec(&found)) {
            return Err(Error::unsupported(format!(
                "definition {name} is of another version of this program: its {field} differs; {advice}"
            )));
        }
    }
    Ok(())
}

fn spec(definition: &CustomResourceDefinition) -> Value {
    serde_json::to_value(&definition.spec).expect("a definition has string keys only")
}

async fn check_rights(client: &Client, needs: Needs<'_>) -> Result<()> {
    let mut questions = Vec::new();
    for rule in needs.rules() {
        let groups = rule.api_groups.unwrap_or_default();
        let resources = rule.resources.unwrap_or_default();
        for (group, resource) in groups
            .iter()
            .flat_map(|g| resources.iter().map(move |r| (g, r)))
        {
            for verb in &rule.verbs {
                questions.push(attributes(group, resource, verb));
            }
        }
    }
    let answers = stream::iter(questions).map(|asked| allowed(client, asked));
    let mut answers = answers.buffered(ASKED);
    let mut missing = Vec::new();
    while let Some(answer) = answers.next().await {
        missing.extend(answer?);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let more = missing.len().saturating_sub(NAMED);
    missing.truncate(NAMED);
    let more = match more {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Err(Error::new(
        ErrorKind::Denied,
        format!(
            "the cluster does not allow this account to {}{more}: `tappaas install --print` has the roles that do",
            missing.join(", ")
        ),
    ))
}

fn attributes(group: &str, resource: &str, verb: &str) -> ResourceAttributes {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    }
}

/// What is not allowed, in words; `None` if it is.
async fn allowed(client: &Client, asked: ResourceAttributes) -> Result<Option<String>> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(asked.clone()),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = within(api.create(&PostParams::default(), &review)).await;
    let answer = answer.map_err(|error| failure("cannot ask what is allowed", error))?;
    if answer.status.is_some_and(|status| status.allowed) {
        return Ok(None);
    }
    let [verb, group, resource] =
        [asked.verb, asked.group, asked.resource].map(Option::unwrap_or_default);
    let whole = match asked.subresource {
        Some(subresource) => format!("{resource}/{subresource}"),
        None => resource,
    };
    Ok(Some(match group.is_empty() {
        true => format!("{verb} {whole}"),
        false => format!("{verb} {whole}.{group}"),
    }))
}

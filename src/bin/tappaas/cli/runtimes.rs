//! Which nodes of a Kubernetes cluster a runtime means.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    str::FromStr,
};

use anyhow::{Result, bail};
use serde::Deserialize;
use tappaas::k8s::RuntimeNodes;
use tappaas_core::{model::Runtime, placement::Toleration};

/// The most characters of a label's name and value, and of the domain before the name.
const PART_MAX: usize = 63;
const DOMAIN_MAX: usize = 253;

/// A label of a runtime's nodes, written `runtime=label=value`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(crate) struct RuntimeLabel {
    runtime: Runtime,
    label: String,
    value: String,
}

impl FromStr for RuntimeLabel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected RUNTIME=LABEL=VALUE, such as gpu=accelerator=nvidia";
        let (runtime, label) = text.split_once('=').ok_or(form)?;
        let (label, value) = label.split_once('=').ok_or(form)?;
        let runtime: Runtime = runtime
            .parse()
            .map_err(|error: tappaas_core::Error| error.to_string())?;
        if runtime.is_standard() {
            return Err("the runtime `standard` is any node: it has no label".to_owned());
        }
        qualified(label)?;
        part(value).map_err(|why| format!("`{value}` is no value of a label: {why}"))?;
        Ok(Self {
            runtime,
            label: label.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl fmt::Display for RuntimeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}={}", self.runtime, self.label, self.value)
    }
}

/// A resource of nodes and how much an instance gets, written `name` or `name=count`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(crate) struct GpuResource {
    name: String,
    count: u32,
}

impl Default for GpuResource {
    fn default() -> Self {
        Self {
            name: "nvidia.com/gpu".to_owned(),
            count: 1,
        }
    }
}

impl FromStr for GpuResource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count) = text.split_once('=').unwrap_or((text, "1"));
        qualified(name)?;
        if !name.contains('/') {
            return Err(format!(
                "`{name}` is no resource of a device: those have a domain, as nvidia.com/gpu"
            ));
        }
        let count = count.parse().ok().filter(|count| *count > 0);
        Ok(Self {
            name: name.to_owned(),
            count: count.ok_or("how much an instance gets is a whole number from 1")?,
        })
    }
}

impl fmt::Display for GpuResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.count)
    }
}

read_as_text!(GpuResource, RuntimeLabel);

/// The nodes of each runtime that has labels.
///
/// # Errors
/// What does not fit together.
pub(crate) fn nodes(
    labels: &[RuntimeLabel],
    gpu: Option<&GpuResource>,
) -> Result<BTreeMap<Runtime, RuntimeNodes>> {
    let mut runtimes = BTreeMap::<Runtime, RuntimeNodes>::new();
    for it in labels {
        let nodes = runtimes.entry(it.runtime).or_default();
        match nodes.labels.entry(it.label.clone()) {
            Entry::Occupied(other) => {
                let (runtime, label) = (it.runtime, &it.label);
                bail!(
                    "--runtime {it}: {runtime} has {label}={} already, and no node has both",
                    other.get()
                );
            }
            Entry::Vacant(free) => free.insert(it.value.clone()),
        };
        nodes.tolerations.push(Toleration {
            key: it.label.clone(),
            value: Some(it.value.clone()),
        });
    }
    match runtimes.get_mut(&Runtime::Gpu) {
        Some(nodes) => {
            let GpuResource { name, count } = gpu.cloned().unwrap_or_default();
            nodes.resource = Some((name, count));
        }
        None if gpu.is_some() => {
            bail!("--gpu-resource needs --runtime gpu=LABEL=VALUE: which nodes have it")
        }
        None => {}
    }
    Ok(runtimes)
}

/// A name as of labels and resources: with a domain before it, or without.
fn qualified(text: &str) -> Result<(), String> {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let good = |domain: &str| {
        let labels = domain.split('.');
        domain.len() <= DOMAIN_MAX
            && domain.chars().all(plain)
            && labels.into_iter().all(|label| part(label).is_ok())
    };
    if domain.is_some_and(|domain| !good(domain)) {
        return Err(format!("`{text}` does not begin with a domain"));
    }
    part(name).map_err(|why| format!("`{text}` is no name of a label or resource: {why}"))
}

fn part(text: &str) -> Result<(), &'static str> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = [text.chars().next(), text.chars().next_back()];
    let good = ends
        .iter()
        .all(|end| end.is_some_and(|c| c.is_ascii_alphanumeric()));
    match good && text.len() <= PART_MAX && text.chars().all(inner) {
        true => Ok(()),
        false => Err("1 to 63 letters, digits, `-`, `_` and `.`, a letter or digit first and last"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(texts: &[&str]) -> Vec<RuntimeLabel> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_runtime_has_the_nodes_with_all_its_labels_and_tolerates_their_taints() {
        let given = labels(&["gpu=a.example/kind=A100", "gpu=tier=1", "edge=zone=near"]);
        let found = nodes(&given, Some(&"amd.com/gpu=2".parse().unwrap())).unwrap();
        let gpu = &found[&Runtime::Gpu];
        assert_eq!(gpu.labels["a.example/kind"], "A100");
        assert_eq!(gpu.tolerations[1].value.as_deref(), Some("1"));
        assert_eq!(gpu.resource, Some(("amd.com/gpu".to_owned(), 2)));
        assert_eq!(found[&Runtime::Edge].resource, None);
        let usual = nodes(&given[..1], None).unwrap();
        let usual = usual[&Runtime::Gpu].resource.clone();
        assert_eq!(usual, Some(("nvidia.com/gpu".to_owned(), 1)));
    }

    #[test]
    fn what_no_node_could_have_is_refused() {
        for (text, words) in [
            ("gpu", "RUNTIME=LABEL=VALUE"),
            ("gpu=label", "RUNTIME=LABEL=VALUE"),
            ("tpu=a=b", "there is no runtime `tpu`"),
            ("standard=a=b", "any node"),
            ("gpu=-a=b", "no name of a label"),
            ("gpu=A.B/c=d", "domain"),
            ("gpu=a=b c", "no value of a label"),
            ("gpu=a=", "no value of a label"),
        ] {
            let refused = text.parse::<RuntimeLabel>().unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
        for (text, words) in [("gpu", "domain"), ("a.example/gpu=0", "whole number")] {
            let refused = text.parse::<GpuResource>().unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
        let twice = nodes(&labels(&["edge=a=b", "edge=a=c"]), None).unwrap_err();
        assert!(
            twice.to_string().contains("edge has a=b already"),
            "{twice}"
        );
        let lonely = nodes(&[], Some(&GpuResource::default())).unwrap_err();
        assert!(lonely.to_string().contains("--runtime gpu="), "{lonely}");
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for text in ["gpu=a.example/b=c", "high-performance=tier=1"] {
            assert_eq!(text.parse::<RuntimeLabel>().unwrap().to_string(), text);
        }
    }
}

//! What an operator takes for many applications on a cluster with simulated nodes, and what the cluster takes for the same objects
//! without one, in lines of `figure NAME VALUE`. `fleet TESTBED.JSON TAPPAAS FOLDER ROUNDS`
#![expect(clippy::print_stdout, reason = "this is what it is for")]

mod cluster;
mod objects;
mod operator;
mod ready;

use std::{collections::BTreeMap, error::Error, fs, path::PathBuf, time::Duration};

use kube::Client;
use serde_json::{Value, json};
use tappaas_k8s::Installation;

use cluster::Cluster;
use operator::{Counts, Operator};
use ready::{Wanted, applied_until};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const APPLICATIONS: usize = 200;
const GROUP: &str = "fleet.tappaas.dev";
/// Nobody is asked for anything in so long: longer than any pause of the operator but that between two looks at everything.
const QUIET: Duration = Duration::from_secs(8);

#[tokio::main]
async fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [facts, program, folder, rounds] = &words[..] else {
        return Err("usage: fleet TESTBED.JSON TAPPAAS FOLDER ROUNDS".into());
    };
    let fleet = Fleet::install(facts, program, folder).await?;
    for round in 1..=rounds.parse()? {
        let objects = fleet.ours(round).await?;
        fleet.theirs(round, objects).await?;
    }
    Ok(())
}

/// A cluster with an installation, whose operator is a process beside it.
struct Fleet {
    cluster: Cluster,
    client: Client,
    program: PathBuf,
    folder: PathBuf,
    installation: Installation,
}

impl Fleet {
    async fn install(facts: &str, program: &str, folder: &str) -> Outcome<Self> {
        let cluster = Cluster::read(facts)?;
        let installation = Installation {
            namespace: "tappaas".to_owned(),
            group: GROUP.to_owned(),
            image: "unused".to_owned(),
            arguments: operator::arguments(),
            replicas: 0,
        };
        let fleet = Self {
            client: cluster.client().await?,
            cluster,
            program: program.into(),
            folder: folder.into(),
            installation,
        };
        let objects = fleet.installation.objects();
        fleet.kubectl_apply(&objects, &["--server-side"])?;
        let definitions = objects.iter().filter_map(|object| {
            let name = object["metadata"]["name"].as_str()?;
            name.ends_with(GROUP).then(|| format!("crd/{name}"))
        });
        for definition in definitions {
            let established = ["wait", "--for=condition=Established", &definition];
            fleet.cluster.kubectl(&established)?;
        }
        Ok(fleet)
    }

    /// Applies all applications at once to a new environment, and answers what the operator made of them.
    async fn ours(&self, round: usize) -> Outcome<Vec<Value>> {
        let environment = format!("bench.fleet.r{round}");
        let operator = self.operator()?;
        operator.ready().await?;
        let namespace = self.environment(&environment)?;
        let before = operator.counts()?;
        let applications = (0..APPLICATIONS).map(|n| objects::application(GROUP, &namespace, n));
        let file = self.file("applications.json", &applications.collect::<Vec<_>>())?;
        let wanted = [Wanted::applications(GROUP, APPLICATIONS)];
        let apply = self.cluster.command(&["apply", "-f", &file]);
        let took = applied_until(&self.client, &namespace, &wanted, apply).await?;
        println!("figure ours-s {}", took.as_secs_f64());
        let until_ready = operator::difference(&operator.counts()?, &before);
        tell("until-ready", &until_ready);
        operator.quiet(QUIET).await?;
        let in_all = operator::difference(&operator.counts()?, &before);
        tell("in-all", &in_all);
        println!("figure resident-mb {}", operator.memory_mb("VmRSS:")?);
        println!("figure peak-mb {}", operator.memory_mb("VmHWM:")?);
        operator.kill()?;
        let objects = objects::made(&self.cluster, &namespace)?;
        self.again(&environment, &namespace).await?;
        Ok(objects)
    }

    /// Starts another operator, for which there is nothing to do, and then has it take everything away.
    async fn again(&self, environment: &str, namespace: &str) -> Outcome {
        let operator = self.operator()?;
        operator.ready().await?;
        operator.quiet(QUIET).await?;
        let counts = operator.counts()?;
        let writes = operator::writes(&counts);
        println!("figure second-writes {}", writes.values().sum::<u64>());
        println!(
            "figure second-reads {}",
            per_application(&operator::reads(&counts))
        );
        println!("figure second-peak-mb {}", operator.memory_mb("VmHWM:")?);
        for (what, count) in &writes {
            println!("second {count} {what}");
        }
        let all = format!("applications.{GROUP}");
        let delete = ["delete", "-n", namespace, &all, "--all", "--timeout=300s"];
        self.cluster.kubectl(&delete)?;
        let environment = format!("environments.{GROUP}/{environment}");
        self.cluster
            .kubectl(&["delete", &environment, "--timeout=300s"])?;
        operator.kill()
    }

    /// Applies the same objects at once to a namespace of nobody, and takes them away.
    async fn theirs(&self, round: usize, made: Vec<Value>) -> Outcome {
        let namespace = format!("peer-r{round}");
        self.kubectl_apply(&[objects::namespace(&namespace)], &[])?;
        let wanted = [
            Wanted::deployments(APPLICATIONS),
            Wanted::routes(APPLICATIONS),
        ];
        println!("figure objects {}", made.len() as f64 / APPLICATIONS as f64);
        let moved = made
            .into_iter()
            .map(|object| objects::moved(object, &namespace));
        let file = self.file("objects.json", &moved.collect::<Vec<_>>())?;
        let apply = self.cluster.command(&["apply", "-f", &file]);
        let took = applied_until(&self.client, &namespace, &wanted, apply).await?;
        println!("figure theirs-s {}", took.as_secs_f64());
        let delete = ["delete", "namespace", &namespace, "--timeout=300s"];
        self.cluster.kubectl(&delete).map(drop)
    }

    /// Makes an environment, and answers its namespace.
    fn environment(&self, name: &str) -> Outcome<String> {
        let object = json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": "Environment",
            "metadata": { "name": name },
            "spec": {},
        });
        self.kubectl_apply(&[object], &[])?;
        let object = format!("environments.{GROUP}/{name}");
        let ready = ["wait", "--for=condition=Ready", &object, "--timeout=60s"];
        self.cluster.kubectl(&ready)?;
        let namespace = ["get", &object, "-o=jsonpath={.status.namespace}"];
        self.cluster.kubectl(&namespace)
    }

    fn operator(&self) -> Outcome<Operator> {
        Operator::start(
            &self.cluster,
            &self.installation,
            &self.program,
            &self.folder,
        )
    }

    fn kubectl_apply(&self, objects: &[Value], options: &[&str]) -> Outcome {
        let file = self.file("few.json", objects)?;
        let words = [&["apply", "-f", &file], options].concat();
        self.cluster.kubectl(&words).map(drop)
    }

    fn file(&self, name: &str, objects: &[Value]) -> Outcome<String> {
        let path = self.folder.join(name);
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        fs::write(&path, list.to_string())?;
        Ok(path
            .to_str()
            .ok_or("a folder that is not UTF-8")?
            .to_owned())
    }
}

/// How many requests an application took, and which.
fn tell(when: &str, counts: &Counts) {
    println!("figure requests-{when} {}", per_application(counts));
    let writes = operator::writes(counts);
    println!("figure writes-{when} {}", per_application(&writes));
    let mut most: Vec<_> = counts.iter().collect();
    most.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (what, count) in most {
        println!("{when} {:8.2} {what}", *count as f64 / APPLICATIONS as f64);
    }
}

fn per_application(counts: &BTreeMap<String, u64>) -> f64 {
    counts.values().sum::<u64>() as f64 / APPLICATIONS as f64
}

//! The operator's arguments, each of which can also be set by an environment variable. This module
//! opens no file and connects to nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use zephyr_crds::preemptible::SpotProvider;

use crate::controller::plan::Installation;

/// How many jobs may start at the same time, unless the installation sets another number. A job
/// starts within about ten seconds, so a thousand jobs that are created at once all run within
/// minutes. The coordinators of 32 jobs do not fill a cluster, unless it has only a few nodes, and
/// kubelets create a few dozen pods in seconds.
const MAX_STARTING_JOBS: u16 = 32;

/// Runs data pipelines (`ZephyrJob`) on nodes that may vanish.
#[derive(Clone, Debug, Parser)]
#[command(name = "zephyr-operator", version, about)]
pub struct Config {
    /// Image of a job's pods if the job names none.
    #[arg(long, env = "ZEPHYR_WORKER_IMAGE", value_parser = not_empty)]
    pub worker_image: String,
    /// Endpoint of the S3 store if it is not AWS: an http or https URL.
    #[arg(long, env = "ZEPHYR_STORAGE_ENDPOINT", value_parser = endpoint)]
    pub storage_endpoint: Option<Endpoint>,
    /// Region of the S3 store.
    #[arg(long, env = "ZEPHYR_STORAGE_REGION")]
    pub storage_region: Option<String>,
    /// Allow an endpoint without TLS.
    #[arg(long, env = "ZEPHYR_STORAGE_ALLOW_HTTP", default_value_t = false, action = clap::ArgAction::Set)]
    pub storage_allow_http: bool,
    /// File with at least 32 random bytes, from which the tokens of all generations are derived.
    #[arg(long, env = "ZEPHYR_SIGNING_KEY_FILE")]
    pub signing_key_file: PathBuf,
    /// Address at which `/healthz`, `/readyz` and `/metrics` are served.
    #[arg(long, env = "ZEPHYR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Provider of the cluster's preemptible nodes, which coordinators avoid: gke, eks, aks,
    /// karpenter or none.
    #[arg(long, env = "ZEPHYR_PREEMPTIBLE_PROVIDER", default_value = "none", value_parser = spot_provider)]
    pub preemptible_provider: SpotProvider,
    /// Domain of the cluster's DNS, such as cluster.local, if short service names do not resolve.
    #[arg(long, env = "ZEPHYR_CLUSTER_DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Delete pods by force if a lost node keeps them Terminating. If this is off, another
    /// mechanism (an out-of-service taint) must do it.
    #[arg(long, env = "ZEPHYR_FORCE_DELETE_PODS", default_value_t = true, action = clap::ArgAction::Set)]
    pub force_delete_pods: bool,
    /// Jobs that may start at once, 1 to 10000; the others wait for their turn. A job has started
    /// when a worker of it is alive.
    #[arg(long, env = "ZEPHYR_MAX_STARTING_JOBS", default_value_t = MAX_STARTING_JOBS, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub max_starting_jobs: u16,
    /// The only namespace whose jobs are run; default: all namespaces.
    #[arg(long, env = "ZEPHYR_NAMESPACE")]
    pub namespace: Option<String>,
}

/// The endpoint. It is empty if the environment variable is set but empty, which is how charts
/// leave it unset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Config {
    /// Returns the settings that this installation adds to every job. Empty values count as absent,
    /// because charts set unused variables to the empty string.
    pub fn installation(&self) -> Installation {
        let endpoint = self
            .storage_endpoint
            .as_ref()
            .map(|endpoint| endpoint.0.clone());
        let options = [
            ("aws_endpoint", present(endpoint)),
            ("aws_region", present(self.storage_region.clone())),
            (
                "aws_allow_http",
                self.storage_allow_http.then(|| "true".to_owned()),
            ),
        ];
        let storage_options: BTreeMap<_, _> = options
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| (key.to_owned(), value)))
            .collect();
        Installation {
            worker_image: self.worker_image.clone(),
            storage_options,
            spot_provider: self.preemptible_provider,
            cluster_domain: present(self.cluster_domain.clone()),
            force_delete_pods: self.force_delete_pods,
        }
    }

    /// Returns how many jobs may start at the same time.
    pub fn max_starting_jobs(&self) -> usize {
        self.max_starting_jobs.into()
    }

    /// Returns the only namespace to watch, or `None` for all namespaces.
    pub fn only_namespace(&self) -> Option<&str> {
        self.namespace
            .as_deref()
            .filter(|namespace| !namespace.is_empty())
    }
}

fn present(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

fn not_empty(value: &str) -> Result<String, String> {
    if value.is_empty() {
        Err("must not be empty; name an image".to_owned())
    } else {
        Ok(value.to_owned())
    }
}

fn spot_provider(value: &str) -> Result<SpotProvider, String> {
    match value {
        "gke" => Ok(SpotProvider::Gke),
        "eks" => Ok(SpotProvider::Eks),
        "aks" => Ok(SpotProvider::Aks),
        "karpenter" => Ok(SpotProvider::Karpenter),
        "none" | "" => Ok(SpotProvider::None),
        _ => Err("is not a provider; gke, eks, aks, karpenter or none is allowed".to_owned()),
    }
}

fn endpoint(value: &str) -> Result<Endpoint, String> {
    let host = value
        .strip_prefix("https://")
        .or_else(|| value.strip_prefix("http://"));
    if value.is_empty() || host.is_some_and(|host| !host.is_empty() && !host.contains('@')) {
        Ok(Endpoint(value.to_owned()))
    } else {
        Err("is not an endpoint; an http or https URL without credentials is allowed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        let always = ["zephyr-operator", "--signing-key-file", "/key"];
        Config::try_parse_from(always.iter().chain(arguments))
    }

    #[test]
    fn storage_settings_become_the_keys_of_the_object_store_and_empty_ones_are_left_out() {
        let config = parse(&[
            "--worker-image",
            "w:1",
            "--storage-endpoint",
            "http://minio:9000",
            "--storage-region",
            "",
            "--storage-allow-http",
            "true",
        ])
        .unwrap();
        let options: Vec<_> = config.installation().storage_options.into_iter().collect();
        assert_eq!(
            options,
            [
                ("aws_allow_http", "true"),
                ("aws_endpoint", "http://minio:9000")
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
    }

    #[test]
    fn the_provider_of_preemptible_nodes_is_a_known_one_or_none() {
        let provider = |value: &str| {
            parse(&["--worker-image", "w:1", "--preemptible-provider", value])
                .map(|config| config.installation().spot_provider)
        };
        assert_eq!(provider("karpenter").unwrap(), SpotProvider::Karpenter);
        assert_eq!(provider("").unwrap(), SpotProvider::None);
        assert_eq!(
            parse(&["--worker-image", "w:1"])
                .unwrap()
                .preemptible_provider,
            SpotProvider::None
        );
        assert!(provider("custom").is_err() && provider("GKE").is_err());
    }

    #[test]
    fn an_empty_image_and_an_invalid_endpoint_are_refused() {
        assert!(parse(&["--worker-image", ""]).is_err());
        for bad in [
            "minio:9000",
            "ftp://minio",
            "http://",
            "http://user:secret@minio",
        ] {
            assert!(
                parse(&["--worker-image", "w:1", "--storage-endpoint", bad]).is_err(),
                "{bad}"
            );
        }
    }
}

//! Tests that the crates have only the allowed dependencies: which package may depend on which
//! other, at any depth. It uses `cargo metadata` and, if features matter, `cargo tree`.
//!
//! ARCHITECTURE.md lists these rules. If a dependency breaks a rule, a test here fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand};

/// Returns Cargo's data about the workspace and all of its dependencies.
fn metadata() -> Result<Metadata> {
    Ok(MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(vec!["--offline".to_owned(), "--locked".to_owned()])
        .exec()?)
}

/// Returns the names of all packages that a package links, at any depth, without those that only
/// tests and build scripts use.
fn reachable_from(package: &str) -> Result<BTreeSet<String>> {
    let metadata = metadata()?;
    let names: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|p| (&p.id, p.name.to_string()))
        .collect();
    let graph = metadata.resolve.as_ref().context("metadata has no graph")?;
    let nodes: BTreeMap<_, _> = graph.nodes.iter().map(|node| (&node.id, node)).collect();
    let members = metadata.workspace_packages();
    let start = members.iter().find(|p| p.name.as_str() == package);
    let mut seen = BTreeSet::new();
    let mut todo = vec![
        &start
            .with_context(|| format!("{package} is not in the workspace"))?
            .id,
    ];
    while let Some(id) = todo.pop() {
        for dependency in &nodes[id].deps {
            let linked = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal);
            if linked && seen.insert(names[&dependency.pkg].clone()) {
                todo.push(&dependency.pkg);
            }
        }
    }
    Ok(seen)
}

/// Returns the output of `cargo tree` with these arguments, line by line.
fn cargo_tree(arguments: &[&str]) -> Result<BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--prefix", "none"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo tree {arguments:?}: {errors}"
    );
    let lines = String::from_utf8(output.stdout)?;
    Ok(lines
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect())
}

/// Returns the names of all packages that a package links when it is built alone. It then has only
/// the features that it requests, without those that other members of the workspace add.
fn linked_alone_by(package: &str) -> Result<BTreeSet<String>> {
    let lines = cargo_tree(&["-e", "normal", "-p", package])?;
    let names: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    ensure!(
        names.contains(package),
        "cargo tree -p {package} does not name it: {lines:?}"
    );
    Ok(names)
}

/// Fails with the names of all forbidden packages on which `package` depends.
fn check(package: &str, reached: &BTreeSet<String>, forbidden: &[&str]) -> Result<()> {
    let broken: Vec<_> = forbidden
        .iter()
        .filter(|name| reached.contains(**name))
        .collect();
    ensure!(
        broken.is_empty(),
        "{package} must not link {broken:?}: see the walls in ARCHITECTURE.md"
    );
    Ok(())
}

#[test]
fn the_engine_links_no_runtime_no_network_no_kubernetes_and_no_randomness() -> Result<()> {
    check(
        "zephyr-engine",
        &reachable_from("zephyr-engine")?,
        &[
            "tokio",
            "async-std",
            "futures",
            "tonic",
            "hyper",
            "reqwest",
            "kube",
            "kube-core",
            "k8s-openapi",
            "object_store",
            "rand",
            "getrandom",
            "uuid",
            "chrono",
            "tempfile",
            "tracing",
        ],
    )
}

/// Our packages, each with our other packages that it may name in `[dependencies]`. A package comes
/// after those on which it depends. Only `zephyr-tests` may name any package.
const FLOORS: [(&str, &[&str]); 9] = [
    ("zephyr-docs", &[]),
    ("zephyr-jq", &[]),
    ("zephyr-crds", &[]),
    ("zephyr-engine", &["zephyr-jq"]),
    ("zephyr-proto", &[]),
    ("zephyr-store", &["zephyr-crds", "zephyr-engine"]),
    (
        "zephyr-worker",
        &[
            "zephyr-crds",
            "zephyr-engine",
            "zephyr-proto",
            "zephyr-store",
        ],
    ),
    (
        "kubectl-zephyr",
        &[
            "zephyr-crds",
            "zephyr-engine",
            "zephyr-jq",
            "zephyr-proto",
            "zephyr-store",
            "zephyr-worker",
        ],
    ),
    ("zephyr-operator", &["zephyr-crds", "zephyr-proto"]),
];

#[test]
fn dependencies_between_our_packages_point_one_way() -> Result<()> {
    let metadata = metadata()?;
    let ours: BTreeMap<_, _> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (package.name.to_string(), package))
        .collect();
    let floors = FLOORS.iter().map(|(name, _)| (*name).to_owned());
    let known: BTreeSet<String> = floors.chain(["zephyr-tests".to_owned()]).collect();
    ensure!(
        ours.keys().eq(&known),
        "the workspace has other packages than FLOORS: {:?}",
        ours.keys()
    );
    for (name, allowed) in FLOORS {
        let linked: BTreeSet<&str> = ours[name]
            .dependencies
            .iter()
            .filter(|dependency| ours.contains_key(&dependency.name))
            .map(|dependency| dependency.name.as_str())
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        ensure!(
            linked == allowed,
            "{name} names {linked:?} of our packages, and FLOORS says {allowed:?}: see the walls in ARCHITECTURE.md"
        );
    }
    Ok(())
}

#[test]
fn the_operator_links_no_object_store_and_no_expressions() -> Result<()> {
    check(
        "zephyr-operator",
        &reachable_from("zephyr-operator")?,
        &[
            "zephyr-engine",
            "zephyr-jq",
            "zephyr-worker",
            "object_store",
        ],
    )
}

#[test]
fn the_types_of_the_api_link_no_runtime() -> Result<()> {
    check("zephyr-crds", &linked_alone_by("zephyr-crds")?, &["tokio"])
}

#[test]
fn the_store_links_no_sessions_and_no_kubernetes_client() -> Result<()> {
    check(
        "zephyr-store",
        &linked_alone_by("zephyr-store")?,
        &["tonic", "prost", "axum", "kube-client", "kube-runtime"],
    )
}

#[test]
fn fault_4199_the_pods_of_a_job_link_no_kubernetes_client() -> Result<()> {
    check(
        "zephyr-worker",
        &linked_alone_by("zephyr-worker")?,
        &["kube-client", "kube-runtime", "zephyr-operator"],
    )
}

#[test]
fn make_try_compiles_no_kubernetes_client_and_kubectl_zephyr_has_one_by_default() -> Result<()> {
    let links_client = |arguments: &[&str]| {
        let lines = cargo_tree(&[&["-e", "normal", "-p", "kubectl-zephyr"], arguments].concat())?;
        Ok::<_, anyhow::Error>(lines.iter().any(|line| line.starts_with("kube-client ")))
    };
    ensure!(
        links_client(&[])?,
        "the default features lack the Kubernetes client"
    );
    ensure!(
        !links_client(&["--no-default-features"])?,
        "kubectl-zephyr without the feature `cluster` must not link the Kubernetes client: see cli/Cargo.toml"
    );
    Ok(())
}

#[test]
fn one_tls_provider_is_linked_which_needs_no_cmake() -> Result<()> {
    for package in ["zephyr-operator", "zephyr-worker", "kubectl-zephyr"] {
        check(
            package,
            &reachable_from(package)?,
            &["aws-lc-sys", "openssl-sys", "native-tls"],
        )?;
    }
    Ok(())
}

/// Checks that no feature is requested only by a dev-dependency. Otherwise `cargo test` would
/// compile the package with this feature again, and all packages that link it.
#[test]
fn tests_request_no_features_of_a_package_that_the_programs_do_not() -> Result<()> {
    let units = |edges| cargo_tree(&["--workspace", "-e", edges, "-f", "{p}|{f}"]);
    let (programs, tests) = (units("normal,build")?, units("normal,build,dev")?);
    let package = |unit: &String| unit.split('|').next().map(str::to_owned);
    let known: BTreeSet<_> = programs.iter().filter_map(package).collect();
    let twice: Vec<_> = tests
        .difference(&programs)
        .filter(|unit| package(unit).is_some_and(|package| known.contains(&package)))
        .collect();
    ensure!(
        twice.is_empty() && known.len() > 100,
        "these packages are compiled twice, because tests need other features of them: {twice:?}; request these features in tests/Cargo.toml"
    );
    Ok(())
}

/// Returns the names of all functions in the Rust files below `folder`.
fn functions_below(folder: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            functions_below(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let after_fn = text.split("fn ").skip(1);
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            names.extend(after_fn.map(|rest| rest.chars().take_while(|c| is_name(*c)).collect()));
        }
    }
    Ok(())
}

#[test]
fn the_tests_that_the_table_of_the_operators_faults_names_are_there() -> Result<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let page = std::fs::read_to_string(root.join("docs/internals/operator-faults.md"))?;
    let mut functions = BTreeSet::new();
    for folder in [
        "crds",
        "engine",
        "operator",
        "store",
        "tests",
        "worker-image",
    ] {
        functions_below(&root.join(folder), &mut functions)?;
    }
    let rows: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| F"))
        .collect();
    ensure!(rows.len() == 35, "{} rows", rows.len());
    for row in rows {
        let tests = row.rsplit('|').nth(1).context("a row has three cells")?;
        for name in tests.split('`').skip(1).step_by(2) {
            ensure!(functions.contains(name), "no test is called {name}: {row}");
        }
    }
    Ok(())
}

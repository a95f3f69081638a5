//! Checks the contents of the images that `make images` built last: each must contain one static
//! program and the certificate authorities that it trusts, but no shell, no file with special
//! rights and no root user.
//!
//! `make test` checks the images of the test profile, and `make release-check` the images of a
//! release. They run nothing in the images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How many bytes all files of a release image have at most. 24 MB were measured. If a program
/// grows by half, somebody should notice it.
const MAX_RELEASE_BYTES: u64 = 36_000_000;
/// The user and the group of the processes, as the chart and the pods set them.
const USER: &str = "65532:65532";

/// A file of an image, as `tar` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    /// Kind and rights, such as `-rwxr-xr-x`.
    rights: String,
    bytes: u64,
    path: String,
}

/// An image: the program that it starts, the user of that program, and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image {
    user: String,
    entrypoint: Vec<String>,
    files: Vec<File>,
}

/// Returns what is wrong with an image whose only program must be at `program`.
fn mistakes(image: &Image, program: &str, is_release: bool) -> Vec<String> {
    let mut mistakes = Vec::new();
    if image.user != USER {
        mistakes.push(format!("runs as {:?} and not as {USER}", image.user));
    }
    if image.entrypoint != [format!("/{program}")] {
        mistakes.push(format!("starts {:?} and not /{program}", image.entrypoint));
    }
    let certificates = "etc/ssl/certs/";
    for file in &image.files {
        if file.path != program && !file.path.starts_with(certificates) {
            mistakes.push(format!("has the file {}", file.path));
        }
        if !file.rights.starts_with('-') || file.rights.contains(['s', 'S', 't', 'T']) {
            mistakes.push(format!("{} has the rights {}", file.path, file.rights));
        }
    }
    for needed in [program, certificates] {
        if !image.files.iter().any(|file| file.path.starts_with(needed)) {
            mistakes.push(format!("lacks {needed}"));
        }
    }
    let bytes: u64 = image.files.iter().map(|file| file.bytes).sum();
    if is_release && bytes > MAX_RELEASE_BYTES {
        mistakes.push(format!("has {bytes} bytes, more than {MAX_RELEASE_BYTES}"));
    }
    mistakes
}

/// Returns the files in a list of `tar --list --verbose`, without folders.
fn files(listing: &str) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for line in listing.lines().filter(|line| !line.starts_with('d')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [rights, _owner, bytes, _day, _time, path, ..] = words[..] else {
            anyhow::bail!("tar lists a file in an unknown way (got {line:?})");
        };
        files.push(File {
            rights: rights.to_owned(),
            bytes: bytes.parse().with_context(|| format!("read {line:?}"))?,
            path: path.trim_start_matches("./").to_owned(),
        });
    }
    Ok(files)
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns the file into which `make images` writes the names of the images that it built.
fn names() -> Result<PathBuf> {
    let cache = match std::env::var_os("ZEPHYR_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?)
            .join(".cache/zephyr"),
    };
    Ok(cache.join("images"))
}

/// Unpacks the image and its layers into `folder`.
fn open(name: &str, folder: &Path) -> Result<Image> {
    let archive = folder.join("image.tar");
    let archive = archive.to_str().context("a path that is text")?;
    let inside = folder.to_str().context("a path that is text")?;
    let builder = fs::read_to_string(names()?.join("builder"))?;
    match builder.trim() {
        "buildah" => {
            let target = format!("docker-archive:{archive}");
            run("buildah", &["push", &format!("localhost/{name}"), &target])?
        }
        builder => run(builder, &["save", "--output", archive, name])?,
    };
    run(
        "tar",
        &["--extract", "--file", archive, "--directory", inside],
    )?;
    let read = |file: &str| -> Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(
            folder.join(file),
        )?)?)
    };
    let manifest = read("manifest.json")?;
    let manifest = manifest.get(0).context("the archive has no image")?;
    let config = read(
        manifest["Config"]
            .as_str()
            .context("the image has no config")?,
    )?;
    let config = &config["config"];
    let mut image = Image {
        user: config["User"].as_str().unwrap_or_default().to_owned(),
        entrypoint: serde_json::from_value(config["Entrypoint"].clone())?,
        files: Vec::new(),
    };
    fs::create_dir(folder.join("root"))?;
    let root = folder.join("root");
    let root = root.to_str().context("a path that is text")?;
    for layer in manifest["Layers"]
        .as_array()
        .context("the image has no layers")?
    {
        let layer = folder.join(layer.as_str().context("a layer's name")?);
        let layer = layer.to_str().context("a path that is text")?;
        image.files.extend(files(&run(
            "tar",
            &["--list", "--verbose", "--numeric-owner", "--file", layer],
        )?)?);
        run("tar", &["--extract", "--file", layer, "--directory", root])?;
    }
    Ok(image)
}

/// Returns whether the program is static. A program that needs shared libraries names a loader.
fn is_static(program: &Path) -> Result<bool> {
    let program = program.to_str().context("a path that is text")?;
    let segments = run("readelf", &["--program-headers", "--wide", program])?;
    ensure!(
        segments.contains("LOAD"),
        "{program} is not a program: {segments}"
    );
    Ok(!segments.contains("INTERP"))
}

#[test]
fn the_images_hold_one_static_program_and_certificates_and_start_without_root() -> Result<()> {
    for part in ["operator", "worker"] {
        let name = fs::read_to_string(names()?.join(format!("{part}.name")))
            .context("no image was built yet; build it with: make images")?;
        let name = name.trim();
        let folder = tempfile::tempdir()?;
        let image = open(name, folder.path())?;
        let program = format!("zephyr-{part}");
        let found = mistakes(&image, &program, name.contains(":release-"));
        ensure!(found.is_empty(), "{name}: {}", found.join("; "));
        ensure!(
            is_static(&folder.path().join("root").join(&program))?,
            "{name}: its program is not static"
        );
    }
    Ok(())
}

#[test]
fn forbidden_contents_of_an_image_are_found() {
    let file = |rights: &str, bytes, path: &str| File {
        rights: rights.to_owned(),
        bytes,
        path: path.to_owned(),
    };
    let good = Image {
        user: USER.to_owned(),
        entrypoint: vec!["/zephyr-worker".to_owned()],
        files: vec![
            file("-rwxr-xr-x", 20_000_000, "zephyr-worker"),
            file("-rw-r--r--", 200_000, "etc/ssl/certs/ca-certificates.crt"),
        ],
    };
    assert_eq!(mistakes(&good, "zephyr-worker", true), [] as [&str; 0]);
    let with = |extra: File| {
        let mut image = good.clone();
        image.files.push(extra);
        image
    };
    let root = Image {
        user: "0".to_owned(),
        ..good.clone()
    };
    let nothing = Image {
        files: Vec::new(),
        ..good.clone()
    };
    let shell = Image {
        entrypoint: vec!["/bin/sh".to_owned(), "-c".to_owned()],
        ..good.clone()
    };
    for (image, words) in [
        (with(file("-rwxr-xr-x", 1, "bin/sh")), "has the file bin/sh"),
        (
            with(file("lrwxrwxrwx", 0, "etc/ssl/certs/a")),
            "has the rights l",
        ),
        (
            with(file("-rwsr-xr-x", 1, "etc/ssl/certs/a")),
            "has the rights -rws",
        ),
        (
            with(file("-rw-r--r--", 20_000_000, "etc/ssl/certs/a")),
            "has 40200000 bytes",
        ),
        (root, "runs as \"0\""),
        (shell, "starts [\"/bin/sh\", \"-c\"]"),
        (nothing, "lacks zephyr-worker; lacks etc/ssl/certs/"),
    ] {
        let found = mistakes(&image, "zephyr-worker", true).join("; ");
        assert!(found.contains(words), "{words}: {found}");
    }
}

#[test]
fn the_list_of_tar_is_read_with_rights_sizes_and_paths() {
    let listing = "drwxr-xr-x 0/0               0 2026-11-27 10:00 etc/\n-rwsr-xr-x 0/0            1234 2026-11-27 10:00 ./bin/su\n";
    let expected = File {
        rights: "-rwsr-xr-x".to_owned(),
        bytes: 1234,
        path: "bin/su".to_owned(),
    };
    assert_eq!(files(listing).unwrap(), [expected]);
    assert!(files("garbage").is_err());
}

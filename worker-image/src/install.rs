//! Copies this program into a folder that a container of another image mounts. Starts nothing.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The name of the program in the folder.
const PROGRAM: &str = "zephyr-worker";
/// The file with the certificate authorities that this image trusts.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const AUTHORITIES_NAME: &str = "ca-certificates.crt";
/// Everybody may read and run the program.
const PROGRAM_MODE: u32 = 0o755;

/// Why the program cannot be copied.
#[derive(Debug, thiserror::Error)]
#[error("copy {from} to {to}: {source}")]
pub struct InstallError {
    /// The file.
    from: String,
    /// Its copy.
    to: String,
    /// Why.
    #[source]
    source: io::Error,
}

/// Copies this program, and the certificate authorities if this image has them.
pub fn install(folder: &Path) -> Result<(), InstallError> {
    install_from(Path::new("/proc/self/exe"), Path::new(AUTHORITIES), folder)
}

fn install_from(program: &Path, authorities: &Path, folder: &Path) -> Result<(), InstallError> {
    let copied = copy(program, &folder.join(PROGRAM))?;
    let runnable = fs::set_permissions(&copied, fs::Permissions::from_mode(PROGRAM_MODE));
    runnable.map_err(|source| failed(program, &copied, source))?;
    if authorities.exists() {
        copy(authorities, &folder.join(AUTHORITIES_NAME))?;
    }
    Ok(())
}

/// Copies under another name first, so that a copy that was interrupted is never used.
fn copy(from: &Path, to: &Path) -> Result<PathBuf, InstallError> {
    let unfinished = to.with_extension("part");
    fs::copy(from, &unfinished)
        .and_then(|_| fs::rename(&unfinished, to))
        .map_err(|source| failed(from, to, source))?;
    Ok(to.to_owned())
}

fn failed(from: &Path, to: &Path, source: io::Error) -> InstallError {
    InstallError {
        from: from.display().to_string(),
        to: to.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_can_be_run_by_everybody_and_a_second_one_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::write(&source, "program").unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o500)).unwrap();
        let target = folder.path().join("target");
        fs::create_dir(&target).unwrap();
        for _ in 0..2 {
            install_from(&source, &source, &target).unwrap();
            let copied = fs::metadata(target.join(PROGRAM)).unwrap();
            assert_eq!(copied.permissions().mode() & 0o777, PROGRAM_MODE);
        }
        assert_eq!(fs::read(target.join(AUTHORITIES_NAME)).unwrap(), b"program");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 2);
        let missing = install_from(&source, &source, &folder.path().join("none")).unwrap_err();
        assert!(missing.to_string().starts_with("copy "), "{missing}");
    }
}

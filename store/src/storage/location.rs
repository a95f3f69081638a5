//! Parses and prints the addresses of objects. This module opens nothing.
//!
//! An address is literal text: `%2F`, `?` and `#` are characters of a key like any other.

use std::fmt;
use std::path::PathBuf;

use object_store::path::Path;

/// The kind of store that an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Amazon S3 and other stores with its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage. A container counts as a bucket.
    Az,
    /// Local files.
    File,
}

impl Scheme {
    /// Returns the scheme as it is written in an address, without `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::File => "file",
        }
    }
}

/// The address of an object, or of a folder of objects. Displays as its uri.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    scheme: Scheme,
    bucket: String,
    path: Path,
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?}: {problem}; allowed are s3://bucket/key, gs://bucket/key, az://container/key and, for local runs, file:///path"
)]
pub struct LocationError {
    /// The text, cut to 256 characters.
    pub text: String,
    /// What is wrong with the text.
    pub problem: String,
}

/// How many bytes a key may have. This is the limit of S3 and of Google Cloud Storage.
const MAX_KEY_BYTES: usize = 1024;

/// How many bytes a local path may have. This is Linux's `PATH_MAX`.
const MAX_LOCAL_PATH_BYTES: usize = 4096;

impl Location {
    /// Parses an address with its scheme. `.` and `..` segments are refused. Empty segments are
    /// refused in a key, because `a//b` and `a/b` are different keys. On a local disk, several
    /// slashes count as one. A trailing slash makes no difference.
    pub fn parse(uri: &str) -> Result<Self, LocationError> {
        let refuse = |problem: &str| LocationError {
            text: uri.chars().take(256).collect(),
            problem: problem.to_owned(),
        };
        let (scheme, rest) = uri
            .split_once("://")
            .ok_or_else(|| refuse("has no scheme"))?;
        let scheme = match scheme {
            "s3" => Scheme::S3,
            "gs" => Scheme::Gs,
            "az" => Scheme::Az,
            "file" => Scheme::File,
            other => return Err(refuse(&format!("unknown scheme {other:?}"))),
        };
        let (bucket, key) = match scheme {
            Scheme::File if rest.starts_with('/') => ("", rest),
            Scheme::File => {
                return Err(refuse("a file address has an absolute path: file:///path"));
            }
            Scheme::S3 | Scheme::Gs | Scheme::Az => rest.split_once('/').unwrap_or((rest, "")),
        };
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$');
        if scheme != Scheme::File
            && (bucket.is_empty() || bucket.len() > 255 || !bucket.chars().all(harmless))
        {
            return Err(refuse(
                "the bucket's name is missing or has characters other than a-z, 0-9, '-', '_' and '.'",
            ));
        }
        let has_empty = key.starts_with('/') || key.contains("//");
        if scheme != Scheme::File && has_empty {
            return Err(refuse("has an empty segment (//)"));
        }
        let path = parse_path(key).map_err(|problem| refuse(&problem))?;
        let most = if scheme == Scheme::File {
            MAX_LOCAL_PATH_BYTES
        } else {
            MAX_KEY_BYTES
        };
        if path.as_ref().len() > most {
            return Err(refuse(&format!("the path is longer than {most} bytes")));
        }
        Ok(Self {
            scheme,
            bucket: bucket.to_owned(),
            path,
        })
    }

    /// Parses an address, or the path of a local file, which may be relative to the working
    /// directory.
    pub fn parse_local(text: &str) -> Result<Self, LocationError> {
        if text.contains("://") {
            return Self::parse(text);
        }
        let refuse = |problem: String| LocationError {
            text: text.chars().take(256).collect(),
            problem,
        };
        if text.is_empty() {
            return Err(refuse("is empty".to_owned()));
        }
        let absolute = std::path::absolute(text)
            .map_err(|e| refuse(format!("cannot be made an absolute path: {e}")))?;
        let absolute = absolute
            .to_str()
            .ok_or_else(|| refuse("is not UTF-8".to_owned()))?;
        Self::parse(&format!("file://{absolute}"))
    }

    /// Returns the address of something below this address.
    pub fn join(&self, relative: &str) -> Result<Self, LocationError> {
        let relative = relative.trim_start_matches('/');
        if self.path.as_ref().is_empty() {
            return Self::parse(&format!("{}/{relative}", self.store_key()));
        }
        Self::parse(&format!("{self}/{relative}"))
    }

    /// Returns the folder that contains the object. For the root it is the root itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        let path = self.path.parent().unwrap_or_default();
        Self {
            scheme: self.scheme,
            bucket: self.bucket.clone(),
            path,
        }
    }

    /// Whether this object is in the folder of another one, or in a folder below it.
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        let (folder, others) = (self.parent(), other.parent());
        self.store_key() == other.store_key() && folder.path().prefix_matches(others.path())
    }

    /// Returns the address of another object in the same store.
    #[must_use]
    pub fn with_path(&self, path: Path) -> Self {
        Self {
            scheme: self.scheme,
            bucket: self.bucket.clone(),
            path,
        }
    }

    /// Returns the kind of store.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the bucket or container. Empty for local files.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the object's path in its store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the last segment of the path.
    pub fn file_name(&self) -> &str {
        self.path.filename().unwrap_or_default()
    }

    /// Returns the path of a local file. `None` for any other address.
    pub fn local_path(&self) -> Option<PathBuf> {
        (self.scheme == Scheme::File).then(|| PathBuf::from("/").join(self.path.as_ref()))
    }

    /// Returns the part of the address that names the store, such as `s3://bucket`.
    pub fn store_key(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.bucket)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}/{}",
            self.scheme.as_str(),
            self.bucket,
            self.path
        )
    }
}

fn parse_path(key: &str) -> Result<Path, String> {
    let segments: Vec<&str> = key
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    Path::parse(segments.join("/"))
        .map_err(|_| "has a '.' or '..' segment or a control character".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_printed_as_it_was_read() {
        for uri in [
            "s3://bucket/a/b.jsonl",
            "gs://b/k",
            "az://c/k%2Fk?x=1#f",
            "file:///tmp/a b/é😀.txt",
            "s3://b/[x]{y,z}**",
        ] {
            assert_eq!(Location::parse(uri).unwrap().to_string(), uri);
        }
        for (uri, printed) in [
            ("s3://b/a/c/", "s3://b/a/c"),
            ("file:///a//c/", "file:///a/c"),
        ] {
            assert_eq!(Location::parse(uri).unwrap().to_string(), printed);
        }
        assert_eq!(Location::parse("s3://b").unwrap().to_string(), "s3://b/");
    }

    #[test]
    fn an_address_that_could_leave_its_folder_or_names_no_store_is_refused() {
        for uri in [
            "",
            "/tmp/x",
            "s3:/b/k",
            "http://h/p",
            "s3://",
            "s3:///k",
            "s3://b/../k",
            "s3://b/a/./k",
            "s3://b/a//k",
            "s3://b//k",
            "gs://b/k//",
            "s3://b/a\nb",
            "file://x/y",
            "s3://b*/k",
        ] {
            assert!(Location::parse(uri).is_err(), "{uri:?}");
        }
        let long = format!("s3://b/{}", "k".repeat(1025));
        assert!(
            Location::parse(&long)
                .unwrap_err()
                .to_string()
                .contains("longer than 1024 bytes")
        );
        assert!(Location::parse("s3://b/x").unwrap().join("../y").is_err());
        for (folder, expected) in [
            ("s3://b", "s3://b/k"),
            ("s3://b/x/", "s3://b/x/k"),
            ("file:///", "file:///k"),
        ] {
            let below = Location::parse(folder).unwrap().join("k").unwrap();
            assert_eq!(below.to_string(), expected);
        }
    }

    #[test]
    fn a_plain_path_is_a_local_file() {
        assert_eq!(
            Location::parse_local("/tmp//x").unwrap().to_string(),
            "file:///tmp/x"
        );
        assert!(
            Location::parse_local("x.txt")
                .unwrap()
                .to_string()
                .ends_with("/x.txt")
        );
        assert_eq!(
            Location::parse_local("s3://b/x").unwrap().to_string(),
            "s3://b/x"
        );
        assert!(Location::parse_local("").is_err());
    }
}

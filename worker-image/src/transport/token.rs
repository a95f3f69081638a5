//! Derives, sends and compares the bearer token of a generation. The token has no `Debug` and no
//! `Display`, and is never logged.

use std::fmt::Write as _;
use std::path::Path;

use ring::hmac;
use ring::rand::SystemRandom;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status};
use zephyr_engine::id::{Generation, JobUid};

/// The beginning of the signed text, so that a token for another purpose can never be valid here.
const CONTEXT: &str = "zephyr.dev/session/v1";
/// How many hexadecimal digits an HMAC-SHA256 has.
const TOKEN_LENGTH: usize = 64;
/// The header that carries the token.
const METADATA_KEY: &str = "authorization";
const SCHEME: &str = "Bearer ";

/// The secret that authorizes calls to both services of one generation's coordinator.
#[derive(Clone)]
pub struct Token(String);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("read token file {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The content is not a valid token. The content is not shown.
    #[error("token file {path}: not a token; it holds {TOKEN_LENGTH} lowercase hexadecimal digits")]
    NotAToken {
        /// The file.
        path: String,
    },
    /// The system has no random numbers.
    #[error("make a random token: the system gave no random numbers")]
    Random,
}

impl Token {
    /// Returns the token of a generation, as the operator derives it from its signing key.
    pub fn derive(signing_key: &[u8], job: &JobUid, generation: Generation) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, signing_key);
        let tag = hmac::sign(&key, format!("{CONTEXT}\n{job}\n{generation}").as_bytes());
        Self(hexadecimal(tag.as_ref()))
    }

    /// Returns a random token, for a run in one process tree.
    pub fn random() -> Result<Self, TokenError> {
        let bytes: ring::rand::Random<[u8; TOKEN_LENGTH / 2]> =
            ring::rand::generate(&SystemRandom::new()).map_err(|_| TokenError::Random)?;
        Ok(Self(hexadecimal(&bytes.expose())))
    }

    /// Reads the token from its mounted file.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let name = || path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| TokenError::Read {
            path: name(),
            source,
        })?;
        let text = text.trim_end_matches('\n');
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == TOKEN_LENGTH && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TokenError::NotAToken { path: name() })
        }
    }

    /// Returns the metadata value that contains the token.
    pub fn to_metadata(&self) -> MetadataValue<Ascii> {
        let mut value = MetadataValue::try_from(format!("{SCHEME}{}", self.0))
            .unwrap_or_else(|_| MetadataValue::from_static("unreachable: a token is hexadecimal"));
        value.set_sensitive(true);
        value
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// Accepts only calls with the right token, whatever their path is.
#[derive(Clone)]
pub struct TokenCheck {
    key: hmac::Key,
    expected: hmac::Tag,
}

impl TokenCheck {
    /// Returns a check that compares with this token. Both tokens are signed with a key that exists
    /// only in this process, and the signatures are compared. So the time of the comparison does
    /// not reveal where the tokens differ.
    pub fn new(token: &Token) -> Result<Self, TokenError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| TokenError::Random)?;
        let expected = hmac::sign(&key, token.0.as_bytes());
        Ok(Self { key, expected })
    }

    /// Accepts a call only if the right token is in the right header. Every other call is refused
    /// with the same message.
    pub fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut presented = request.metadata().get_all(METADATA_KEY).iter();
        let (Some(first), None) = (presented.next(), presented.next()) else {
            return Err(refusal());
        };
        let token = first
            .as_bytes()
            .strip_prefix(SCHEME.as_bytes())
            .ok_or_else(refusal)?;
        hmac::verify(&self.key, token, self.expected.as_ref()).map_err(|_| refusal())?;
        Ok(request)
    }
}

fn refusal() -> Status {
    Status::unauthenticated("authorization: not the bearer token of this job's generation")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobUid {
        JobUid::parse("0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7").unwrap()
    }

    fn with(values: &[&str]) -> Request<()> {
        let mut request = Request::new(());
        for value in values {
            request
                .metadata_mut()
                .append(METADATA_KEY, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn the_token_is_the_documented_signature() {
        // printf 'zephyr.dev/session/v1\n<uid>\n1' | openssl dgst -sha256 -hmac key
        let token = Token::derive(b"key", &job(), Generation(1));
        assert_eq!(
            token.0,
            "42086674b3a7ede3007136f67c75cfd837841a4ac30f6ed863685ab8d0510e12"
        );
    }

    #[test]
    fn only_the_right_token_in_the_right_place_is_accepted() {
        let token = Token::derive(b"key", &job(), Generation(2));
        let right = format!("Bearer {}", token.0);
        let check = TokenCheck::new(&token).unwrap();
        assert!(check.check(with(&[&right])).is_ok());
        let other_job = Token::derive(b"key", &JobUid::parse("other").unwrap(), Generation(2));
        let old_generation = Token::derive(b"key", &job(), Generation(1));
        let wrong: [&[&str]; 9] = [
            &[],
            &[""],
            &["Bearer "],
            &[&token.0],
            &[&format!("bearer {}", token.0)],
            &[&format!("{right}0")],
            &[&right, &right],
            &[&format!("Bearer {}", other_job.0)],
            &[&format!("Bearer {}", old_generation.0)],
        ];
        for values in wrong {
            let status = check.check(with(values)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{values:?}");
        }
    }

    #[test]
    fn a_file_that_holds_no_token_is_refused_without_showing_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for text in [
            "",
            "secret",
            &"g".repeat(64),
            &"A".repeat(64),
            &"a".repeat(65),
        ] {
            std::fs::write(&path, text).unwrap();
            let Err(error) = Token::read(&path) else {
                panic!("{text:?} was taken")
            };
            assert!(error.to_string().contains("not a token"), "{error}");
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
        std::fs::write(&path, "a".repeat(64) + "\n").unwrap();
        assert!(Token::read(&path).is_ok());
        assert!(Token::random().is_ok());
    }
}

//! Derives the bearer token of a generation from the operator's signing key. The operator never
//! reads a token from the cluster.

use std::fmt;

use ring::hmac;

/// The purpose of the token, and the version of its derivation. It is a part of the signed text.
const CONTEXT: &str = "zephyr.dev/session/v1";
/// How many bytes a signing key has at least: as many as the output of the hash. A shorter key
/// would make tokens easier to guess.
pub const MIN_KEY_BYTES: usize = 32;

/// The operator's signing key.
pub struct SigningKey(hmac::Key);

/// A bearer token. It is never shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why a signing key is refused.
#[derive(Debug, thiserror::Error)]
#[error("the signing key has {bytes} bytes; at least {MIN_KEY_BYTES} random ones are needed")]
pub struct KeyTooShort {
    /// How many bytes it has.
    pub bytes: usize,
}

impl SigningKey {
    /// Makes a key of at least [`MIN_KEY_BYTES`] random bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyTooShort> {
        if bytes.len() < MIN_KEY_BYTES {
            return Err(KeyTooShort { bytes: bytes.len() });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// Returns the token of one generation of the job with this uid.
    pub fn token(&self, job_uid: &str, generation: u32) -> Token {
        let tag = hmac::sign(
            &self.0,
            format!("{CONTEXT}\n{job_uid}\n{generation}").as_bytes(),
        );
        let digits = tag
            .as_ref()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 0x0f]);
        Token(
            digits
                .filter_map(|digit| char::from_digit(digit.into(), 16))
                .collect(),
        )
    }
}

impl Token {
    /// Returns the text that the generation's Secret contains.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the value of the header `authorization`.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_the_hmac_of_context_uid_and_generation_in_lowercase_hex() {
        let key = SigningKey::new(&[b'k'; 32]).unwrap();
        // printf 'zephyr.dev/session/v1\nuid-1\n2' |
        //   openssl dgst -sha256 -hmac kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk
        assert_eq!(key.token("uid-1", 2).expose(), EXPECTED);
        assert_eq!(format!("{:?}", key.token("uid-1", 2)), "Token");
    }

    #[test]
    fn tokens_of_other_jobs_and_generations_differ() {
        let key = SigningKey::new(&[b'k'; 32]).unwrap();
        assert_ne!(key.token("uid-1", 2), key.token("uid-1", 3));
        assert_ne!(key.token("uid-1", 2), key.token("uid-2", 2));
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(SigningKey::new(&[b'k'; 31]).is_err());
    }

    const EXPECTED: &str = "0a2f948e5e7546c79eefec4b4cc3463e05215e9fc56bd437962e7f5962b3e7c1";
}

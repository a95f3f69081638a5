//! Reads and writes the bytes of a shuffle entry's payload, which are numbers and byte strings in
//! order. Each operator defines their meaning. A length that was read is always checked before it
//! is used.

use crate::expr::ValueError;

/// Why a group's state cannot be read, cannot accept a value, or has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StateError {
    /// No operator of this program wrote these bytes.
    #[error("{0}")]
    Damaged(&'static str),
    /// The values of the records are the cause.
    #[error("{0}")]
    Refused(String),
}

impl From<ValueError> for StateError {
    fn from(error: ValueError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Appends a number, seven bits a byte, low bits first.
pub(crate) fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Appends the length of a byte string, and the string.
pub(crate) fn push_bytes(bytes: &mut Vec<u8>, string: &[u8]) {
    push_number(bytes, string.len() as u64);
    bytes.extend_from_slice(string);
}

/// Reads a payload from its front.
pub(crate) struct PayloadReader<'a> {
    rest: &'a [u8],
}

impl<'a> PayloadReader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(crate) fn number(&mut self) -> Result<u64, StateError> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self
                .rest
                .split_first()
                .ok_or(StateError::Damaged("a number is cut off"))?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte can contribute only one more bit.
            if (bits << shift) >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(StateError::Damaged("a number is longer than 64 bits"))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(StateError::Damaged("a byte string is cut off"))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, StateError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| StateError::Damaged("a text is not UTF-8"))
    }

    /// Fails if bytes are left over.
    pub(crate) fn end(self) -> Result<(), StateError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(StateError::Damaged("bytes are left over"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_longer_than_64_bits_is_damage() {
        for bytes in [
            &[0xff_u8; 11][..],
            &[0x80; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert!(PayloadReader::new(bytes).number().is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn pushed_parts_are_read_back(number: u64, string: Vec<u8>, text: String) {
            let mut bytes = Vec::new();
            push_number(&mut bytes, number);
            push_bytes(&mut bytes, &string);
            push_bytes(&mut bytes, text.as_bytes());
            let mut reader = PayloadReader::new(&bytes);
            prop_assert_eq!(reader.number(), Ok(number));
            prop_assert_eq!(reader.bytes(), Ok(string.as_slice()));
            prop_assert_eq!(reader.text(), Ok(text.as_str()));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut reader = PayloadReader::new(&bytes);
            while reader.bytes().is_ok_and(|string| !string.is_empty()) {}
            let _ = PayloadReader::new(&bytes).text();
        }
    }
}

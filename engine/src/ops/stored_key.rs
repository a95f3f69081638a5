//! The bytes of a key in the buffer of the map side. A short key needs no allocation, and a
//! comparison with it follows no pointer.

use crate::ops::keyed::ALLOCATION_BYTES;

/// The longest key that is stored in place. A `StoredKey` has this space in any case, because a
/// long key needs a pointer, a length and a tag.
const MAX_SHORT: usize = 22;

/// The bytes of a key.
pub(crate) enum StoredKey {
    Short { length: u8, bytes: [u8; MAX_SHORT] },
    Long(Box<[u8]>),
}

impl StoredKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut bytes = [0; MAX_SHORT];
        match (u8::try_from(key.len()), bytes.get_mut(..key.len())) {
            (Ok(length), Some(place)) => {
                place.copy_from_slice(key);
                Self::Short { length, bytes }
            }
            _ => Self::Long(key.into()),
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }

    /// The bytes, which are copied if they are short.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Short { length, bytes } => bytes[..usize::from(length)].to_vec(),
            Self::Long(bytes) => bytes.into_vec(),
        }
    }

    /// Bytes on the heap, with the allocator's overhead.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len() + ALLOCATION_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_are_kept() {
        for length in 0..100 {
            let key: Vec<u8> = (0..length).collect();
            let stored = StoredKey::new(&key);
            assert_eq!(stored.as_bytes(), key);
            assert_eq!(stored.memory_bytes() == 0, key.len() <= MAX_SHORT);
            assert_eq!(stored.into_bytes(), key);
        }
        assert_eq!(size_of::<StoredKey>(), 24);
    }
}

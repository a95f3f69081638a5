//! Reads any bytes as a record. Checks that they are accepted exactly if serde_json accepts them,
//! and with the same meaning. Only the allowed depth differs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use zephyr_engine::record::{Record, RecordProblem};

fuzz_target!(|bytes: &[u8]| {
    match Record::parse(bytes) {
        Ok(record) => {
            assert!(serde_json::from_slice::<Box<RawValue>>(bytes).is_ok());
            assert_eq!(Record::parse(record.as_json()).as_ref(), Ok(&record));
            let _ = record.key();
            if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
                assert_eq!(
                    serde_json::from_slice::<Value>(record.as_json())
                        .ok()
                        .as_ref(),
                    Some(&value)
                );
                assert_eq!(record.as_string().as_deref(), value.as_str());
            }
        }
        Err(error) => {
            assert!(error.offset <= bytes.len());
            let too_deep = matches!(error.problem, RecordProblem::TooDeep { .. });
            assert!(too_deep || serde_json::from_slice::<Value>(bytes).is_err());
        }
    }
});

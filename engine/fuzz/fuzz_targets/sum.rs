//! Decodes any bytes as a sum, and adds any numbers to a sum. Checks that nothing panics, that
//! encoding is the inverse of decoding, and that the order of the numbers does not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zephyr_engine::record::Record;
use zephyr_engine::sum::ExactSum;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(sum) = ExactSum::decode(bytes) {
        let _ = sum.average();
        let _ = sum.total();
        assert_eq!(ExactSum::decode(&sum.encode()).as_ref(), Ok(&sum));
    }
    let mut sum = ExactSum::new();
    let mut reversed = ExactSum::new();
    let numbers: Vec<&str> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    let is_number = |line: &&&str| {
        Record::parse(line.as_bytes()).is_ok_and(|record| record.type_name() == "number")
    };
    let numbers: Vec<&str> = numbers
        .iter()
        .filter(is_number)
        .map(|line| line.trim())
        .collect();
    for number in &numbers {
        let _ = sum.add(number);
    }
    for number in numbers.iter().rev() {
        let _ = reversed.add(number);
    }
    assert_eq!(sum, reversed);
    assert_eq!(sum.total(), reversed.total());
    assert_eq!(sum.average(), reversed.average());
});

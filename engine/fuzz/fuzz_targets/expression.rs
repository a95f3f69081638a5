//! Compiles any text as an expression. Checks that it compiles, or that the error contains a
//! position in the text. Expressions are not evaluated, because evaluation may never end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zephyr_engine::expr::Expression;

/// Keeps the nesting of the text within the stack of the fuzzer's thread.
const MAX_BYTES: usize = 512;

fuzz_target!(|source: &str| {
    if source.len() > MAX_BYTES {
        return;
    }
    if let Err(error) = Expression::compile(source) {
        assert!(error.line >= 1 && error.line <= source.matches('\n').count() + 1);
        assert!(error.column >= 1 && error.column <= source.chars().count() + 1);
        assert!(!error.message.is_empty());
    }
});

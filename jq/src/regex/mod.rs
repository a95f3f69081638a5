//! Regular expressions in the syntax of jq (Oniguruma, `Perl_NT`). Knows no values.

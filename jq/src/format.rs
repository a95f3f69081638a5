//! The formats of jq (`@csv`, `@uri`, `@base64`) for one string each. Knows no values.

//! Validates the amounts of CPU, memory and scratch space.

use crate::field_error::FieldError;
use crate::quantity::Quantity;
use crate::resources::{MINIMUM_MEMORY_MEBIBYTES, ResourceAmounts, ResourcesSpec, Role};

pub(super) fn validate(path: &str, resources: &ResourcesSpec, role: Role) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (side, amounts) in [
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ] {
        if let Some(amounts) = amounts {
            errors.extend(each_amount(&format!("{path}.{side}"), amounts));
        }
    }
    if errors.is_empty() {
        let effective = resources.effective(role);
        errors.extend(requests_within_limits(
            path,
            &effective.requests,
            &effective.limits,
        ));
    }
    errors
}

fn each_amount(path: &str, amounts: &ResourceAmounts) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, written) in amounts.entries() {
        let path = format!("{path}.{name}");
        match written.parse() {
            Err(error) => {
                let allowed = "a number with a suffix such as m, k, M, G, Ki, Mi, Gi";
                errors.push(
                    FieldError::new(path, format!("is not a quantity: {error}"), allowed)
                        .got(written.as_str()),
                );
            }
            Ok(amount) if !amount.is_positive() => {
                errors.push(
                    FieldError::new(path, "is not positive", "must be > 0").got(written.as_str()),
                );
            }
            Ok(amount)
                if name == "memory" && amount < Quantity::mebibytes(MINIMUM_MEMORY_MEBIBYTES) =>
            {
                let allowed = format!("minimum {MINIMUM_MEMORY_MEBIBYTES}Mi");
                errors.push(
                    FieldError::new(path, "is too little memory", allowed).got(written.as_str()),
                );
            }
            Ok(_) => {}
        }
    }
    errors
}

fn requests_within_limits(
    path: &str,
    requests: &ResourceAmounts,
    limits: &ResourceAmounts,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for ((name, request), limit) in requests.entries().filter_map(|(name, request)| {
        let limit = limits.entries().find(|(other, _)| *other == name)?.1;
        Some(((name, request), limit))
    }) {
        let is_greater =
            matches!((request.parse(), limit.parse()), (Ok(request), Ok(limit)) if request > limit);
        if is_greater {
            let path = format!("{path}.requests.{name}");
            errors.push(
                FieldError::new(
                    path,
                    "is greater than the limit",
                    "requests must be <= limits",
                )
                .got(request.as_str()),
            );
        }
    }
    errors
}

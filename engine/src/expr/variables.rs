//! Holds the variables of expressions, which are named values and tables. Each variable is read
//! once, and all expressions that name it share it.

use std::collections::BTreeMap;
use std::sync::Arc;

use zephyr_jq::json::{JsonError, Node, Source};

use super::error::CompileError;
use crate::pipeline::Values;
use crate::record::Limits;

/// The variables of expressions, by name.
#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, Arc<Source<'static>>>);

impl Variables {
    /// Reads named values.
    ///
    /// # Errors
    /// The first one that is not JSON.
    pub fn of(values: &Values) -> Result<Self, CompileError> {
        let mut variables = Self::default();
        for (name, text) in values {
            variables
                .insert(name, text.clone())
                .map_err(|error| CompileError::of_value(name, &error))?;
        }
        Ok(variables)
    }

    /// Adds a variable; `text` is its value as JSON. Returns the bytes that it takes in memory.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn insert(&mut self, name: &str, text: String) -> Result<usize, JsonError> {
        let source = Source::parse(text, Limits::WIDEST.of_scan())?;
        let bytes = source.text().len() + std::mem::size_of_val::<[Node]>(source.nodes());
        self.0.insert(name.to_owned(), Arc::new(source));
        Ok(bytes)
    }

    /// The names in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// The values in the order of their names.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Arc<Source<'static>>> {
        self.0.values()
    }
}

//! The compiler: resolves names, folds constants, and expands short filters. A name is looked up in
//! the program first, then in `builtins`, then in the prelude.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other kinds have the same answer"
)]

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{self, Expression, Operator};
use crate::builtins::format::Format;
use crate::builtins::{Builtin, NAMES, Special, find, matches, prelude};
use crate::eval::flow::Output;
use crate::eval::operate::operate;
use crate::json::source::Source;
use crate::json::tape::{ScanLimits, scan};
use crate::program::{
    Constant, Ending, Function, Kind, MemberPattern, NOWHERE, Node, Parameter, Part, Pattern,
    Patterns,
};
use crate::value::{Type, Value};
use crate::{CompileError, forbidden, math, stack};

mod marks;
mod suggest;

/// How many bytes the value of a folded expression may have. With this limit, a constant does not
/// make a program large.
const MAX_FOLDED_BYTES: usize = 64 << 10;

/// Compiles a program. Returns its root and its functions.
pub(crate) fn program(
    text: &str,
    tree: &Expression,
    globals: &[String],
) -> Result<(Node, Vec<Function>), CompileError> {
    let mut compiler = Compiler {
        text: Some(text),
        globals,
        functions: Vec::new(),
        library: BTreeMap::new(),
        scope: Vec::new(),
        depth: 0,
        attempts: 0,
        has_alternatives: false,
    };
    let mut root = compiler.expression(tree)?;
    // No function is missing, because all were compiled.
    let mut functions: Vec<Function> = compiler.functions.into_iter().flatten().collect();
    marks::set(&mut root, &mut functions, compiler.has_alternatives);
    Ok((root, functions))
}

struct Compiler<'t> {
    /// The text of the program. `None` while the prelude is compiled, which has no errors.
    text: Option<&'t str>,
    globals: &'t [String],
    /// The functions so far. A function is `None` while it is being compiled.
    functions: Vec<Option<Function>>,
    /// The functions of the prelude that were compiled: the index of each one by name and arity.
    library: BTreeMap<(String, usize), usize>,
    scope: Vec<Name>,
    /// How many links the environment has at this point.
    depth: usize,
    /// How many `try` forms are around this point.
    attempts: usize,
    /// Whether a pattern has alternatives.
    has_alternatives: bool,
}

/// A visible name, with the number of links that the environment had when the name was bound.
enum Name {
    Variable(String, usize),
    Filter(String, usize),
    Label(String, usize),
    Function {
        name: String,
        arity: usize,
        function: usize,
        depth: usize,
    },
}

type Compiled = Result<Node, CompileError>;

impl Compiler<'_> {
    fn expression(&mut self, expression: &Expression) -> Compiled {
        let mut node = self.part(expression)?;
        if self.text.is_some() {
            node.at = expression.at;
        }
        Ok(node)
    }

    fn part(&mut self, expression: &Expression) -> Compiled {
        if !stack::has_room() {
            return Err(self.error(expression.at, "the expression nests too deep".to_owned()));
        }
        let kind = match &expression.kind {
            ast::Kind::Identity => Kind::Identity,
            ast::Kind::Recurse => Kind::Special(Special::Recurse, Vec::new()),
            ast::Kind::Null => Kind::Constant(Constant::Null),
            ast::Kind::Boolean(boolean) => Kind::Constant(Constant::Boolean(*boolean)),
            ast::Kind::Number(text) => Kind::Constant(number(text)),
            ast::Kind::String { format, parts } => {
                self.string(expression.at, format.as_deref(), parts)?
            }
            ast::Kind::Format(name) => {
                let name = constant(Constant::String(name.clone()));
                self.builtin("format", vec![name], expression.at)?
            }
            ast::Kind::Index {
                base,
                key,
                optional,
            } => self.index(base, key, *optional)?,
            ast::Kind::Slice {
                base,
                from,
                to,
                optional,
            } => Kind::Slice {
                base: self.boxed(base)?,
                from: self.maybe(from.as_deref())?,
                to: self.maybe(to.as_deref())?,
                optional: *optional,
            },
            ast::Kind::Each { base, optional } => Kind::Each {
                base: self.base(base)?,
                optional: *optional,
            },
            ast::Kind::Try { body, handler } => {
                self.attempts += 1;
                let body = self.boxed(body);
                self.attempts -= 1;
                Kind::Try {
                    body: body?,
                    handler: self.maybe(handler.as_deref())?,
                }
            }
            ast::Kind::Negate(inner) => self.negate(inner)?,
            ast::Kind::Array(inner) => {
                let inner = self.maybe(inner.as_deref())?;
                folded_array(inner.as_deref()).unwrap_or(Kind::Array(inner))
            }
            ast::Kind::Object(members) => self.object(members)?,
            ast::Kind::If {
                condition,
                then,
                otherwise,
            } => Kind::If {
                condition: self.boxed(condition)?,
                then: self.boxed(then)?,
                otherwise: self.maybe(otherwise.as_deref())?,
            },
            ast::Kind::Label(name, body) => self.label(name, body)?,
            ast::Kind::Break(name) => self.break_to(name, expression.at)?,
            ast::Kind::Variable(name) => self.variable(name, expression.at)?,
            ast::Kind::Location(line) => {
                let place = format!(r#"{{"file":"<top-level>","line":{line}}}"#);
                Kind::Constant(json(place).unwrap_or(Constant::Null))
            }
            ast::Kind::Call { name, arguments } => {
                return self.call(name, arguments, expression.at);
            }
            ast::Kind::Define(definition, body) => {
                let from = self.scope.len();
                self.define(definition)?;
                let body = self.expression(body);
                self.scope.truncate(from);
                return body;
            }
            _ => self.joined(expression)?,
        };
        Ok(Node::new(kind))
    }

    fn label(&mut self, name: &str, body: &Expression) -> Result<Kind, CompileError> {
        self.scope.push(Name::Label(name.to_owned(), self.depth));
        self.depth += 1;
        let body = self.boxed(body);
        self.depth -= 1;
        self.scope.pop();
        body.map(Kind::Label)
    }

    fn break_to(&self, name: &str, at: usize) -> Result<Kind, CompileError> {
        let found = self.scope.iter().rev().find_map(|bound| match bound {
            Name::Label(label, depth) if label == name => Some(*depth),
            _ => None,
        });
        match found {
            Some(depth) => Ok(Kind::Break(self.depth - 1 - depth)),
            None => Err(self.error(at, format!("the label ${name} is not defined"))),
        }
    }

    /// Compiles forms of two expressions with an operator between them, and loops.
    fn joined(&mut self, expression: &Expression) -> Result<Kind, CompileError> {
        Ok(match &expression.kind {
            ast::Kind::Pipe(left, right) => Kind::Pipe(self.boxed(left)?, self.boxed(right)?),
            ast::Kind::Comma(left, right) => Kind::Comma(self.boxed(left)?, self.boxed(right)?),
            ast::Kind::Binary(operator, left, right) => {
                let (left, right) = (self.expression(left)?, self.expression(right)?);
                binary(*operator, left, right)
            }
            ast::Kind::And(left, right) => Kind::And(self.boxed(left)?, self.boxed(right)?),
            ast::Kind::Or(left, right) => Kind::Or(self.boxed(left)?, self.boxed(right)?),
            ast::Kind::Alternative(left, right) => {
                Kind::Alternative(self.boxed(left)?, self.boxed(right)?)
            }
            ast::Kind::Assign(left, right) => Kind::Assign(self.boxed(left)?, self.boxed(right)?),
            ast::Kind::Update(left, right) => Kind::Update(self.boxed(left)?, self.boxed(right)?),
            ast::Kind::UpdateWith(operator, left, right) => {
                Kind::UpdateWith(*operator, self.boxed(left)?, self.boxed(right)?)
            }
            ast::Kind::UpdateAlternative(left, right) => {
                Kind::UpdateAlternative(self.boxed(left)?, self.boxed(right)?)
            }
            _ => self.binding(expression)?,
        })
    }

    /// Compiles forms that bind values to variables.
    fn binding(&mut self, expression: &Expression) -> Result<Kind, CompileError> {
        Ok(match &expression.kind {
            ast::Kind::Reduce {
                source,
                patterns,
                start,
                update,
            } => {
                let (source, start) = (self.boxed(source)?, self.boxed(start)?);
                let (patterns, update) = self.bound(patterns, |compiler| compiler.boxed(update))?;
                Kind::Reduce {
                    source,
                    patterns,
                    start,
                    update,
                }
            }
            ast::Kind::Foreach {
                source,
                patterns,
                start,
                update,
                extract,
            } => {
                let (source, start) = (self.boxed(source)?, self.boxed(start)?);
                let (patterns, (update, extract)) = self.bound(patterns, |compiler| {
                    Ok((compiler.boxed(update)?, compiler.maybe(extract.as_deref())?))
                })?;
                Kind::Foreach {
                    source,
                    patterns,
                    start,
                    update,
                    extract,
                }
            }
            ast::Kind::Bind {
                source,
                patterns,
                body,
            } => {
                let source = self.boxed(source)?;
                let (patterns, body) = self.bound(patterns, |compiler| compiler.boxed(body))?;
                Kind::Bind {
                    source,
                    patterns,
                    body,
                }
            }
            _ => return Err(self.error(expression.at, "term is expected".to_owned())),
        })
    }

    fn boxed(&mut self, expression: &Expression) -> Result<Box<Node>, CompileError> {
        self.expression(expression).map(Box::new)
    }

    fn maybe(
        &mut self,
        expression: Option<&Expression>,
    ) -> Result<Option<Box<Node>>, CompileError> {
        expression
            .map(|expression| self.boxed(expression))
            .transpose()
    }

    /// Compiles the part before a field or bracket. `None` if that part is the input itself.
    fn base(&mut self, base: &Expression) -> Result<Option<Box<Node>>, CompileError> {
        if let ast::Kind::Identity = base.kind {
            return Ok(None);
        }
        self.boxed(base).map(Some)
    }

    fn error(&self, at: usize, message: String) -> CompileError {
        CompileError::at(self.text.unwrap_or_default(), at, message)
    }

    fn index(
        &mut self,
        base: &Expression,
        key: &Expression,
        optional: bool,
    ) -> Result<Kind, CompileError> {
        let key = self.expression(key)?;
        if let Kind::Constant(Constant::String(name)) = key.kind {
            return Ok(Kind::Field {
                base: self.base(base)?,
                name,
                optional,
            });
        }
        Ok(Kind::Index {
            base: self.boxed(base)?,
            key: Box::new(key),
            optional,
        })
    }

    fn negate(&mut self, inner: &Expression) -> Result<Kind, CompileError> {
        let inner = self.boxed(inner)?;
        let negated = inner.constant().and_then(|value| value.negated());
        Ok(negated
            .and_then(|value| fold(&value))
            .map_or_else(|| Kind::Negate(inner), Kind::Constant))
    }

    fn string(
        &mut self,
        at: usize,
        format: Option<&str>,
        parts: &[ast::Part],
    ) -> Result<Kind, CompileError> {
        if parts.is_empty() {
            return Ok(Kind::Constant(Constant::String(String::new())));
        }
        if let [ast::Part::Text(text)] = parts {
            return Ok(Kind::Constant(Constant::String(text.clone())));
        }
        let name = format.unwrap_or("text");
        let Some(format) = Format::find(name) else {
            return Err(self.error(at, format!("{name} is not a valid format")));
        };
        let parts = parts.iter().map(|part| match part {
            ast::Part::Text(text) => Ok(Part::Text(text.clone())),
            ast::Part::Code(code) => self.expression(code).map(Part::Code),
        });
        Ok(Kind::Text(format, parts.collect::<Result<_, _>>()?))
    }

    fn object(&mut self, members: &[(Expression, Expression)]) -> Result<Kind, CompileError> {
        let mut compiled = Vec::with_capacity(members.len());
        for (key, value) in members {
            compiled.push((self.key(key)?, self.expression(value)?));
        }
        Ok(folded_object(&compiled).unwrap_or(Kind::Object(compiled)))
    }

    /// Compiles a key of an object or of an object's pattern. A constant key must be a string.
    fn key(&mut self, key: &Expression) -> Compiled {
        let node = self.expression(key)?;
        if let Some(value) = node.constant()
            && value.kind() != Type::String
        {
            let message = format!("Cannot use {} as object key", value.shown(SHOWN_BYTES));
            return Err(self.error(key.at, message));
        }
        Ok(node)
    }

    fn variable(&self, name: &str, at: usize) -> Result<Kind, CompileError> {
        let found = self.scope.iter().rev().find_map(|bound| match bound {
            Name::Variable(variable, depth) if variable == name => Some(*depth),
            _ => None,
        });
        if let Some(depth) = found {
            return Ok(Kind::Variable(self.depth - 1 - depth));
        }
        if let Some(index) = self.globals.iter().position(|global| global == name) {
            return Ok(Kind::Global(index));
        }
        let written = format!("${name}");
        if forbidden::reason(&written).is_some() {
            return Err(CompileError::forbidden(
                self.text.unwrap_or_default(),
                at,
                &written,
            ));
        }
        let in_scope = self.scope.iter().filter_map(|bound| match bound {
            Name::Variable(variable, _) => Some(variable.as_str()),
            _ => None,
        });
        let defined = in_scope.chain(self.globals.iter().map(String::as_str));
        Err(self.error(at, suggest::variable(name, defined)))
    }

    fn call(&mut self, name: &str, arguments: &[Expression], at: usize) -> Compiled {
        let arity = arguments.len();
        let found = self.scope.iter().rev().find_map(|bound| match bound {
            Name::Filter(filter, depth) if filter == name && arity == 0 => Some((None, *depth)),
            Name::Function {
                name: function_name,
                arity: parameters,
                function,
                depth,
            } if function_name == name && *parameters == arity => Some((Some(*function), *depth)),
            _ => None,
        });
        match found {
            Some((None, depth)) => Ok(Node::new(Kind::Parameter(self.depth - 1 - depth))),
            Some((Some(function), depth)) => {
                let up = self.depth - depth;
                let arguments = self.arguments(arguments)?;
                Ok(Node::new(Kind::Call {
                    function,
                    up,
                    arguments,
                    is_recursive: self.functions[function].is_none(),
                }))
            }
            None => self.free_call(name, arguments, at),
        }
    }

    fn filter_not_defined(&self, name: &str, arity: usize) -> String {
        let defined = self.scope.iter().filter_map(|bound| match bound {
            Name::Filter(filter, _) => Some((filter.as_str(), 0)),
            Name::Function { name, arity, .. } => Some((name.as_str(), *arity)),
            _ => None,
        });
        suggest::filter(name, arity, defined)
    }

    fn arguments(&mut self, arguments: &[Expression]) -> Result<Vec<Node>, CompileError> {
        arguments
            .iter()
            .map(|argument| self.expression(argument))
            .collect()
    }

    /// Compiles a call of a filter that the program does not define.
    fn free_call(&mut self, name: &str, arguments: &[Expression], at: usize) -> Compiled {
        if self.text.is_some() && forbidden::reason(name).is_some() {
            return Err(CompileError::forbidden(
                self.text.unwrap_or_default(),
                at,
                name,
            ));
        }
        let arity = arguments.len();
        if find(name, arity).is_some() {
            let arguments = self.arguments(arguments)?;
            let mut node = Node::new(self.builtin(name, arguments, at)?);
            if let Some(definition) = prelude::followed(name, arity) {
                node.followed = Some(self.of_library(definition)?);
            }
            return Ok(node);
        }
        let Some(definition) = prelude::find(name, arity) else {
            return Err(self.error(at, self.filter_not_defined(name, arity)));
        };
        let function = self.of_library(definition)?;
        let up = self.depth;
        let arguments = self.arguments(arguments)?;
        Ok(Node::new(Kind::Call {
            function,
            up,
            arguments,
            is_recursive: self.functions[function].is_none(),
        }))
    }

    /// Returns the index of a function of the prelude, and compiles the function at its first call.
    fn of_library(&mut self, definition: &'static ast::Definition) -> Result<usize, CompileError> {
        let key = (definition.name.clone(), definition.parameters.len());
        if let Some(function) = self.library.get(&key) {
            return Ok(*function);
        }
        let function = self.functions.len();
        self.functions.push(None);
        self.library.insert(key, function);
        let scope = std::mem::take(&mut self.scope);
        let depth = std::mem::replace(&mut self.depth, 0);
        let text = self.text.take();
        let compiled = self.function(definition);
        self.text = text;
        self.scope = scope;
        self.depth = depth;
        self.functions[function] = Some(compiled?);
        Ok(function)
    }

    /// Makes a definition of the program visible in its own body and after it.
    fn define(&mut self, definition: &ast::Definition) -> Result<(), CompileError> {
        let function = self.functions.len();
        self.functions.push(None);
        self.scope.push(Name::Function {
            name: definition.name.clone(),
            arity: definition.parameters.len(),
            function,
            depth: self.depth,
        });
        let attempts = std::mem::replace(&mut self.attempts, 1);
        let compiled = self.function(definition);
        self.attempts = attempts;
        self.functions[function] = Some(compiled?);
        Ok(())
    }

    /// Compiles a definition. Its parameters are links of the environment, see [`Function`].
    fn function(&mut self, definition: &ast::Definition) -> Result<Function, CompileError> {
        let (names, depth) = (self.scope.len(), self.depth);
        let mut parameters = Vec::with_capacity(definition.parameters.len());
        for parameter in &definition.parameters {
            let is_filter = parameter.is_called || !parameter.is_value;
            if is_filter {
                self.scope
                    .push(Name::Filter(parameter.name.clone(), self.depth));
                self.depth += 1;
            }
            parameters.push(Parameter {
                is_filter,
                is_value: parameter.is_value,
            });
        }
        for parameter in &definition.parameters {
            if parameter.is_value {
                self.scope
                    .push(Name::Variable(parameter.name.clone(), self.depth));
                self.depth += 1;
            }
        }
        let body = self.expression(&definition.body);
        self.scope.truncate(names);
        self.depth = depth;
        Ok(Function {
            parameters,
            body: body?,
        })
    }

    /// Compiles a call of a built-in filter with its arguments.
    fn builtin(
        &mut self,
        name: &str,
        mut arguments: Vec<Node>,
        at: usize,
    ) -> Result<Kind, CompileError> {
        let each = || {
            Node::new(Kind::Each {
                base: None,
                optional: false,
            })
        };
        let identity = || Node::new(Kind::Identity);
        let Some(builtin) = find(name, arguments.len()) else {
            let arity = arguments.len();
            return Err(self.error(at, self.filter_not_defined(name, arity)));
        };
        if matches!(
            name,
            "test" | "match" | "capture" | "scan" | "split" | "splits" | "sub" | "gsub"
        ) {
            self.check_pattern(name, &arguments, at)?;
        }
        let argument = |arguments: &mut Vec<Node>| Box::new(arguments.remove(0));
        Ok(match builtin {
            Builtin::Native(native) => Kind::Native(native, arguments),
            Builtin::Each(native) => Kind::Each {
                base: Some(Box::new(Node::new(Kind::Native(native, arguments)))),
                optional: false,
            },
            Builtin::Special(special) => Kind::Special(special, arguments),
            Builtin::SpecialOfEach(special) => {
                arguments.insert(0, each());
                Kind::Special(special, arguments)
            }
            Builtin::SpecialOfEachItself(special) => {
                Kind::Special(special, vec![each(), identity()])
            }
            Builtin::RangeTo => {
                arguments.insert(0, constant(Constant::Integer(0)));
                Kind::Special(Special::Range, arguments)
            }
            Builtin::Element(position) => Kind::Index {
                base: Box::new(identity()),
                key: Box::new(constant(Constant::Integer(position))),
                optional: false,
            },
            Builtin::ElementAt => Kind::Index {
                base: Box::new(identity()),
                key: argument(&mut arguments),
                optional: false,
            },
            Builtin::Map => {
                let pipe = Kind::Pipe(Box::new(each()), argument(&mut arguments));
                Kind::Array(Some(Box::new(Node::new(pipe))))
            }
            Builtin::MapValues => Kind::Update(Box::new(each()), argument(&mut arguments)),
            Builtin::Boolean(boolean) => Kind::Constant(Constant::Boolean(boolean)),
            Builtin::Number(number) => Kind::Constant(Constant::Float(number)),
            Builtin::Names => Kind::Constant(names()),
        })
    }

    /// Compiles a constant regular expression, so that its error is reported before the program
    /// runs. Does nothing if the program could catch that error.
    fn check_pattern(&self, name: &str, arguments: &[Node], at: usize) -> Result<(), CompileError> {
        if self.attempts > 0 || (name == "split" && arguments.len() == 1) {
            return Ok(());
        }
        let (pattern, flags) = match (name, arguments) {
            ("sub" | "gsub", [pattern, _, flags]) => (pattern, Some(flags)),
            ("sub" | "gsub", [pattern, ..]) => (pattern, None),
            (_, [pattern, flags]) => (pattern, Some(flags)),
            (_, [pattern, ..]) => (pattern, None),
            (_, []) => return Ok(()),
        };
        let flags = match flags.map(Node::constant) {
            None | Some(Some(Value::Null)) => String::new(),
            Some(Some(Value::String(flags))) => flags.to_string(),
            Some(_) => return Ok(()),
        };
        let Some(Value::String(pattern)) = pattern.constant() else {
            return Ok(());
        };
        match matches::compiled(&pattern, &flags) {
            Ok(_) => Ok(()),
            Err(message) => Err(self.error(at, message)),
        }
    }

    /// Compiles patterns, and then compiles `part` with the variables of these patterns bound.
    fn bound<T>(
        &mut self,
        patterns: &[ast::Pattern],
        body: impl FnOnce(&mut Self) -> Result<T, CompileError>,
    ) -> Result<(Patterns, T), CompileError> {
        let (names, depth) = (self.scope.len(), self.depth);
        let mut own = Vec::new();
        let patterns = if let [pattern] = patterns {
            let pattern = self.pattern(pattern, &mut own)?;
            // The first binding of a name counts.
            for (name, depth) in own.into_iter().rev() {
                self.scope.push(Name::Variable(name, depth));
            }
            Patterns::One(pattern)
        } else {
            self.alternatives(patterns)?
        };
        let body = body(self);
        self.scope.truncate(names);
        self.depth = depth;
        Ok((patterns, body?))
    }

    /// Compiles several alternative patterns. The variables of all of them are bound in the body.
    fn alternatives(&mut self, patterns: &[ast::Pattern]) -> Result<Patterns, CompileError> {
        self.has_alternatives = true;
        let depth = self.depth;
        let mut compiled = Vec::with_capacity(patterns.len());
        let mut variables = BTreeSet::new();
        for pattern in patterns {
            let mut own = Vec::new();
            let pattern = self.pattern(pattern, &mut own)?;
            // The last binding of a name counts.
            let ups: BTreeMap<String, usize> = own
                .into_iter()
                .map(|(name, bound)| (name, self.depth - 1 - bound))
                .collect();
            self.depth = depth;
            variables.extend(ups.keys().cloned());
            compiled.push((pattern, ups));
        }
        let alternatives = compiled.into_iter().map(|(pattern, ups)| {
            let ups = variables.iter().map(|name| ups.get(name).copied());
            (pattern, ups.collect())
        });
        let alternatives = alternatives.collect();
        let count = variables.len();
        for name in variables {
            self.scope.push(Name::Variable(name, self.depth));
            self.depth += 1;
        }
        Ok(Patterns::Several {
            variables: count,
            alternatives,
        })
    }

    /// Compiles one pattern. Appends its variables with their links to `own`, in the order in which
    /// they are bound.
    fn pattern(
        &mut self,
        pattern: &ast::Pattern,
        own: &mut Vec<(String, usize)>,
    ) -> Result<Pattern, CompileError> {
        match pattern {
            ast::Pattern::Variable(name) => {
                self.bind(name, own);
                Ok(Pattern::Variable)
            }
            ast::Pattern::Array(elements) => {
                // Elements are bound from the last one to the first one.
                let mut compiled = Vec::with_capacity(elements.len());
                for element in elements.iter().rev() {
                    compiled.push(self.pattern(element, own)?);
                }
                compiled.reverse();
                Ok(Pattern::Array(compiled))
            }
            ast::Pattern::Object(members) => {
                let mut compiled = Vec::with_capacity(members.len());
                for member in members {
                    let key = self.key(&member.key)?;
                    if let Some(name) = &member.variable {
                        self.bind(name, own);
                    }
                    let pattern = match &member.pattern {
                        Some(pattern) => Some(self.pattern(pattern, own)?),
                        None => None,
                    };
                    compiled.push(MemberPattern {
                        key,
                        is_bound: member.variable.is_some(),
                        pattern,
                    });
                }
                Ok(Pattern::Object(compiled))
            }
        }
    }

    fn bind(&mut self, name: &str, own: &mut Vec<(String, usize)>) {
        own.push((name.to_owned(), self.depth));
        self.depth += 1;
    }
}

/// Values in errors are cut to fewer bytes than this, as in jq.
const SHOWN_BYTES: usize = 15;

impl Node {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            at: NOWHERE,
            followed: None,
            is_single: false,
            ending: Ending::default(),
            ends_in_recursion: false,
        }
    }

    /// Returns the value of a constant.
    fn constant(&self) -> Option<Value<'_>> {
        if let Kind::Constant(constant) = &self.kind {
            Some(constant.value())
        } else {
            None
        }
    }
}

fn constant(constant: Constant) -> Node {
    Node::new(Kind::Constant(constant))
}

/// Converts a number of the program. A small integer is stored as an integer, so that it need not
/// be parsed when the program runs.
fn number(text: &str) -> Constant {
    match text.parse::<i64>() {
        Ok(integer) => Constant::Integer(integer),
        Err(_) => Constant::Number(text.to_owned()),
    }
}

fn binary(operator: Operator, left: Node, right: Node) -> Kind {
    let folded = match (left.constant(), right.constant()) {
        (Some(left), Some(right)) => short(operate(operator, left, right)),
        _ => None,
    };
    folded.map_or_else(
        || Kind::Binary(operator, Box::new(left), Box::new(right)),
        Kind::Constant,
    )
}

/// Returns a value as a constant. `None` if the expression failed or its value is long; then it is
/// not folded.
fn short(value: Output<'_>) -> Option<Constant> {
    let value = value.ok()?;
    if value
        .as_str()
        .is_some_and(|string| string.len() > MAX_FOLDED_BYTES)
    {
        return None;
    }
    fold(&value)
}

fn fold(value: &Value<'_>) -> Option<Constant> {
    Some(match value {
        Value::Null => Constant::Null,
        Value::Boolean(boolean) => Constant::Boolean(*boolean),
        Value::Integer(integer) => Constant::Integer(*integer),
        Value::Float(float) => Constant::Float(*float),
        Value::Decimal(text) => Constant::Number((*text).to_owned()),
        Value::OwnedDecimal(text) => Constant::Number(text.to_string()),
        Value::BigInteger(integer) => Constant::Number(integer.to_string()),
        Value::String(string) => Constant::String(string.to_string()),
        Value::Lazy(_) | Value::Array(_) | Value::Object(_) => return None,
    })
}

/// Returns the constant for an array such as `[1, "a"]`, which contains only constants.
fn folded_array(inner: Option<&Node>) -> Option<Kind> {
    fn push(text: &mut String, node: &Node) -> Option<()> {
        if let Kind::Comma(left, right) = &node.kind {
            push(text, left)?;
            text.push(',');
            return push(text, right);
        }
        push_constant(text, node)
    }
    let mut text = String::from("[");
    if let Some(inner) = inner {
        push(&mut text, inner)?;
    }
    text.push(']');
    json(text).map(Kind::Constant)
}

fn folded_object(members: &[(Node, Node)]) -> Option<Kind> {
    let mut text = String::from("{");
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_constant(&mut text, key)?;
        text.push(':');
        push_constant(&mut text, value)?;
    }
    text.push('}');
    json(text).map(Kind::Constant)
}

/// Appends the JSON of a constant. `None` if the node is not a constant or JSON cannot represent it
/// exactly.
fn push_constant(text: &mut String, node: &Node) -> Option<()> {
    let Kind::Constant(constant) = &node.kind else {
        return None;
    };
    if let Constant::Float(_) = constant {
        return None;
    }
    constant.value().push_json(text).ok()?;
    (text.len() <= MAX_FOLDED_BYTES).then_some(())
}

fn json(text: String) -> Option<Constant> {
    let mut nodes = Vec::new();
    scan(&text, ScanLimits::WIDEST, &mut nodes).ok()?;
    Some(Constant::Json(Box::new(Source::owned(text, nodes))))
}

fn names() -> Constant {
    let functions = NAMES.iter().map(|name| (*name).to_owned());
    let mathematics = math::NAMES
        .iter()
        .map(|(name, arity)| format!("{name}/{arity}"));
    let names: Vec<String> = functions
        .chain(mathematics)
        .chain(prelude::names())
        .map(|name| format!("\"{name}\""))
        .collect();
    json(format!("[{}]", names.join(","))).unwrap_or(Constant::Null)
}

//! The parser. It makes a syntax tree from the tokens of a program. It does not know what names
//! mean.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other word is refused in one sentence"
)]

use crate::ast::{Definition, Expression, Kind, MemberPattern, Operator, Parameter, Part, Pattern};
use crate::lex::{Lexer, StringPart, Token};
use crate::{CompileError, stack};

/// Words that cannot be names of filters. They can be names of keys and fields.
const KEYWORDS: [&str; 18] = [
    "as", "def", "module", "import", "include", "if", "then", "else", "elif", "end", "and", "or",
    "reduce", "foreach", "try", "catch", "label", "break",
];

/// Parses a whole program. The output of a program that is empty, or has only definitions, is its
/// input.
pub(crate) fn program(text: &str) -> Result<Expression, CompileError> {
    let mut parser = Parser::new(text)?;
    let mut definitions = Vec::new();
    while parser.is_word("def") {
        definitions.push((parser.at, parser.definition()?));
    }
    let mut body = if parser.token == Token::End {
        Expression {
            at: parser.at,
            kind: Kind::Identity,
        }
    } else {
        parser.query()?
    };
    if parser.token != Token::End {
        return Err(parser.expected("nothing"));
    }
    for (at, definition) in definitions.into_iter().rev() {
        body = Expression {
            at,
            kind: Kind::Define(Box::new(definition), Box::new(body)),
        };
    }
    Ok(body)
}

/// Parses a library, which contains only definitions.
pub(crate) fn library(text: &str) -> Result<Vec<Definition>, CompileError> {
    let mut parser = Parser::new(text)?;
    let mut definitions = Vec::new();
    while parser.token != Token::End {
        definitions.push(parser.definition()?);
    }
    Ok(definitions)
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The current token and its offset.
    token: Token,
    at: usize,
    /// The names of all calls without arguments so far.
    called: Vec<String>,
}

type Parsed = Result<Expression, CompileError>;

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Result<Self, CompileError> {
        let mut lexer = Lexer::new(text);
        let (at, token) = lexer.next()?;
        Ok(Self {
            lexer,
            token,
            at,
            called: Vec::new(),
        })
    }

    fn advance(&mut self) -> Result<Token, CompileError> {
        let (at, token) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.token, Token::Symbol(found) if found == symbol)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(found) if found == word)
    }

    /// Skips this symbol if it is the current token. Returns whether it was skipped.
    fn take(&mut self, symbol: &str) -> Result<bool, CompileError> {
        let found = self.is(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn take_word(&mut self, word: &str) -> Result<bool, CompileError> {
        let found = self.is_word(word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, symbol: &str, name: &str) -> Result<(), CompileError> {
        if self.take(symbol)? {
            return Ok(());
        }
        Err(self.expected(name))
    }

    fn expect_word(&mut self, word: &str) -> Result<(), CompileError> {
        if self.take_word(word)? {
            return Ok(());
        }
        Err(self.expected(word))
    }

    fn expected(&self, name: &str) -> CompileError {
        let end = self.lexer.position();
        let found = if self.token == Token::End {
            ""
        } else {
            &self.lexer.text()[self.at..end]
        };
        self.lexer.error(self.at, name, found)
    }

    fn check_depth(&self) -> Result<(), CompileError> {
        if stack::has_room() {
            return Ok(());
        }
        Err(self
            .lexer
            .message(self.at, "the expression nests too deep".to_owned()))
    }

    /// Parses pipes and commas, and the forms that extend to the end of the query: definitions,
    /// bindings and labels.
    fn query(&mut self) -> Parsed {
        self.check_depth()?;
        let mut stages: Vec<Expression> = Vec::new();
        loop {
            let (stage, is_last) = self.commas()?;
            stages.push(stage);
            if is_last || !self.take("|")? {
                break;
            }
        }
        let mut piped = stages.pop();
        while let Some(left) = stages.pop() {
            piped = piped.map(|right| Expression {
                at: left.at,
                kind: Kind::Pipe(Box::new(left), Box::new(right)),
            });
        }
        piped.ok_or_else(|| self.expected("term"))
    }

    /// Parses a part of a pipe, with its commas. Also returns whether the part extended to the end
    /// of the query.
    fn commas(&mut self) -> Result<(Expression, bool), CompileError> {
        let mut joined: Option<Expression> = None;
        loop {
            let (item, is_last) = self.item()?;
            let item = match joined.take() {
                Some(left) => Expression {
                    at: left.at,
                    kind: Kind::Comma(Box::new(left), Box::new(item)),
                },
                None => item,
            };
            if is_last || !self.take(",")? {
                return Ok((item, is_last));
            }
            joined = Some(item);
        }
    }

    fn item(&mut self) -> Result<(Expression, bool), CompileError> {
        let at = self.at;
        if self.is_word("def") {
            let definition = self.definition()?;
            let body = self.query()?;
            let kind = Kind::Define(Box::new(definition), Box::new(body));
            return Ok((Expression { at, kind }, true));
        }
        if self.take_word("label")? {
            let name = self.variable()?;
            self.expect("|", "|")?;
            let body = self.query()?;
            let kind = Kind::Label(name, Box::new(body));
            return Ok((Expression { at, kind }, true));
        }
        let source = self.operators(0)?;
        if !self.take_word("as")? {
            return Ok((source, false));
        }
        let patterns = self.patterns()?;
        self.expect("|", "|")?;
        let body = self.query()?;
        let kind = Kind::Bind {
            source: Box::new(source),
            patterns,
            body: Box::new(body),
        };
        Ok((Expression { at, kind }, true))
    }

    /// Parses operators that bind at least as strongly as `level`, with their operands.
    fn operators(&mut self, level: u8) -> Parsed {
        self.check_depth()?;
        let mut left = self.term()?;
        while let Some((operator, strength)) = self.operator() {
            if strength < level {
                break;
            }
            let at = self.at;
            self.advance()?;
            // `//` groups to the right; the others to the left, or not at all.
            let right = if strength == ALTERNATIVE {
                self.operators(strength)?
            } else {
                self.operators(strength + 1)?
            };
            left = Expression {
                at,
                kind: operator.join(Box::new(left), Box::new(right)),
            };
            let is_chain = matches!(strength, ASSIGNMENT | COMPARISON)
                && self.operator().is_some_and(|(_, next)| next == strength);
            if is_chain {
                return Err(self.expected("an operator that may follow, or parentheses"));
            }
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(Joint, u8)> {
        let binary = |operator| Joint::Binary(operator);
        let update = |operator| Joint::UpdateWith(operator);
        Some(match &self.token {
            Token::Word(word) if word == "or" => (Joint::Or, 2),
            Token::Word(word) if word == "and" => (Joint::And, 3),
            Token::Symbol(symbol) => match *symbol {
                "//" => (Joint::Alternative, ALTERNATIVE),
                "=" => (Joint::Assign, ASSIGNMENT),
                "|=" => (Joint::Update, ASSIGNMENT),
                "+=" => (update(Operator::Add), ASSIGNMENT),
                "-=" => (update(Operator::Subtract), ASSIGNMENT),
                "*=" => (update(Operator::Multiply), ASSIGNMENT),
                "/=" => (update(Operator::Divide), ASSIGNMENT),
                "%=" => (update(Operator::Remainder), ASSIGNMENT),
                "//=" => (Joint::UpdateAlternative, ASSIGNMENT),
                "==" => (binary(Operator::Equal), COMPARISON),
                "!=" => (binary(Operator::Unequal), COMPARISON),
                "<" => (binary(Operator::Less), COMPARISON),
                "<=" => (binary(Operator::LessOrEqual), COMPARISON),
                ">" => (binary(Operator::Greater), COMPARISON),
                ">=" => (binary(Operator::GreaterOrEqual), COMPARISON),
                "+" => (binary(Operator::Add), 5),
                "-" => (binary(Operator::Subtract), 5),
                "*" => (binary(Operator::Multiply), 6),
                "/" => (binary(Operator::Divide), 6),
                "%" => (binary(Operator::Remainder), 6),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Parses a term with the suffixes that may follow it.
    fn term(&mut self) -> Parsed {
        self.check_depth()?;
        let mut term = self.plain_term()?;
        loop {
            let at = self.at;
            let kind = if let Token::Field(name) = &self.token {
                let key = string(self.at, name.clone());
                self.advance()?;
                self.indexed(term, key)?
            } else if self.take(".")? {
                if self.is("\"") || self.token == Token::Quote {
                    let key = self.string(None)?;
                    self.indexed(term, key)?
                } else if matches!(self.token, Token::Format(_)) {
                    let key = self.formatted_string()?;
                    self.indexed(term, key)?
                } else if self.is("[") {
                    self.bracket(term)?
                } else {
                    return Err(self.expected("a field's name, a string or ["));
                }
            } else if self.is("[") {
                self.bracket(term)?
            } else if self.take("?")? {
                Kind::Try {
                    body: Box::new(term),
                    handler: None,
                }
            } else {
                return Ok(term);
            };
            term = Expression { at, kind };
        }
    }

    fn indexed(&mut self, base: Expression, key: Expression) -> Result<Kind, CompileError> {
        Ok(Kind::Index {
            base: Box::new(base),
            key: Box::new(key),
            optional: self.take("?")?,
        })
    }

    /// `[]`, `[key]`, `[from:to]`, `[from:]`, `[:to]`
    fn bracket(&mut self, base: Expression) -> Result<Kind, CompileError> {
        self.advance()?;
        let base = Box::new(base);
        if self.take("]")? {
            let optional = self.take("?")?;
            return Ok(Kind::Each { base, optional });
        }
        let (mut from, mut to) = (None, None);
        if self.take(":")? {
            to = Some(Box::new(self.query()?));
        } else {
            let key = Box::new(self.query()?);
            if !self.take(":")? {
                self.expect("]", "]")?;
                let optional = self.take("?")?;
                return Ok(Kind::Index {
                    base,
                    key,
                    optional,
                });
            }
            from = Some(key);
            if !self.is("]") {
                to = Some(Box::new(self.query()?));
            }
        }
        self.expect("]", "]")?;
        let optional = self.take("?")?;
        Ok(Kind::Slice {
            base,
            from,
            to,
            optional,
        })
    }

    fn plain_term(&mut self) -> Parsed {
        let at = self.at;
        let kind = match self.token.clone() {
            Token::Number(number) => {
                self.advance()?;
                Kind::Number(number)
            }
            Token::Quote => return self.string(None),
            Token::Format(_) => return self.formatted_string(),
            Token::Field(name) => {
                let key = string(at, name);
                self.advance()?;
                let identity = Expression {
                    at,
                    kind: Kind::Identity,
                };
                self.indexed(identity, key)?
            }
            Token::Variable(name) => {
                self.advance()?;
                if name == "__loc__" {
                    Kind::Location(self.line_of(at))
                } else {
                    Kind::Variable(name)
                }
            }
            Token::Word(word) => self.word(&word)?,
            Token::Symbol(symbol) => self.symbol(symbol)?,
            Token::End => return Err(self.expected("term")),
        };
        Ok(Expression { at, kind })
    }

    fn symbol(&mut self, symbol: &str) -> Result<Kind, CompileError> {
        let at = self.at;
        match symbol {
            "." => {
                self.advance()?;
                let identity = Expression {
                    at,
                    kind: Kind::Identity,
                };
                if self.token == Token::Quote {
                    let key = self.string(None)?;
                    return self.indexed(identity, key);
                }
                if matches!(self.token, Token::Format(_)) {
                    let key = self.formatted_string()?;
                    if matches!(key.kind, Kind::Format(_)) {
                        return Err(self.expected("a string"));
                    }
                    return self.indexed(identity, key);
                }
                Ok(Kind::Identity)
            }
            ".." => {
                self.advance()?;
                Ok(Kind::Recurse)
            }
            "-" => {
                self.advance()?;
                Ok(Kind::Negate(Box::new(self.term()?)))
            }
            "(" => {
                self.advance()?;
                let inner = self.query()?;
                self.expect(")", "closing parenthesis")?;
                Ok(inner.kind)
            }
            "[" => {
                self.advance()?;
                if self.take("]")? {
                    return Ok(Kind::Array(None));
                }
                let inner = self.query()?;
                self.expect("]", "closing bracket")?;
                Ok(Kind::Array(Some(Box::new(inner))))
            }
            "{" => {
                self.advance()?;
                self.object()
            }
            _ => Err(self.expected("term")),
        }
    }

    fn word(&mut self, word: &str) -> Result<Kind, CompileError> {
        match word {
            "if" => {
                self.advance()?;
                self.conditional()
            }
            "try" => {
                self.advance()?;
                let body = Box::new(self.term()?);
                let handler = if self.take_word("catch")? {
                    Some(Box::new(self.term()?))
                } else {
                    None
                };
                Ok(Kind::Try { body, handler })
            }
            "reduce" => self.reduce(),
            "foreach" => self.foreach(),
            "break" => {
                self.advance()?;
                Ok(Kind::Break(self.variable()?))
            }
            "import" | "include" | "module" => {
                Err(CompileError::forbidden(self.lexer.text(), self.at, word))
            }
            _ if KEYWORDS.contains(&word) => Err(self.expected("term")),
            _ => {
                self.advance()?;
                self.call(word)
            }
        }
    }

    fn call(&mut self, name: &str) -> Result<Kind, CompileError> {
        let mut arguments = Vec::new();
        if self.take("(")? {
            loop {
                arguments.push(self.query()?);
                if !self.take(";")? {
                    break;
                }
            }
            self.expect(")", "closing parenthesis")?;
        }
        if arguments.is_empty() {
            self.called.push(name.to_owned());
        }
        Ok(match (name, arguments.is_empty()) {
            ("null", true) => Kind::Null,
            ("false", true) => Kind::Boolean(false),
            ("true", true) => Kind::Boolean(true),
            _ => Kind::Call {
                name: name.to_owned(),
                arguments,
            },
        })
    }

    /// Parses the part after `if` or `elif`.
    fn conditional(&mut self) -> Result<Kind, CompileError> {
        self.check_depth()?;
        let condition = Box::new(self.query()?);
        self.expect_word("then")?;
        let then = Box::new(self.query()?);
        let at = self.at;
        let otherwise = if self.take_word("elif")? {
            let kind = self.conditional()?;
            Some(Box::new(Expression { at, kind }))
        } else if self.take_word("else")? {
            let otherwise = self.query()?;
            self.expect_word("end")?;
            Some(Box::new(otherwise))
        } else if self.take_word("end")? {
            None
        } else {
            return Err(self.expected("else or end"));
        };
        Ok(Kind::If {
            condition,
            then,
            otherwise,
        })
    }

    fn loop_source(&mut self) -> Result<(Box<Expression>, Vec<Pattern>), CompileError> {
        self.advance()?;
        let source = Box::new(self.operators(0)?);
        self.expect_word("as")?;
        let patterns = self.patterns()?;
        self.expect("(", "opening parenthesis")?;
        Ok((source, patterns))
    }

    fn reduce(&mut self) -> Result<Kind, CompileError> {
        let (source, patterns) = self.loop_source()?;
        let start = Box::new(self.query()?);
        self.expect(";", ";")?;
        let update = Box::new(self.query()?);
        self.expect(")", "closing parenthesis")?;
        Ok(Kind::Reduce {
            source,
            patterns,
            start,
            update,
        })
    }

    fn foreach(&mut self) -> Result<Kind, CompileError> {
        let (source, patterns) = self.loop_source()?;
        let start = Box::new(self.query()?);
        self.expect(";", ";")?;
        let update = Box::new(self.query()?);
        let extract = if self.take(";")? {
            Some(Box::new(self.query()?))
        } else {
            None
        };
        self.expect(")", "closing parenthesis")?;
        Ok(Kind::Foreach {
            source,
            patterns,
            start,
            update,
            extract,
        })
    }

    /// `@format`, or `@format "…"`
    fn formatted_string(&mut self) -> Parsed {
        let at = self.at;
        let Token::Format(format) = self.advance()? else {
            return Err(self.expected("a format"));
        };
        if self.token == Token::Quote {
            let mut string = self.string(Some(format))?;
            string.at = at;
            return Ok(string);
        }
        Ok(Expression {
            at,
            kind: Kind::Format(format),
        })
    }

    /// Parses a string. The current token is the opening quote.
    fn string(&mut self, format: Option<String>) -> Parsed {
        let at = self.at;
        let mut parts = Vec::new();
        loop {
            match self.lexer.string_part()? {
                StringPart::Text(text) => parts.push(Part::Text(text)),
                StringPart::Code => {
                    self.advance()?;
                    parts.push(Part::Code(self.query()?));
                    // After the closing parenthesis, the text belongs to the string again.
                    if !self.is(")") {
                        return Err(self.expected("closing parenthesis"));
                    }
                }
                StringPart::End => break,
            }
        }
        self.advance()?;
        Ok(Expression {
            at,
            kind: Kind::String { format, parts },
        })
    }

    /// Parses the part of an object after the opening brace.
    fn object(&mut self) -> Result<Kind, CompileError> {
        let mut members = Vec::new();
        while !self.take("}")? {
            members.push(self.member()?);
            if !self.take(",")? {
                self.expect("}", "closing brace")?;
                break;
            }
        }
        Ok(Kind::Object(members))
    }

    fn member(&mut self) -> Result<(Expression, Expression), CompileError> {
        let at = self.at;
        let here = |kind| Expression { at, kind };
        let (key, implied) = match self.token.clone() {
            Token::Variable(name) => {
                self.advance()?;
                if name == "__loc__" {
                    let line = self.line_of(at);
                    return Ok((string(at, name), here(Kind::Location(line))));
                }
                let variable = here(Kind::Variable(name.clone()));
                if self.take(":")? {
                    return Ok((variable, self.member_value()?));
                }
                return Ok((string(at, name), variable));
            }
            Token::Word(name) if !name.contains("::") => {
                self.advance()?;
                (string(at, name), true)
            }
            Token::Quote => (self.string(None)?, true),
            Token::Format(_) => {
                let key = self.formatted_string()?;
                if matches!(key.kind, Kind::Format(_)) {
                    return Err(self.expected("a string"));
                }
                (key, true)
            }
            Token::Symbol("(") => {
                self.advance()?;
                let key = self.query()?;
                self.expect(")", "closing parenthesis")?;
                (key, false)
            }
            Token::Word(_) | Token::Number(_) | Token::Field(_) | Token::Symbol(_) | Token::End => {
                return Err(self.expected("a key; one that is computed stands in parentheses"));
            }
        };
        if self.take(":")? {
            return Ok((key, self.member_value()?));
        }
        if !implied {
            return Err(self.expected(":"));
        }
        let value = here(Kind::Index {
            base: Box::new(here(Kind::Identity)),
            key: Box::new(key.clone()),
            optional: false,
        });
        Ok((key, value))
    }

    /// Parses the value of a member: operators, joined by pipes.
    fn member_value(&mut self) -> Parsed {
        let mut value = self.operators(0)?;
        while self.take("|")? {
            let right = self.operators(0)?;
            value = Expression {
                at: value.at,
                kind: Kind::Pipe(Box::new(value), Box::new(right)),
            };
        }
        Ok(value)
    }

    fn definition(&mut self) -> Result<Definition, CompileError> {
        self.expect_word("def")?;
        let name = self.free_name("the name of a filter")?;
        let mut parameters = Vec::new();
        if self.take("(")? {
            loop {
                parameters.push(match self.token.clone() {
                    Token::Variable(name) if name != "__loc__" => {
                        self.advance()?;
                        Parameter {
                            name,
                            is_value: true,
                            is_called: false,
                        }
                    }
                    _ => Parameter {
                        name: self.free_name("a parameter")?,
                        is_value: false,
                        is_called: false,
                    },
                });
                if !self.take(";")? {
                    break;
                }
            }
            self.expect(")", "closing parenthesis")?;
        }
        self.expect(":", ":")?;
        let before = self.called.len();
        let body = self.query()?;
        self.expect(";", ";")?;
        for parameter in &mut parameters {
            parameter.is_called = self.called[before..].contains(&parameter.name);
        }
        Ok(Definition {
            name,
            parameters,
            body,
        })
    }

    fn free_name(&mut self, what: &str) -> Result<String, CompileError> {
        match self.token.clone() {
            Token::Word(name) if !KEYWORDS.contains(&name.as_str()) => {
                self.advance()?;
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    fn variable(&mut self) -> Result<String, CompileError> {
        match self.token.clone() {
            Token::Variable(name) if name != "__loc__" => {
                self.advance()?;
                Ok(name)
            }
            _ => Err(self.expected("a variable")),
        }
    }

    fn patterns(&mut self) -> Result<Vec<Pattern>, CompileError> {
        let mut patterns = vec![self.pattern()?];
        while self.take("?//")? {
            patterns.push(self.pattern()?);
        }
        Ok(patterns)
    }

    fn pattern(&mut self) -> Result<Pattern, CompileError> {
        self.check_depth()?;
        if self.take("[")? {
            let mut elements = vec![self.pattern()?];
            while self.take(",")? {
                elements.push(self.pattern()?);
            }
            self.expect("]", "closing bracket")?;
            return Ok(Pattern::Array(elements));
        }
        if self.take("{")? {
            let mut members = vec![self.member_pattern()?];
            while self.take(",")? {
                members.push(self.member_pattern()?);
            }
            self.expect("}", "closing brace")?;
            return Ok(Pattern::Object(members));
        }
        self.variable().map(Pattern::Variable)
    }

    fn member_pattern(&mut self) -> Result<MemberPattern, CompileError> {
        let at = self.at;
        let key = match self.token.clone() {
            Token::Variable(name) if name != "__loc__" => {
                self.advance()?;
                let pattern = if self.take(":")? {
                    Some(self.pattern()?)
                } else {
                    None
                };
                return Ok(MemberPattern {
                    variable: Some(name.clone()),
                    key: string(at, name),
                    pattern,
                });
            }
            Token::Word(name) if !name.contains("::") => {
                self.advance()?;
                string(at, name)
            }
            Token::Quote => self.string(None)?,
            Token::Format(_) => self.formatted_string()?,
            Token::Symbol("(") => {
                self.advance()?;
                let key = self.query()?;
                self.expect(")", "closing parenthesis")?;
                key
            }
            Token::Variable(_)
            | Token::Word(_)
            | Token::Number(_)
            | Token::Field(_)
            | Token::Symbol(_)
            | Token::End => return Err(self.expected("a key or a variable")),
        };
        self.expect(":", ":")?;
        Ok(MemberPattern {
            variable: None,
            key,
            pattern: Some(self.pattern()?),
        })
    }

    fn line_of(&self, at: usize) -> usize {
        self.lexer.text()[..at].matches('\n').count() + 1
    }
}

fn string(at: usize, text: String) -> Expression {
    Expression {
        at,
        kind: Kind::String {
            format: None,
            parts: vec![Part::Text(text)],
        },
    }
}

/// How strongly `//` binds.
const ALTERNATIVE: u8 = 0;
/// How strongly assignments bind. They cannot be chained.
const ASSIGNMENT: u8 = 1;
/// How strongly comparisons bind. They cannot be chained.
const COMPARISON: u8 = 4;

/// An operator between two expressions.
enum Joint {
    Alternative,
    Assign,
    Update,
    UpdateWith(Operator),
    UpdateAlternative,
    Or,
    And,
    Binary(Operator),
}

impl Joint {
    fn join(self, left: Box<Expression>, right: Box<Expression>) -> Kind {
        match self {
            Self::Alternative => Kind::Alternative(left, right),
            Self::Assign => Kind::Assign(left, right),
            Self::Update => Kind::Update(left, right),
            Self::UpdateWith(operator) => Kind::UpdateWith(operator, left, right),
            Self::UpdateAlternative => Kind::UpdateAlternative(left, right),
            Self::Or => Kind::Or(left, right),
            Self::And => Kind::And(left, right),
            Self::Binary(operator) => Kind::Binary(operator, left, right),
        }
    }
}

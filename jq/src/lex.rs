//! The lexer. It reads the tokens of a program one at a time. The text inside a string has its own
//! rules, see [`Lexer::string_part`].

use crate::CompileError;

/// A token of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A name, which may contain `::`, or a keyword.
    Word(String),
    /// `.name`
    Field(String),
    /// `$name`
    Variable(String),
    /// `@name`
    Format(String),
    /// The text of a number, converted to valid JSON.
    Number(String),
    /// The quote that opens a string.
    Quote,
    /// An operator or bracket.
    Symbol(&'static str),
    /// The end of the program.
    End,
}

/// The next part of a string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StringPart {
    /// Characters, with their escapes resolved.
    Text(String),
    /// `\(`. A query and a closing parenthesis follow.
    Code,
    /// The closing quote.
    End,
}

/// Operators and brackets. If some begin with the same characters, the longest one is first.
const SYMBOLS: [&str; 34] = [
    "?//", "//=", "!=", "==", "//", "|=", "+=", "-=", "*=", "/=", "%=", "<=", ">=", "..", ".", "?",
    "=", ";", ",", ":", "|", "+", "-", "*", "/", "%", "<", ">", "[", "]", "(", ")", "{", "}",
];

pub(crate) struct Lexer<'t> {
    text: &'t str,
    position: usize,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, position: 0 }
    }

    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    /// Returns the offset of the next character to read.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Returns the next token and its offset.
    pub(crate) fn next(&mut self) -> Result<(usize, Token), CompileError> {
        self.skip_space();
        let at = self.position;
        let rest = &self.text[at..];
        let Some(first) = rest.chars().next() else {
            return Ok((at, Token::End));
        };
        let second = rest[first.len_utf8()..].chars().next();
        let token = match (first, second) {
            ('"', _) => {
                self.position += 1;
                Token::Quote
            }
            ('0'..='9', _) | ('.', Some('0'..='9')) => self.number(),
            ('.', Some(second)) if begins_name(second) => {
                self.position += 1;
                Token::Field(self.name(false))
            }
            ('$', Some(second)) if begins_name(second) => {
                self.position += 1;
                Token::Variable(self.name(true))
            }
            ('@', Some(second)) if is_in_name(second) => {
                self.position += 1;
                Token::Format(self.take_while(is_in_name).to_owned())
            }
            (first, _) if begins_name(first) => Token::Word(self.name(true)),
            _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => {
                    self.position += symbol.len();
                    Token::Symbol(symbol)
                }
                None => return Err(self.error(at, "token", rest)),
            },
        };
        Ok((at, token))
    }

    /// Returns the next part of the string that is being read.
    pub(crate) fn string_part(&mut self) -> Result<StringPart, CompileError> {
        let mut characters = String::new();
        loop {
            let rest = &self.text[self.position..];
            let plain = rest.find(['"', '\\']).unwrap_or(rest.len());
            characters.push_str(&rest[..plain]);
            self.position += plain;
            let rest = &rest[plain..];
            if rest.is_empty() {
                return Err(self.error(self.text.len(), "closing quote", ""));
            }
            let ends = rest.starts_with('"') || rest.starts_with("\\(");
            if ends && !characters.is_empty() {
                return Ok(StringPart::Text(characters));
            }
            if rest.starts_with('"') {
                self.position += 1;
                return Ok(StringPart::End);
            }
            if ends {
                self.position += 2;
                return Ok(StringPart::Code);
            }
            self.escape(&mut characters)?;
        }
    }

    fn escape(&mut self, characters: &mut String) -> Result<(), CompileError> {
        let at = self.position;
        let rest = &self.text[at..];
        let invalid = |lexer: &Self| {
            lexer.message(
                at,
                "the escape in this string is invalid; \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX \\(…) are allowed"
                    .to_owned(),
            )
        };
        let character = match rest[1..].chars().next() {
            Some(plain @ ('"' | '\\' | '/')) => plain,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let (character, length) = unicode(rest).ok_or_else(|| invalid(self))?;
                characters.push(character);
                self.position += length;
                return Ok(());
            }
            Some(_) | None => return Err(invalid(self)),
        };
        characters.push(character);
        self.position += 2;
        Ok(())
    }

    fn skip_space(&mut self) {
        loop {
            self.take_while(|character| matches!(character, ' ' | '\t' | '\n' | '\r'));
            if !self.text[self.position..].starts_with('#') {
                return;
            }
            self.skip_comment();
        }
    }

    /// Skips a comment. It ends with its line, unless the line ends with an odd number of
    /// backslashes.
    fn skip_comment(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = self.position;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'\n' => break,
                b'\\' => match &bytes[at..] {
                    [b'\\' | b'\n', ..] => at += 1,
                    [b'\r', b'\n', ..] => at += 2,
                    _ => {}
                },
                _ => {}
            }
        }
        self.position = at;
    }

    fn name(&mut self, with_modules: bool) -> String {
        let from = self.position;
        self.take_while(is_in_name);
        if !with_modules {
            return self.text[from..self.position].to_owned();
        }
        loop {
            let rest = &self.text[self.position..];
            let Some(part) = rest.strip_prefix("::") else {
                break;
            };
            if !part.starts_with(begins_name) {
                break;
            }
            self.position += 2;
            self.take_while(is_in_name);
        }
        self.text[from..self.position].to_owned()
    }

    fn number(&mut self) -> Token {
        let digit = |character: char| character.is_ascii_digit();
        let whole = self.take_while(digit).trim_start_matches('0');
        let mut number = if whole.is_empty() { "0" } else { whole }.to_owned();
        if self.text[self.position..].starts_with('.') {
            self.position += 1;
            let fraction = self.take_while(digit);
            if !fraction.is_empty() {
                number.push('.');
                number.push_str(fraction);
            }
        }
        let rest = &self.text[self.position..];
        if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let count = digits.bytes().take_while(u8::is_ascii_digit).count();
            if count > 0 {
                let length = rest.len() - digits.len() + count;
                number.push_str(&rest[..length]);
                self.position += length;
            }
        }
        Token::Number(number)
    }

    fn take_while(&mut self, is_wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = &self.text[self.position..];
        let length = rest
            .find(|character| !is_wanted(character))
            .unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    /// Makes an error that says that `expected` is missing at an offset.
    pub(crate) fn error(&self, at: usize, expected: &str, found: &str) -> CompileError {
        self.message(at, format!("{expected} is expected (got {})", shown(found)))
    }

    /// Makes an error at an offset.
    pub(crate) fn message(&self, at: usize, message: String) -> CompileError {
        CompileError::at(self.text, at, message)
    }
}

/// How many characters of the program an error shows.
const SHOWN_CHARACTERS: usize = 200;

fn shown(found: &str) -> String {
    let first = found.lines().next().unwrap_or("");
    if first.is_empty() {
        return "the end of the expression".to_owned();
    }
    let mut shown: String = first.chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < first.len() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn begins_name(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

fn is_in_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Returns the code unit of the `\uXXXX` at the beginning of `text`.
pub(crate) fn code_unit(text: &str) -> Option<u32> {
    let digits = text.get(2..6)?;
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hexadecimal.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Returns the character of the `\uXXXX` at the beginning of `text`, and the length of the escape.
/// If it is the first half of a pair of surrogates, the second `\uXXXX` is part of the escape. A
/// second half alone becomes the replacement character, as in jq.
pub(crate) fn unicode(text: &str) -> Option<(char, usize)> {
    let first = code_unit(text)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((
            char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
            6,
        ));
    }
    let rest = text.get(6..).filter(|rest| rest.starts_with("\\u"))?;
    let second = code_unit(rest).filter(|second| (0xdc00..0xe000).contains(second))?;
    let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(code)?, 12))
}

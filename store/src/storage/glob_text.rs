//! Parses the text of a pattern and expands its braces. This module matches no names.

use crate::storage::pattern::Token;

/// How deep braces may nest. There is a limit because the parser is recursive.
const MAX_DEPTH: usize = 32;

/// Returns the alternatives to which a pattern expands. Fails if there are more than
/// `alternatives_max`.
pub(super) fn parse(text: &str, alternatives_max: usize) -> Result<Vec<Vec<Token>>, String> {
    let mut reader = Reader {
        rest: text.chars().collect::<Vec<_>>().into_iter(),
        alternatives_max,
    };
    match reader.sequence(0)? {
        (alternatives, End::Text) => Ok(alternatives),
        (_, End::Comma | End::Brace) => Err("a } closes no {".to_owned()),
    }
}

/// The reason why a sequence ended.
enum End {
    Text,
    Comma,
    Brace,
}

struct Reader {
    rest: std::vec::IntoIter<char>,
    alternatives_max: usize,
}

impl Reader {
    /// Reads up to the end of the text, or to the comma or brace that ends a branch.
    fn sequence(&mut self, depth: usize) -> Result<(Vec<Vec<Token>>, End), String> {
        let mut alternatives = vec![Vec::new()];
        loop {
            let token = match self.rest.next() {
                None => return Ok((alternatives, End::Text)),
                Some(',') if depth > 0 => return Ok((alternatives, End::Comma)),
                Some('}') => return Ok((alternatives, End::Brace)),
                Some('{') => {
                    let branches = self.branches(depth + 1)?;
                    alternatives = self.product(&alternatives, &branches)?;
                    continue;
                }
                Some('*') => Token::Many,
                Some('?') => Token::One,
                Some('[') => self.class()?,
                Some('/') => Token::Slash,
                Some('\\') => match self.rest.next() {
                    Some('/') => Token::Slash,
                    Some(escaped) => Token::Char(escaped),
                    None => return Err("a \\ at the end escapes nothing".to_owned()),
                },
                Some(character) => Token::Char(character),
            };
            for alternative in &mut alternatives {
                alternative.push(token.clone());
            }
        }
    }

    fn branches(&mut self, depth: usize) -> Result<Vec<Vec<Token>>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("braces are nested more than {MAX_DEPTH} deep"));
        }
        let mut branches = Vec::new();
        loop {
            let (branch, end) = self.sequence(depth)?;
            branches.extend(branch);
            self.check_count(branches.len())?;
            match end {
                End::Comma => {}
                End::Brace => return Ok(branches),
                End::Text => return Err("a { is not closed".to_owned()),
            }
        }
    }

    fn product(
        &self,
        before: &[Vec<Token>],
        branches: &[Vec<Token>],
    ) -> Result<Vec<Vec<Token>>, String> {
        self.check_count(before.len() * branches.len())?;
        let pairs = before
            .iter()
            .flat_map(|head| branches.iter().map(move |tail| (head, tail)));
        Ok(pairs
            .map(|(head, tail)| head.iter().chain(tail).cloned().collect())
            .collect())
    }

    fn check_count(&self, count: usize) -> Result<(), String> {
        if count > self.alternatives_max {
            return Err(format!(
                "its braces stand for more than {} alternatives",
                self.alternatives_max
            ));
        }
        Ok(())
    }

    /// Reads a class up to its `]`. A `]` as the first character means itself, and so does a `-` as
    /// the first or last character.
    fn class(&mut self) -> Result<Token, String> {
        let open = || "a [ is not closed".to_owned();
        let mut next = self.rest.next().ok_or_else(open)?;
        let is_negated = matches!(next, '!' | '^');
        if is_negated {
            next = self.rest.next().ok_or_else(open)?;
        }
        let mut characters = Vec::new();
        loop {
            if next == '/' {
                return Err("a [..] has a / in it".to_owned());
            }
            characters.push(next);
            next = self.rest.next().ok_or_else(open)?;
            if next == ']' {
                break;
            }
        }
        let mut ranges = Vec::new();
        let mut rest = characters.as_slice();
        while let [first, tail @ ..] = rest {
            if let ['-', last, tail @ ..] = tail {
                if first > last {
                    return Err(format!("the range {first}-{last} is empty"));
                }
                ranges.push((*first, *last));
                rest = tail;
            } else {
                ranges.push((*first, *first));
                rest = tail;
            }
        }
        Ok(Token::Class { is_negated, ranges })
    }
}

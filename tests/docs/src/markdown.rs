//! Finds the anchors and links of a page. It reads Markdown as it is written in this repository:
//! headings that begin with `#`, fences of backticks, links in brackets. This module opens no file.

use std::collections::BTreeMap;

/// One link of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The number of the line that contains its target, from 1.
    pub(crate) line: usize,
    /// Its target, as written.
    pub(crate) target: String,
}

/// A page: its anchors and its links, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// The ids of its headings, as GitHub and mdBook make them.
    pub(crate) anchors: Vec<String>,
    /// Its links and images.
    pub(crate) links: Vec<Link>,
}

/// Reads a page.
pub(crate) fn read(text: &str) -> Page {
    let mut page = Page::default();
    let mut seen = BTreeMap::new();
    let prose = without_fences(text);
    for line in prose.lines() {
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        if (1..=6).contains(&level) && line[level..].starts_with(' ') {
            let anchor = anchor_of(&line[level..]);
            page.anchors.push(numbered(anchor, &mut seen));
        }
    }
    page.links = links(&prose);
    page
}

/// Returns the page with empty lines in place of fences, so that line numbers do not change.
fn without_fences(text: &str) -> String {
    let mut prose = String::with_capacity(text.len());
    let mut fence: Option<usize> = None;
    for line in text.lines() {
        let ticks = line
            .trim_start()
            .bytes()
            .take_while(|byte| *byte == b'`')
            .count();
        match fence {
            Some(opened) => {
                if ticks >= opened && line.trim().bytes().all(|byte| byte == b'`') {
                    fence = None;
                }
            }
            None if ticks >= 3 => fence = Some(ticks),
            None => prose.push_str(line),
        }
        prose.push('\n');
    }
    prose
}

/// Returns the id of a heading. It contains only lower-case letters, digits, `-` and `_`; each
/// space becomes a `-`.
fn anchor_of(heading: &str) -> String {
    let words = shown(heading.trim());
    let id = words.chars().filter_map(|character| match character {
        ' ' => Some('-'),
        '-' | '_' => Some(character),
        _ if character.is_alphanumeric() => Some(character),
        _ => None,
    });
    id.collect::<String>().to_lowercase()
}

/// Returns the text of a heading without the targets of its links.
fn shown(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, behind)| behind);
    }
    text.push_str(rest);
    text
}

/// Returns the id of a heading. If an earlier heading has the same words, a number is added: the
/// second heading with the same words has the id `words-1`.
fn numbered(anchor: String, seen: &mut BTreeMap<String, usize>) -> String {
    let count = seen.entry(anchor.clone()).or_insert(0);
    *count += 1;
    if *count == 1 {
        anchor
    } else {
        format!("{anchor}-{}", *count - 1)
    }
}

/// Returns all links `](target)` and `[name]: target` outside of code.
fn links(prose: &str) -> Vec<Link> {
    let bytes = prose.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'`' => at = behind_code(prose, at),
            b']' if bytes.get(at + 1) == Some(&b'(') => {
                let end = target_end(bytes, at + 2);
                found.push(link(prose, at + 2, end));
                at = end;
            }
            b']' if bytes.get(at + 1) == Some(&b':') && begins_its_line(prose, at) => {
                let end = prose[at..].find('\n').map_or(bytes.len(), |end| at + end);
                found.push(link(prose, at + 2, end));
                at = end;
            }
            _ => at += 1,
        }
    }
    found
}

/// Returns the position after the code span that opens at `at`, or after its opening backticks if
/// nothing closes it in its paragraph.
fn behind_code(prose: &str, at: usize) -> usize {
    let ticks = ticks_at(prose, at);
    let paragraph = prose[at..].find("\n\n").map_or(prose.len(), |end| at + end);
    let mut next = at + ticks;
    while let Some(offset) = prose[next..paragraph].find('`') {
        let closing = ticks_at(prose, next + offset);
        next += offset + closing;
        if closing == ticks {
            return next;
        }
    }
    at + ticks
}

fn ticks_at(prose: &str, at: usize) -> usize {
    prose[at..].bytes().take_while(|byte| *byte == b'`').count()
}

/// Returns the end of the target that begins at `start`: its closing bracket, a space or the end of
/// the line.
fn target_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in bytes[start..].iter().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 0 => return start + offset,
            b')' => depth -= 1,
            b' ' | b'\n' => return start + offset,
            _ => {}
        }
    }
    bytes.len()
}

fn begins_its_line(prose: &str, at: usize) -> bool {
    let line = prose[..at].rfind('\n').map_or(0, |end| end + 1);
    prose[line..at].starts_with('[') && !prose[line + 1..at].contains('[')
}

fn link(prose: &str, start: usize, end: usize) -> Link {
    Link {
        line: prose[..start].matches('\n').count() + 1,
        target: prose[start..end].trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<(usize, String)> {
        let links = read(text).links.into_iter();
        links.map(|link| (link.line, link.target)).collect()
    }

    #[test]
    fn headings_have_the_ids_that_github_and_mdbook_give_them() {
        let page = "# What a pipeline can say\n## `run`, and [a link](x.md)\n## A_b-c: d?\n## run\n## run\n#no\n";
        let ids = [
            "what-a-pipeline-can-say",
            "run-and-a-link",
            "a_b-c-d",
            "run",
            "run-1",
        ];
        assert_eq!(read(page).anchors, ids);
    }

    #[test]
    fn links_are_found_with_their_lines_even_across_lines_and_in_tables() {
        let page = "a [b](c.md) ![d](e.svg)\n\n[`f\ng`](h.md#i)\n| [j](k(l).md) |\n[m]: n.md\n";
        let expected = [
            (1, "c.md"),
            (1, "e.svg"),
            (4, "h.md#i"),
            (5, "k(l).md"),
            (6, "n.md"),
        ];
        assert_eq!(
            targets(page),
            expected.map(|(line, target)| (line, target.to_owned()))
        );
    }

    #[test]
    fn text_in_code_is_neither_a_link_nor_a_heading() {
        let page = "`[a](b)` and ``[c](`d)``\n```\n# e\n[f](g)\n```\n\\[h](i) [j][0]: k\n";
        let found = read(page);
        assert_eq!(found.anchors, [] as [&str; 0]);
        assert_eq!(targets(page), [(6, "i".to_owned())]);
    }

    #[test]
    fn an_unclosed_backtick_does_not_hide_the_links_after_it() {
        assert_eq!(targets("a ` b [c](d)\n\n` e"), [(1, "d".to_owned())]);
    }
}

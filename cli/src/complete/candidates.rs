//! Reads an unfinished command line, and determines what its last word may be. Pure.

use clap::{Arg, Command};

/// What the last word may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// One of these words, each with its description after a tab.
    Words(Vec<String>),
    /// The name of a job.
    Jobs,
    /// The name of a namespace.
    Namespaces,
    /// The name of a context of the kubeconfig.
    Contexts,
    /// A path, or any text.
    Files,
}

/// An unfinished command line.
#[cfg_attr(
    not(feature = "cluster"),
    allow(dead_code, reason = "only the names of a cluster need its arguments")
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What its last word may be.
    pub(super) asked: Asked,
    /// How the last word begins.
    pub(super) begun: String,
    /// The value of `--namespace`.
    pub(super) namespace: Option<String>,
    /// The value of `--context`.
    pub(super) context: Option<String>,
    /// The value of `--kubeconfig`.
    pub(super) kubeconfig: Option<String>,
}

/// Reads the words after the name of the program. The last one is to be completed.
pub(super) fn read_line(program: &Command, words: &[String]) -> Line {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", words),
    };
    let mut line = Line {
        asked: Asked::Files,
        begun: last.to_owned(),
        namespace: None,
        context: None,
        kubeconfig: None,
    };
    let (mut command, mut positional) = (program, 0);
    let mut open: Option<&Arg> = None;
    for word in before {
        if let Some(option) = open.take() {
            line.keep(option, word);
        } else if word.starts_with('-') {
            let (name, value) = word
                .split_once('=')
                .map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            let option = option_of(command, name);
            match (option, value) {
                (Some(option), Some(value)) => line.keep(option, value),
                (option, None) => open = option.filter(|option| takes_value(option)),
                (None, Some(_)) => {}
            }
        } else if let Some(verb) = command.find_subcommand(word) {
            command = verb;
        } else {
            positional += 1;
        }
    }
    line.asked = asked(command, open, positional, last);
    line
}

impl Line {
    fn keep(&mut self, option: &Arg, value: &str) {
        let field = match option.get_id().as_str() {
            "namespace" => &mut self.namespace,
            "context" => &mut self.context,
            "kubeconfig" => &mut self.kubeconfig,
            _ => return,
        };
        *field = Some(value.to_owned());
    }
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

fn option_of<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut options = command.get_opts();
    options.find(|option| {
        let long = option.get_long().map(|long| format!("--{long}"));
        let short = option.get_short().map(|short| format!("-{short}"));
        long.as_deref() == Some(name) || short.as_deref() == Some(name)
    })
}

/// What the word after these may be.
fn asked(command: &Command, open: Option<&Arg>, positional: usize, begun: &str) -> Asked {
    if let Some(option) = open {
        return value_of(option, begun);
    }
    if begun.starts_with('-') {
        let options = command
            .get_arguments()
            .filter(|option| !option.is_positional());
        let options = options.filter_map(|option| {
            let long = format!("--{}", option.get_long()?);
            Some((long, option.get_help().map(ToString::to_string)))
        });
        return described(options, begun);
    }
    if command.has_subcommands() {
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let verbs = verbs.map(|verb| {
            let about = verb.get_about().map(ToString::to_string);
            (verb.get_name().to_owned(), about)
        });
        return described(verbs, begun);
    }
    match command.get_positionals().nth(positional) {
        Some(argument) => value_of(argument, begun),
        None => Asked::Words(Vec::new()),
    }
}

fn value_of(argument: &Arg, begun: &str) -> Asked {
    let values = argument.get_possible_values();
    if !values.is_empty() {
        let values = values.iter().map(|value| {
            let help = value.get_help().map(ToString::to_string);
            (value.get_name().to_owned(), help)
        });
        return described(values, begun);
    }
    match argument.get_id().as_str() {
        "name" if argument.is_positional() => Asked::Jobs,
        "namespace" => Asked::Namespaces,
        "context" => Asked::Contexts,
        _ => Asked::Files,
    }
}

fn described(words: impl Iterator<Item = (String, Option<String>)>, begun: &str) -> Asked {
    let words = words.filter(|(word, _)| word.starts_with(begun));
    let words = words.map(|(word, about)| match about {
        Some(about) => format!("{word}\t{}", about.lines().next().unwrap_or_default()),
        None => word,
    });
    Asked::Words(words.collect())
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::Arguments;

    fn line(words: &str) -> Line {
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        read_line(&Arguments::command(), &words)
    }

    fn offered(words: &str) -> Vec<String> {
        match line(words).asked {
            Asked::Words(words) => words
                .iter()
                .filter_map(|word| word.split('\t').next())
                .map(str::to_owned)
                .collect(),
            other @ (Asked::Jobs | Asked::Namespaces | Asked::Contexts | Asked::Files) => {
                vec![format!("{other:?}")]
            }
        }
    }

    #[test]
    fn verbs_options_and_values_are_offered() {
        assert_eq!(offered("sta"), ["status"]);
        assert!(!offered("").contains(&"__complete".to_owned()));
        assert_eq!(offered("status --out"), ["--output"]);
        assert_eq!(offered("status count -o j"), ["json"]);
        assert_eq!(offered("completion f"), ["fish"]);
    }

    #[test]
    fn names_of_jobs_namespaces_and_contexts_are_asked_for() {
        for (words, expected) in [
            ("status ", "Jobs"),
            ("-n team cancel co", "Jobs"),
            ("cancel --now ", "Jobs"),
            ("list -n ", "Namespaces"),
            ("--context ", "Contexts"),
            ("plan -f ", "Files"),
            ("run --name ", "Files"),
        ] {
            assert_eq!(offered(words), [expected], "{words:?}");
        }
        assert_eq!(offered("status count "), [] as [&str; 0]);
    }

    #[test]
    fn the_jobs_are_those_of_the_cluster_that_the_line_names() {
        let line = line("-n team status --context=test --kubeconfig k co");
        assert_eq!(line.namespace.as_deref(), Some("team"));
        assert_eq!(line.context.as_deref(), Some("test"));
        assert_eq!(line.kubeconfig.as_deref(), Some("k"));
        assert_eq!(line.begun, "co");
    }
}

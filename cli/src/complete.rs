//! `kubectl zephyr completion SHELL`: a script with which a shell completes the words of this
//! program. The script calls the hidden verb `__complete`, so it also knows the names of jobs. A
//! failure prints no words and no error, because a person is typing.

mod candidates;

use anyhow::Result;

use crate::terminal::print;
use candidates::{Asked, Line, read_line};

/// The largest number of names that are offered.
#[cfg(feature = "cluster")]
const MAX_NAMES: u32 = 500;

#[derive(Clone, Copy, clap::ValueEnum)]
enum Shell {
    /// For the program `kubectl-zephyr` in bash.
    Bash,
    /// For the program `kubectl-zephyr` in zsh.
    Zsh,
    /// For the program `kubectl-zephyr` in fish.
    Fish,
    /// For `kubectl zephyr` in every shell that completes kubectl: a program that kubectl calls.
    Kubectl,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The shell, or `kubectl`.
    shell: Shell,
}

#[derive(clap::Args)]
pub(crate) struct Words {
    /// The words after the name of the program; the last one is to be completed.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

const BASH: &str = r#"# kubectl-zephyr completion for bash: source <(kubectl-zephyr completion bash)
_kubectl_zephyr() {
  local words
  words=$(kubectl-zephyr __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | grep -v '^:' | cut -f1)
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _kubectl_zephyr kubectl-zephyr
"#;

const ZSH: &str = r#"#compdef kubectl-zephyr
# kubectl-zephyr completion for zsh: source <(kubectl-zephyr completion zsh)
_kubectl_zephyr() {
  local -a found
  found=(${(f)"$(kubectl-zephyr __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null | grep -v '^:' | cut -f1)"})
  if (( ${#found} )); then compadd -a found; else _files; fi
}
compdef _kubectl_zephyr kubectl-zephyr
"#;

const FISH: &str = r"# kubectl-zephyr completion for fish: kubectl-zephyr completion fish | source
function __kubectl_zephyr
    set -l before (commandline -opc)
    kubectl-zephyr __complete -- $before[2..-1] (commandline -ct) 2>/dev/null | grep -v '^:'
end
complete -c kubectl-zephyr -f -a '(__kubectl_zephyr)'
";

const KUBECTL: &str = r#"#!/bin/sh
# Write this to a program `kubectl_complete-zephyr` in your PATH: kubectl calls it to complete `kubectl zephyr`.
exec kubectl-zephyr __complete -- "$@"
"#;

/// Prints the script.
pub(crate) fn script(options: &Options) -> Result<()> {
    print(match options.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        Shell::Kubectl => KUBECTL,
    })?;
    Ok(())
}

/// Prints the words that may follow, one per line with its description. The last line says what the
/// shell may add: `:4` for nothing, `:0` for names of files. kubectl expects this format from the
/// programs that it calls.
pub(crate) async fn words(words: Words, command: &clap::Command) -> Result<()> {
    let line = read_line(command, &words.words);
    let is_file = line.asked == Asked::Files;
    let mut text = String::new();
    for word in offered(line).await {
        text.push_str(&word);
        text.push('\n');
    }
    text.push_str(if is_file { ":0" } else { ":4" });
    print(&text)?;
    Ok(())
}

#[cfg(not(feature = "cluster"))]
fn offered(line: Line) -> std::future::Ready<Vec<String>> {
    std::future::ready(match line.asked {
        Asked::Words(words) => words,
        Asked::Files | Asked::Jobs | Asked::Namespaces | Asked::Contexts => Vec::new(),
    })
}

#[cfg(feature = "cluster")]
async fn offered(line: Line) -> Vec<String> {
    let connection = crate::cluster::Connection {
        namespace: line.namespace,
        context: line.context,
        kubeconfig: line.kubeconfig.map(Into::into),
    };
    let names = match line.asked {
        Asked::Words(words) => return words,
        Asked::Files => return Vec::new(),
        Asked::Jobs => connection.job_names(MAX_NAMES).await,
        Asked::Namespaces => connection.namespaces(MAX_NAMES).await,
        Asked::Contexts => connection.contexts(),
    };
    let mut names = names.unwrap_or_default();
    names.retain(|name| name.starts_with(&line.begun));
    names
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Completes a line in a real bash, with a program that answers as `__complete` does.
    fn in_bash(line: &[&str], answer: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("kubectl-zephyr");
        std::fs::write(
            &program,
            format!("#!/bin/sh\necho \"$@\" >&2\nprintf '{answer}'\n"),
        )
        .expect("a program");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("a program");
        let count = line.len() - 1;
        let line: Vec<_> = line.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "{BASH}\nCOMP_WORDS=({}) COMP_CWORD={count}; _kubectl_zephyr; echo \"${{COMPREPLY[@]}}\"",
            line.join(" ")
        );
        let path = std::env::var("PATH").expect("a path");
        let path = format!("{}:{path}", folder.path().display());
        let output = Command::new("bash")
            .args(["-c", &script])
            .env("PATH", path)
            .output();
        String::from_utf8(output.expect("bash").stdout).expect("UTF-8")
    }

    #[test]
    fn bash_offers_the_words_that_begin_like_the_last_one() {
        let answer = "status\\tShow the state\\nsuspend\\tSuspend a job\\nlist\\tList\\n:4\\n";
        assert_eq!(
            in_bash(&["kubectl-zephyr", "s"], answer),
            "status suspend\n"
        );
        assert_eq!(
            in_bash(&["kubectl-zephyr", ""], answer),
            "status suspend list\n"
        );
        assert_eq!(in_bash(&["kubectl-zephyr", "status", "x"], ":0\\n"), "\n");
    }
}

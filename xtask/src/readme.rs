//! Finds the commands that README.md shows, so that the test command can run each of them.

/// Every line that starts with `cargo ` or `$ cargo ` in a block fenced as `sh` or `console`.
///
/// A fence with anything after the language (` ```sh skip `) hides its block. Comments end a command.
pub(crate) fn commands(markdown: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut runs = false;
    for line in markdown.lines() {
        let line = line.trim();
        if let Some(fence) = line.strip_prefix("```") {
            runs = matches!(fence.trim(), "sh" | "console");
            continue;
        }
        let command = line.strip_prefix("$ ").unwrap_or(line);
        if runs && command.starts_with("cargo ") {
            let command = command
                .split_once(" #")
                .map_or(command, |(before, _)| before);
            commands.push(command.trim_end().to_owned());
        }
    }
    commands
}

/// The words of a command, as a shell splits them: quotes hold words together, and nothing else is special.
pub(crate) fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in command.chars() {
        match (character, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_commands_from_shell_blocks_only() {
        let text = "cargo prose\n```sh\ncargo xtask demo   # two minutes\nls\n```\n```console\n$ cargo run\noutput\n```\n\
                    ```sh skip\ncargo xtask test\n```\n```rust\ncargo rust\n```\n";
        assert_eq!(commands(text), ["cargo xtask demo", "cargo run"]);
    }

    #[test]
    fn splits_like_a_shell() {
        assert_eq!(
            words("cargo x --prompt \"It is  a\" ''  y"),
            ["cargo", "x", "--prompt", "It is  a", "", "y"]
        );
    }
}

//! What stands on a page: its blocks of code, and the code within its sentences.

use std::fs;
use std::path::Path;

/// A page.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn read(path: &Path) -> Self {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, text: fs::read_to_string(path).unwrap() }
    }

    /// The blocks in this language, each with the number of its first line.
    pub(crate) fn blocks(&self, language: &str) -> Vec<(usize, String)> {
        let (mut found, mut inside) = (Vec::new(), None);
        for (number, line) in (1..).zip(self.text.lines()) {
            let Some(tag) = line.strip_prefix("```") else {
                if let Some((_, block)) = &mut inside {
                    *block += line;
                    *block += "\n";
                }
                continue;
            };
            match inside.take() {
                Some((tag, block)) => found.push((number, tag, block)),
                None => inside = Some((tag.to_owned(), String::new())),
            }
        }
        let wanted = found.into_iter().filter(|(_, tag, _)| tag == language);
        wanted.map(|(end, _, block)| (end - block.lines().count(), block)).collect()
    }
}

/// The commands of the blocks in these languages, in order, without their comments and prompts, each with its line.
pub(crate) fn blocks(page: &Page, languages: &[&str]) -> Vec<(usize, String)> {
    let mut found: Vec<_> = languages.iter().flat_map(|language| page.blocks(language)).collect();
    found.sort_unstable();
    let mut commands = Vec::new();
    for (first, block) in found {
        let mut begun: Option<(usize, String)> = None;
        for (number, line) in (first..).zip(block.lines()) {
            let line = line.split(" #").next().unwrap_or_default().trim();
            let line = line.strip_prefix("$ ").unwrap_or(line);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (number, words) = match begun.take() {
                Some((number, before)) => (number, format!("{before} {line}")),
                None => (number, line.to_owned()),
            };
            match words.strip_suffix('\\') {
                Some(open) => begun = Some((number, open.trim_end().to_owned())),
                None => commands.push((number, words)),
            }
        }
        assert!(begun.is_none(), "{}:{first}: a command without an end", page.name);
    }
    commands
}

/// The code within sentences, with its line. It may go on in the next one.
pub(crate) fn inline(page: &Page) -> Vec<(usize, String)> {
    let (mut outside, mut fenced) = (String::new(), false);
    for line in page.text.lines() {
        let fence = line.starts_with("```");
        fenced ^= fence;
        // A block is blank, so that the lines stay numbered.
        if !fenced && !fence {
            outside += line;
        }
        outside += "\n";
    }
    let mut found = Vec::new();
    for paragraph in split_paragraphs(&outside) {
        let mut line = paragraph.0;
        for (number, part) in paragraph.1.split('`').enumerate() {
            if number % 2 == 1 {
                found.push((line, part.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
            line += part.matches('\n').count();
        }
    }
    found
}

/// Paragraphs, each with its first line: a stray backquote spoils one of them at most.
fn split_paragraphs(text: &str) -> Vec<(usize, String)> {
    let mut found = vec![(1, String::new())];
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            found.push((number + 1, String::new()));
        } else if let Some((_, paragraph)) = found.last_mut() {
            *paragraph += line;
            *paragraph += "\n";
        }
    }
    found
}

#[test]
fn blocks_and_code_are_found() {
    let text = "a `b c` and `d\ne` f\n\n```sh\none # why\n# not this\n$ two \\\n  more | x\n```\n```toml\n`no`\n```\n`last`\n";
    let page = Page { name: "x".to_owned(), text: text.to_owned() };
    assert_eq!(blocks(&page, &["sh"]), [(5, "one".to_owned()), (7, "two more | x".to_owned())]);
    assert_eq!(page.blocks("toml"), [(11, "`no`\n".to_owned())]);
    let code = [(1, "b c"), (1, "d e"), (13, "last")].map(|(line, code)| (line, code.to_owned()));
    assert_eq!(inline(&page), code);
}

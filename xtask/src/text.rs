//! Reading source text: what is comment, what is code, which words are clause numbers.

/// One line of a source file, split.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// From 1.
    pub number: usize,
    pub code: &'a str,
    /// What follows `//`, with its slashes and exclamation mark; empty if there is none.
    pub comment: &'a str,
}

/// The lines of a Rust file. Block comments and strings over several lines are taken for code.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().enumerate().map(|(index, line)| {
        let at = comment_start(line).unwrap_or(line.len());
        Line { number: index + 1, code: &line[..at], comment: &line[at..] }
    })
}

/// Where `//` begins a comment: not inside a string, not inside a character.
fn comment_start(line: &str) -> Option<usize> {
    let bytes = line.as_bytes();
    let mut in_string = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' if !in_string && bytes[..at].ends_with(b"'") && bytes.get(at + 1) == Some(&b'\'') => at += 1,
            b'"' => in_string = !in_string,
            b'/' if !in_string && bytes.get(at + 1) == Some(&b'/') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// A run of comment lines, or a paragraph of a document.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    pub lines: Vec<(usize, &'a str)>,
}

impl Block<'_> {
    /// Whether any line contains `word`.
    pub fn says(&self, word: &str) -> bool {
        self.lines.iter().any(|(_, line)| line.contains(word))
    }
}

/// The comments of a Rust file; lines that follow each other make one block.
pub fn comment_blocks(text: &str) -> Vec<Block<'_>> {
    blocks(lines(text).map(|line| (line.number, line.comment)))
}

/// The paragraphs of a document.
pub fn paragraphs(text: &str) -> Vec<Block<'_>> {
    blocks(text.lines().enumerate().map(|(index, line)| (index + 1, line)))
}

fn blocks<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in lines {
        if line.trim().is_empty() {
            open = false;
        } else {
            match blocks.last_mut().filter(|_| open) {
                Some(block) => block.lines.push((number, line)),
                None => blocks.push(Block { lines: vec![(number, line)] }),
            }
            open = true;
        }
    }
    blocks
}

/// The words of `line` that look like clause numbers: a capital and one or two digits.
pub fn clause_numbers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| is_clause(word))
}

pub fn is_clause(word: &str) -> bool {
    let bytes = word.as_bytes();
    (2..=3).contains(&bytes.len())
        && bytes[0].is_ascii_uppercase()
        && bytes[1..].iter().all(u8::is_ascii_digit)
        && bytes[1] != b'0'
}

/// The clause numbers that `line` defines: in bold (`**W1**`, `**S1 exclusive**`), or an ordering pair's
/// (`ORDERING O1:`, `O2:` inside such a comment).
pub fn defined_clauses(line: &str) -> Vec<&str> {
    let mut defined: Vec<&str> = line
        .split("**")
        // Every second piece is bold; a sentence in bold that cites is no definition.
        .skip(1)
        .step_by(2)
        .filter_map(|bold| {
            let first = bold.split(' ').next().unwrap_or(bold);
            let word = first.trim_end_matches(['.', ',', ':']);
            is_clause(word).then_some(word)
        })
        .collect();
    for (at, _) in line.match_indices(':') {
        let word = line[..at].rsplit(' ').next().unwrap_or_default();
        if word.starts_with('O') && is_clause(word) {
            defined.push(word);
        }
    }
    defined
}

/// What is not test code: everything before the first module under `cfg(test)`.
pub fn without_tests(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut under_test = false;
    let mut over = false;
    lines(text).filter(move |line| {
        let code = line.code.trim_start();
        if code.starts_with("#[cfg(") {
            under_test = code.split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
                && !code.contains("not(test");
        } else if code.starts_with("mod ") || code.starts_with("pub(crate) mod ") {
            over |= under_test && code.ends_with('{');
            under_test = false;
        } else if !code.is_empty() && !code.starts_with("#[") {
            under_test = false;
        }
        !over
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_told_from_code() {
        let split = |line| {
            let line = lines(line).next().unwrap();
            (line.code.to_owned(), line.comment.to_owned())
        };
        assert_eq!(split("let a = 1; // W1"), ("let a = 1; ".into(), "// W1".into()));
        assert_eq!(split(r#"let a = "https://x"; // W1"#).1, "// W1");
        assert_eq!(split(r#"let a = "\"//"; "#).1, "");
        assert_eq!(split(r#"let a = '"'; // W1"#).1, "// W1");
    }

    #[test]
    fn numbers_are_told_from_words() {
        let numbers = |line| clause_numbers(line).collect::<Vec<_>>();
        assert_eq!(numbers("// SAFETY: C1, C2 of `x`; T1–T5, (W3)."), ["C1", "C2", "T1", "T5", "W3"]);
        assert!(numbers("// SHA256 x87 r12 U+41 A_1 P100K C0 Cx1").is_empty());
    }

    #[test]
    fn definitions_are_told_from_citations() {
        assert_eq!(defined_clauses("//! **W1** The owner; **W2.** Then (W1)."), ["W1", "W2"]);
        assert_eq!(defined_clauses("/// - **S1 exclusive**: as S2."), ["S1"]);
        assert_eq!(defined_clauses("// ORDERING O1: pairs. O2: Acquire."), ["O1", "O2"]);
        assert!(defined_clauses("// as W1 **and so** W2").is_empty());
    }

    #[test]
    fn blocks_end_at_code() {
        let blocks = comment_blocks("// a\n// b\nlet x = 1;\n// c\n");
        assert_eq!(blocks.iter().map(|block| block.lines.len()).collect::<Vec<_>>(), [2, 1]);
        assert!(blocks[0].says("b") && !blocks[1].says("b"));
        assert_eq!(paragraphs("a\nb\n\nc").len(), 2);
    }

    #[test]
    fn tests_are_left_out() {
        let text =
            "fn a() {}\n#[cfg(not(loom))]\nmod os {\n}\n#[cfg(all(test, loom))]\nmod models {\nfn b() {}\n";
        let numbers: Vec<_> = without_tests(text).map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        let declared = "#[cfg(test)]\nmod models;\nfn c() {}\n";
        assert_eq!(without_tests(declared).count(), 3);
    }
}

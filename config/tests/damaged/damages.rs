//! Everything that an accident or a slip makes of a manifest: each line, each value and each key of it, in each way.

/// A text after its damage.
pub(crate) struct Damaged {
    /// What was done to it.
    pub how: String,
    pub text: String,
    /// The first and last line of the text that it is about, counted from 0.
    pub lines: (usize, usize),
}

/// All single damages of a text.
pub(crate) fn all(text: &str) -> Vec<Damaged> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all = of_whole(text, lines.len());
    for (number, line) in lines.iter().enumerate() {
        all.extend(instead_of(line).into_iter().map(|(how, instead)| Damaged {
            how: format!("line {}: {how}", number + 1),
            text: joined(&lines[..number], &instead, &lines[number + 1..]),
            lines: (number, number),
        }));
    }
    all
}

fn joined(before: &[&str], instead: &[String], after: &[&str]) -> String {
    let instead = instead.iter().map(String::as_str);
    before.iter().copied().chain(instead).chain(after.iter().copied()).flat_map(|line| [line, "\n"]).collect()
}

fn of_whole(text: &str, lines: usize) -> Vec<Damaged> {
    let last = lines.saturating_sub(1);
    let of = |how: &str, text: String| Damaged { how: how.to_owned(), text, lines: (0, last) };
    let mut all = vec![
        of("CRLF", text.replace('\n', "\r\n")),
        of("CR", text.replace('\n', "\r")),
        of("a BOM", format!("\u{feff}{text}")),
        of("a BOM in each document", text.replace("---\n", "---\n\u{feff}")),
        of("tabs for two spaces", text.replace("  ", "\t")),
        of("a bracket too much", format!("{text}]\n")),
    ];
    // Cut at every fifth byte, which ends in all places of words, and at every line.
    let starts = |end: usize| text[..end].ends_with('\n') || end.is_multiple_of(5);
    for end in (0..text.len()).filter(|end| starts(*end)) {
        let first = text[..end].lines().count().saturating_sub(usize::from(!text[..end].ends_with('\n')));
        all.push(Damaged {
            how: format!("cut at byte {end}"),
            text: text[..end].to_owned(),
            lines: (first, last),
        });
    }
    all
}

/// What a line becomes, with what was done to it.
fn instead_of(line: &str) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |how: &str, lines: &[String]| all.push((how.to_owned(), lines.to_vec()));
    let (indent, content) = line.split_at(line.len() - line.trim_start().len());
    add("deleted", &[]);
    add("doubled", &[line.to_owned(), line.to_owned()]);
    for more in [1, 2] {
        add(&format!("{more} in"), &[format!("{}{line}", " ".repeat(more))]);
        if let Some(less) = line.strip_prefix(&" ".repeat(more)) {
            add(&format!("{more} out"), &[less.to_owned()]);
        }
    }
    add("a tab before it", &[format!("\t{line}")]);
    add("a tab for its indentation", &[format!("\t{content}")]);
    add("--- above it", &["---".to_owned(), line.to_owned()]);
    add("-- instead", &["--".to_owned()]);
    add("a bracket behind it", &[format!("{line} [")]);
    let dash = if content.starts_with("- ") { "- " } else { "" };
    let (key, value) = match content[dash.len()..].split_once(':') {
        Some((key, value)) => (Some(key), value.trim_start()),
        None => (None, &content[dash.len()..]),
    };
    let head = |key: &str| format!("{indent}{dash}{key}");
    if let Some(key) = key {
        let behind = &content[dash.len() + key.len()..];
        let capital = format!("{}{}", key[..1].to_uppercase(), &key[1..]);
        let others = [format!("x{key}"), format!("{key}s"), "foo".to_owned(), capital, key.to_uppercase()];
        for other in others.into_iter().chain([format!("\"{key}\""), format!("? {key}\n{indent}")]) {
            add(&format!("the key as {other:?}"), &[format!("{}{behind}", head(&other))]);
        }
    }
    if !value.is_empty() {
        let key = key.map_or_else(|| head(""), |key| format!("{}: ", head(key)));
        for (how, other) in values(value, indent) {
            add(how, &[format!("{key}{other}")]);
        }
    }
    all
}

fn values(value: &str, indent: &str) -> Vec<(&'static str, String)> {
    vec![
        ("a list", format!("[{value}]")),
        ("a list below", format!("\n{indent}  - {value}")),
        ("a mapping", format!("{{{value}: {value}}}")),
        ("a mapping to it", format!("{{a: {value}}}")),
        ("a mapping below", format!("\n{indent}    {value}: ~")),
        ("an empty list", "[]".to_owned()),
        ("an empty mapping", "{}".to_owned()),
        ("empty", String::new()),
        ("null", "~".to_owned()),
        ("a number", "7".to_owned()),
        ("a boolean", "true".to_owned()),
        ("an empty text", "\"\"".to_owned()),
        ("huge", "x".repeat(5000)),
        ("with spaces", format!("\" {value} \"")),
        ("with a tag", format!("!!str {value}")),
        ("with a tag of its own", format!("!thing {value}")),
        ("with an anchor", format!("&a {value}")),
        ("an alias of nothing", "*a".to_owned()),
        ("as a block", format!("|\n{indent}    {value}")),
        ("as a folded block", format!(">-\n{indent}    {value}")),
        ("below", format!("\n{indent}    {value}")),
        ("an open quote", format!("\"{value}")),
        ("an open list", format!("[{value}")),
        ("bytes", "!!binary YWJj".to_owned()),
    ]
}

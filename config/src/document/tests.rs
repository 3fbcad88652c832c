//! What reading promises: true positions, neighbours unharmed, bounded memory.

use super::*;

/// Every document of a file, in order; `Err` for those that could not be read.
fn read(bytes: &[u8], limits: &Limits) -> Vec<Result<Node, Defect>> {
    let parse = |part: Part<'_>| match part {
        Part::Document { lines_before, text } => parse(text, lines_before, limits),
        Part::Defect(defect) => Err(defect),
    };
    parts(bytes, limits).into_iter().map(parse).collect()
}

fn read_text(text: &str) -> Vec<Result<Node, Defect>> {
    read(text.as_bytes(), &Limits::default())
}

fn at(line: u32, column: u32) -> Position {
    Position { line, column }
}

#[test]
fn values_and_keys_know_where_they_were_written() {
    let documents = read_text("# one\na: 1\n---\nlist:\n  - x\n  - y: {z: true}\n");
    let second = documents[1].as_ref().unwrap();
    let entry = &second.entries()[0];
    assert_eq!((entry.at, entry.node.at), (at(4, 1), at(5, 3)));
    let item = &second.items_of("list")[1];
    assert_eq!(item.at, at(6, 5));
    assert_eq!(item.get("y").unwrap().at, at(6, 8));
    assert_eq!(item.at_path(&["y", "z"]).unwrap().bool(), Some(true));
}

#[test]
fn json_is_read_with_positions_too() {
    let documents = read_text("{\n\t\"a\": [1, \"two\\u00e9\"],\n\t\"b\": null\n}\n");
    let node = documents[0].as_ref().unwrap();
    assert_eq!(node.items_of("a")[1], Node { value: Value::Text("twoé".to_owned()), at: at(2, 11) });
    assert_eq!(node.get("b"), None);
}

#[test]
fn json_objects_one_after_the_other_are_refused_with_what_to_do() {
    for (text, line, column) in [
        ("{\"a\": 1}\n{\"b\": 2}\n", 2, 1),
        ("{\"a\": 1} {\"b\": 2}", 1, 10),
        ("c: 1\n---\n{\n\"a\": \"é\"}, 1", 0, 0),
        ("---\n{\n\"a\": \"é\"} [1]", 3, 11),
    ] {
        let documents = read_text(text);
        let defect = documents.last().unwrap().as_ref().unwrap_err();
        if line > 0 {
            assert!(defect.message.contains("put a line --- before it"), "{text:?}: {defect:?}");
            assert_eq!(defect.at, at(line, column), "{text:?}");
        } else {
            assert!(!defect.message.contains("---"), "{text:?}: {defect:?}");
        }
    }
}

#[test]
fn malformed_document_leaves_its_neighbours_readable() {
    let documents = read_text("a: 1\n---\nb: [1,\nc: ]}\n---\nd: 4\n");
    assert_eq!(documents.len(), 3);
    assert!(documents[0].is_ok() && documents[2].is_ok());
    let defect = documents[1].as_ref().unwrap_err();
    assert_eq!((defect.reason, defect.at.line), (Reason::Malformed, 4), "{defect:?}");
}

#[test]
fn text_that_is_not_utf8_is_refused_at_the_byte() {
    let documents = read(b"a: 1\nb: \xff\n", &Limits::default());
    let defect = documents[0].as_ref().unwrap_err();
    assert_eq!((defect.reason, defect.at), (Reason::Unreadable, at(2, 4)));
}

#[test]
fn aliases_that_multiply_are_refused_before_they_cost_memory() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", ")));
    }
    let documents = read_text(&text);
    let defect = documents[0].as_ref().unwrap_err();
    assert_eq!(defect.reason, Reason::TooLarge, "{defect:?}");
}

#[test]
fn nesting_files_and_documents_are_bounded() {
    let deep = "[".repeat(10_000);
    assert!(read_text(&deep)[0].is_err());
    let deep_blocks: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_eq!(read_text(&deep_blocks)[0].as_ref().unwrap_err().reason, Reason::TooLarge);
    let limits = Limits { file_bytes: 10, documents_per_file: 2, ..Limits::default() };
    assert_eq!(read(b"a: 12345678", &limits)[0].as_ref().unwrap_err().reason, Reason::TooLarge);
    let limits = Limits { documents_per_file: 2, ..Limits::default() };
    let documents = read(b"a: 1\n---\na: 2\n---\na: 3\n---\na: 4\n", &limits);
    assert_eq!(documents.len(), 3);
    assert_eq!(documents[2].as_ref().unwrap_err().at, at(4, 1));
}

#[test]
fn every_node_of_a_tree_has_the_path_that_its_author_would_write() {
    let documents = read_text("a: {b: [x, {c.d/e: {f: 1}}]}\ng/h: y\n");
    let root = documents[0].as_ref().unwrap();
    let paths = Paths::of(root);
    let list = root.at_path(&["a", "b"]).unwrap();
    let inner = list.items()[1].get("c.d/e").unwrap();
    let nodes = [
        root,
        root.get("a").unwrap(),
        list,
        &list.items()[0],
        inner,
        inner.get("f").unwrap(),
        root.get("g/h").unwrap(),
    ];
    let expected = ["", "a", "a.b", "a.b[0]", "a.b[1][c.d/e]", "a.b[1][c.d/e].f", "[g/h]"];
    assert_eq!(nodes.map(|node| paths.to(node)), expected);
    assert_eq!(paths.to(&root.clone()), "", "of another tree");
}
